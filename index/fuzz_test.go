package index

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/filecoin-project/dagstore/internal/keyname"
	"github.com/filecoin-project/dagstore/shard"
)

// Any bytes in a manifest's file: they are that manifest, or damage.
func FuzzManifestFile(f *testing.F) {
	k := ManifestKey{Shard: shard.KeyFromString("k"), Name: "n"}
	r, _ := newFS(f)
	require.NoError(f, r.AddManifest(Manifest{Key: k, Multihashes: nil}))
	for _, names := range [][]string{nil, {"a"}, {"a", "b", "a"}} {
		m := Manifest{Key: k}
		for _, n := range names {
			m.Multihashes = append(m.Multihashes, mhOf(f, n))
		}
		require.NoError(f, r.AddManifest(m))
		whole, err := os.ReadFile(r.manifestPath(k))
		require.NoError(f, err)
		f.Add(whole)
	}
	f.Add([]byte(`{"version":1,"shard":"aw==","name":"bg==","multihashes":[null,""]}`))

	f.Fuzz(func(t *testing.T, b []byte) {
		require.NoError(t, os.WriteFile(r.manifestPath(k), b, 0o600))
		m, err := r.GetManifest(k)
		if err != nil {
			require.ErrorIs(t, err, ErrDamaged)
			return
		}
		require.Equal(t, k, m.Key)
		require.LessOrEqual(t, len(m.Multihashes), len(b))
		require.NoError(t, r.AddManifest(m), "what is read can be written")
	})
}

// Any file in the folder, whatever its name and content: it is the index of the
// shard whose file has that name, or of none.
func FuzzForeignFile(f *testing.F) {
	long := shard.KeyFromString(strings.Repeat("long/", 100))
	var file bytes.Buffer
	s := newSumWriter(&file)
	_, err := s.Write(bytesOf(f, smallIndex(f, "a")))
	require.NoError(f, err)
	require.NoError(f, s.writeTrailer(long))
	whole := file.Bytes()
	f.Add("k", bytesOf(f, smallIndex(f, "a")))
	f.Add("%a%2Fb", []byte{})
	f.Add("%a%2fb", []byte("torn"))
	f.Add(keyname.File(long.String()), whole)
	f.Add(keyname.File(long.String()), whole[1:])
	f.Add(keyname.File(long.String()+"x"), whole)

	f.Fuzz(func(t *testing.T, name string, b []byte) {
		r, dir := newFS(t)
		path := filepath.Join(dir, name+indexSuffix)
		if filepath.Dir(path) != dir || filepath.Base(path) != name+indexSuffix || os.WriteFile(path, b, 0o600) != nil {
			t.Skip("no name of a file")
		}
		var keys []shard.Key
		require.NoError(t, r.ForEach(func(key shard.Key) (bool, error) {
			keys = append(keys, key)
			return true, nil
		}))
		n, err := r.Len()
		require.NoError(t, err)
		require.Len(t, keys, n)
		for _, key := range keys {
			require.Equal(t, path, r.path(key))
			s, err := r.StatFullIndex(key)
			require.NoError(t, err)
			require.Equal(t, Stat{Exists: true, Size: uint64(len(b))}, s)
			if _, err := r.GetFullIndex(key); err != nil && !errors.Is(err, ErrDamaged) {
				require.NoError(t, err)
			}
		}
		require.FileExists(t, path, "nothing removes it")
	})
}
