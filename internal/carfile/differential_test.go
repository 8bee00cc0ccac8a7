package carfile_test

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	car "github.com/ipld/go-car/v2"
	carindex "github.com/ipld/go-car/v2/index"
	"github.com/multiformats/go-multihash"
	"github.com/stretchr/testify/require"

	"github.com/filecoin-project/dagstore/internal/carfile"
	"github.com/filecoin-project/dagstore/internal/cartest"
)

// entries returns the multihashes and offsets of an index, sorted.
func entries(t testing.TB, idx carindex.Index) (all []string) {
	t.Helper()
	list, ok := idx.(carindex.IterableIndex)
	require.True(t, ok)
	require.NoError(t, list.ForEach(func(mh multihash.Multihash, offset uint64) error {
		all = append(all, fmt.Sprintf("%x at %d", []byte(mh), offset))
		return nil
	}))
	slices.Sort(all)
	return all
}

// requireGoCarAgrees checks that go-car finds the same in a file that is
// accepted, and tells whether it is.
func requireGoCarAgrees(t testing.TB, file []byte) bool {
	t.Helper()
	got, err := index(file)
	if err != nil {
		return false
	}
	p, err := carfile.Locate(bytes.NewReader(file), int64(len(file)))
	require.NoError(t, err)
	payload := file[p.Offset:][:p.Size]
	want, err := car.GenerateIndex(bytes.NewReader(payload), car.ZeroLengthSectionAsEOF(true), car.StoreIdentityCIDs(true))
	require.NoError(t, err, "accepted, but go-car refuses %x", file)
	require.Equal(t, entries(t, want), entries(t, got), "%x", file)
	return true
}

// mutated returns a copy of file with some bytes changed, cut out or repeated.
func mutated(r *rand.Rand, file []byte) []byte {
	file = slices.Clone(file)
	for range 1 + r.IntN(3) {
		if len(file) == 0 {
			break
		}
		at := r.IntN(len(file))
		to := min(len(file), at+1+r.IntN(8))
		switch r.IntN(5) {
		case 0:
			file[at] ^= 1 << r.IntN(8)
		case 1:
			file[at] = byte(r.Uint32())
		case 2:
			file = slices.Delete(file, at, to)
		case 3:
			file = slices.Insert(file, at, slices.Clone(file[at:to])...)
		case 4:
			file = file[:at]
		}
	}
	return file
}

// TestDamagedCarIsRefusedOrReadAsGoCarReadsIt: what v0.7 indexed right keeps its
// blocks, and nothing is found that is not there.
func TestDamagedCarIsRefusedOrReadAsGoCarReadsIt(t *testing.T) {
	v1 := cartest.V1(nil, mixed(12, 20, 1))
	copies := cartest.V1(nil, slices.Concat(mixed(4, 10, 2), mixed(4, 10, 2)))
	small := []cartest.Block{{Cid: cartest.Cid(1, nil)}, {Cid: cartest.Cid(0x7f, []byte{1})}, cartest.Identity(nil)}
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	accepted, tried := 0, 0
	for _, whole := range [][]byte{
		v1, copies, cartest.Padded(v1, 9), cartest.V1(nil, slices.Concat(small, small, small)),
		cartest.V2(v1, cartest.V2Options{DataPadding: 7, Index: []byte("not read")}),
	} {
		require.True(t, requireGoCarAgrees(t, whole))
		for range 600 {
			tried++
			if requireGoCarAgrees(t, mutated(r, whole)) {
				accepted++
			}
		}
	}
	t.Logf("accepted %d of %d", accepted, tried)
	require.Greater(t, accepted, tried/20)
	require.Less(t, accepted, tried)
}

func FuzzGoCarAgrees(f *testing.F) {
	v1 := cartest.V1(nil, mixed(6, 20, 1))
	f.Add(v1)
	f.Add(padded(cartest.Padded(v1, 3), 7))
	f.Fuzz(func(t *testing.T, file []byte) { requireGoCarAgrees(t, file) })
}

func FuzzSectionAt(f *testing.F) {
	v1 := cartest.V1(nil, mixed(6, 20, 1))
	f.Add(v1, int64(0), int64(len(v1)), int64(10), uint64(60))
	f.Add(v1, int64(7), int64(30), int64(0), uint64(1<<63))
	f.Fuzz(func(t *testing.T, file []byte, start, size, header int64, offset uint64) {
		p := carfile.Payload{Offset: start, Size: size, Header: header}
		s, err := carfile.SectionAt(bytes.NewReader(file), p, offset)
		if err != nil {
			var e *carfile.Error
			require.True(t, errors.As(err, &e) || start < 0, "%v", err)
			return
		}
		require.Equal(t, offset, uint64(s.Offset))
		require.GreaterOrEqual(t, s.DataSize, int64(0))
		require.Greater(t, s.DataOffset, s.Offset)
		require.LessOrEqual(t, s.DataOffset, size-s.DataSize)
		require.LessOrEqual(t, s.Cid.ByteLen(), carfile.MaxCid)
	})
}
