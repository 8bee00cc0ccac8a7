package inverted

import (
	"crypto/sha256"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/multiformats/go-multihash"
	"github.com/stretchr/testify/require"
)

// golden is described in the README.md beside it.
var golden = filepath.Join("..", "..", "testdata", "toplevel-v1", "index")

// goldenOdd is the key of a shard with odd multihashes.
const goldenOdd = "odd/../\xff\x00"

// goldenShards are the shards of the golden index in their order, each with how many
// multihashes of its own it has.
var goldenShards = []struct {
	key string
	own int
}{
	{"large", 420}, {"merged", 39}, {"merged too", 44}, {"gathered", 6}, {"gathered too", 5},
	{goldenOdd, 0}, {"small", 3}, {"empty", 0}, {"last", 2},
}

// copyOfGolden returns a folder that is one's own.
func copyOfGolden(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	require.NoError(t, os.CopyFS(dir, os.DirFS(golden)))
	return dir
}

// textMultihash returns the sha2-256 multihash of a text.
func textMultihash(t *testing.T, text string) []byte {
	t.Helper()
	mh, err := multihash.Sum([]byte(text), multihash.SHA2_256, -1)
	require.NoError(t, err)
	return mh
}

func requireGolden(t *testing.T, x *Index) {
	t.Helper()
	var all, common []string
	for _, s := range goldenShards {
		all = append(all, s.key)
		for i := range s.own {
			requireShards(t, x, textMultihash(t, fmt.Sprintf("%s %d", s.key, i)), s.key)
		}
		requireShards(t, x, textMultihash(t, fmt.Sprintf("%s %d", s.key, s.own)))
		if s.key != "empty" {
			common = append(common, s.key)
		}
	}
	requireShards(t, x, textMultihash(t, "common"), common...)
	requireShards(t, x, textMultihash(t, "later"), "large")
	digest := sha256.Sum256([]byte("common"))
	requireShards(t, x, []byte("\x00\x05hello"), goldenOdd)
	requireShards(t, x, []byte{multihash.SHA2_256, 0}, goldenOdd)
	requireShards(t, x, append([]byte{multihash.SHA3_256, 32}, digest[:]...), goldenOdd)
	for i := range 9 {
		requireShards(t, x, textMultihash(t, fmt.Sprintf("dead %d", i)))
		requireShards(t, x, textMultihash(t, fmt.Sprintf("small and dead %d", i)))
	}
	shards, err := x.Shards()
	require.NoError(t, err)
	require.Equal(t, all, shards)
	require.NoError(t, x.Verify(t.Context()))
}

func TestAnIndexOfVersion1IsReadForEver(t *testing.T) {
	dir := copyOfGolden(t)
	x := mustOpenReader(t, dir, Options{})
	requireGolden(t, x)
	require.NoError(t, x.Close())
	before, err := os.ReadDir(golden)
	require.NoError(t, err)
	after, err := os.ReadDir(dir)
	require.NoError(t, err)
	require.Len(t, after, len(before))
	for _, e := range before {
		want, err := os.ReadFile(filepath.Join(golden, e.Name()))
		require.NoError(t, err)
		got, err := os.ReadFile(filepath.Join(dir, e.Name()))
		require.NoError(t, err)
		require.Equal(t, want, got, "a reader changes nothing in %s", e.Name())
	}
}

func TestAnIndexOfVersion1IsWrittenForEver(t *testing.T) {
	for name, o := range map[string]Options{"as always": {}, "merging all": {sizes: tiny}} {
		t.Run(name, func(t *testing.T) {
			dir := copyOfGolden(t)
			x := mustOpen(t, dir, o)
			requireGolden(t, x)
			mustAdd(t, x, "new", span(0, 500))
			mustAdd(t, x, "newer", span(0, 5))
			require.NoError(t, x.Remove(t.Context(), "new"))
			mustWait(t, x)
			require.NoError(t, x.Close())
			x = mustOpen(t, dir, o)
			requireShards(t, x, multihashOf(0), "newer")
			require.NoError(t, x.Remove(t.Context(), "newer"))
			requireGolden(t, x)
			mustWait(t, x)
			requireNoLeaks(t, x, dir)
		})
	}
}
