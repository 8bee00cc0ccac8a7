package index_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	ds "github.com/ipfs/go-datastore"
	"github.com/multiformats/go-multihash"
	"github.com/stretchr/testify/require"

	"github.com/filecoin-project/dagstore/index"
	"github.com/filecoin-project/dagstore/shard"
)

// golden is described in its README.md.
var golden = filepath.Join("..", "testdata", "toplevel-v1")

// texts are the sha2-256 multihashes of texts.
type texts []string

func (ts texts) ForEach(f func(multihash.Multihash) error) error {
	for _, text := range ts {
		mh, err := multihash.Sum([]byte(text), multihash.SHA2_256, -1)
		if err = errors.Join(err, f(mh)); err != nil {
			return err
		}
	}
	return nil
}

// requireHolders requires that these shards hold the multihash of a text, in this
// order.
func requireHolders(t *testing.T, x *index.FSInverted, text string, want ...string) {
	t.Helper()
	require.NoError(t, texts{text}.ForEach(func(mh multihash.Multihash) error {
		keys, err := x.GetShardsForMultihash(t.Context(), mh)
		if len(want) == 0 {
			require.ErrorIs(t, err, ds.ErrNotFound, text)
			return nil
		}
		require.NoError(t, err)
		require.Equal(t, fmt.Sprint(want), fmt.Sprint(keys), text)
		return nil
	}))
}

func requireGolden(t *testing.T, x *index.FSInverted) {
	t.Helper()
	keys, err := x.Shards(t.Context())
	require.NoError(t, err)
	require.Equal(t, "[second first odd/../]", fmt.Sprint(keys))
	for _, key := range keys {
		requireHolders(t, x, key.String()+" 0", key.String())
		requireHolders(t, x, key.String()+" 1", key.String())
		requireHolders(t, x, key.String()+" 2")
	}
	requireHolders(t, x, "common", "second", "first", "odd/../")
	requireHolders(t, x, "later", "first")
	for _, text := range []string{"before", "removed 0", "removed 1"} {
		requireHolders(t, x, text)
	}
	require.NoError(t, x.Verify(t.Context()))
}

// copyOf returns a copy of a folder.
func copyOf(t *testing.T, dir string) string {
	t.Helper()
	to := t.TempDir()
	require.NoError(t, os.CopyFS(to, os.DirFS(dir)))
	return to
}

func openGolden(t *testing.T, dir string, o index.FSInvertedOptions) *index.FSInverted {
	t.Helper()
	x, err := index.OpenFSInverted(t.Context(), dir, o)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, x.Close()) })
	return x
}

func TestAFolderOfVersion1OpensForEver(t *testing.T) {
	for name, o := range map[string]index.FSInvertedOptions{"to write": {}, "to read": {ReadOnly: true}} {
		t.Run(name, func(t *testing.T) {
			requireGolden(t, openGolden(t, copyOf(t, filepath.Join(golden, "folder")), o))
		})
	}
}

func TestAFolderOfVersion1IsWrittenForEver(t *testing.T) {
	dir := copyOf(t, filepath.Join(golden, "folder"))
	x := openGolden(t, dir, index.FSInvertedOptions{})
	key := shard.KeyFromString("new")
	require.NoError(t, x.AddMultihashesForShard(t.Context(), texts{"new 0", "common"}, key))
	require.NoError(t, x.Close())
	x = openGolden(t, dir, index.FSInvertedOptions{})
	requireHolders(t, x, "common", "second", "first", "odd/../", "new")
	require.NoError(t, x.RemoveShard(t.Context(), key, nil))
	requireGolden(t, x)
}

func TestAGenerationOfVersion1OpensForEver(t *testing.T) {
	long := strings.Repeat("k", 200)
	for name, common := range map[string][]string{
		"index":    {"large", "merged", "merged too", "gathered", "gathered too", "odd/../\xff\x00", "small", "last"},
		"replaced": {"one", "two", "gathered", "gathered too", "small", long, "later", "layered"},
	} {
		for mode, o := range map[string]index.FSInvertedOptions{"to write": {}, "to read": {ReadOnly: true}} {
			t.Run(name+" "+mode, func(t *testing.T) {
				dir := copyOf(t, filepath.Join(golden, "folder"))
				generation := filepath.Join(dir, "generation-2")
				require.NoError(t, os.RemoveAll(generation))
				require.NoError(t, os.CopyFS(generation, os.DirFS(filepath.Join(golden, name))))
				x := openGolden(t, dir, o)
				requireHolders(t, x, "common", common...)
				requireHolders(t, x, "gathered 0", "gathered")
				requireHolders(t, x, "dead 0")
				require.NoError(t, x.Verify(t.Context()))
			})
		}
	}
}
