package blockview

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"github.com/ipfs/go-cid"
	"github.com/multiformats/go-multihash"
	"github.com/stretchr/testify/require"

	"github.com/filecoin-project/dagstore/internal/carfile"
	"github.com/filecoin-project/dagstore/internal/cartest"
)

// Whatever the CAR and the index are, mapped data gives what data gives that is
// read: the block whose section is where the index points, or an error.
func FuzzAnyIndexOfAnyData(f *testing.F) {
	v1 := cartest.V1(nil, append(cartest.Blocks(2, 10, 1), cartest.V0([]byte("zero")), cartest.Identity([]byte("inline"))))
	f.Add(v1, uint64(len(cartest.Header(1, cartest.Blocks(1, 10, 1)[0].Cid))), true)
	f.Add(v1, uint64(len(v1)-20), false)
	f.Add(cartest.Padded(v1, 20), uint64(len(v1)), true)
	f.Add(cartest.V2(v1, cartest.V2Options{DataPadding: 3}), uint64(107), true)
	f.Add(v1[:len(v1)-3], uint64(1<<63), false)
	folder := f.TempDir()
	f.Fuzz(func(t *testing.T, car []byte, offset uint64, verify bool) {
		path := filepath.Join(folder, "car")
		require.NoError(t, os.WriteFile(path, car, 0o600))
		inMapping, _ := openPath(t, path)
		require.NoError(t, inMapping.Map())
		read := unmapped(t, path)
		payload, err := carfile.Find(read, read.Size())
		if err != nil {
			_, err := New(inMapping, list{}, nil)
			require.Error(t, err)
			return
		}
		c, want := cartest.Raw(nil).Cid, []byte(nil)
		var head carfile.Head
		section, err := carfile.SectionAt(read, payload, offset, &head)
		if err == nil {
			_, c, err = cid.CidFromBytes(section.Cid)
			require.NoError(t, err)
			want = car[payload.Offset+section.DataOffset:][:section.DataSize]
		}
		x, err := New(inMapping, list{entries: []entry{{offset: offset}}}, nil)
		require.NoError(t, err)
		y, err := New(read, list{entries: []entry{{offset: offset}}}, nil)
		require.NoError(t, err)
		x.HashOnRead(verify)
		y.HashOnRead(verify)
		got, err := x.Get(t.Context(), c)
		same, sameErr := y.Get(t.Context(), c)
		if err != nil {
			require.EqualError(t, sameErr, err.Error())
			return
		}
		require.NoError(t, sameErr)
		require.True(t, bytes.Equal(got.RawData(), same.RawData()))
		if want != nil && c.Prefix().MhType != multihash.IDENTITY {
			require.True(t, bytes.Equal(want, got.RawData()))
		}
	})
}
