package dagstore

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/multiformats/go-multihash"
	"github.com/stretchr/testify/require"

	"github.com/filecoin-project/dagstore/index"
	"github.com/filecoin-project/dagstore/internal/cartest"
)

// inTopLevelDir has the store keep its own top-level index in a folder.
func inTopLevelDir(t *testing.T) func(*Config) {
	dir := t.TempDir()
	return func(c *Config) { c.TopLevelIndex, c.TopLevelDir = nil, dir }
}

func TestOwnTopLevelIndexOutlivesARestart(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		r := newRig(t, inFolder(t), inTopLevelDir(t))
		require.NoError(t, r.register("a"))
		require.NoError(t, r.register("b"))
		require.NoError(t, r.destroy("b"))
		_, err := NewDAGStore(r.config)
		require.ErrorContains(t, err, "in use")
		r.restart()
		require.Equal(t, "[a]", r.shardsWith(blocksOf(0)[1]))
		require.Equal(t, "[]", r.shardsWith(blocksOf(1)[1]))
		all, err := r.ShardsContainingMultihashes(t.Context(), []multihash.Multihash{
			blocksOf(1)[0].Cid.Hash(), blocksOf(0)[0].Cid.Hash(),
		})
		require.NoError(t, err)
		require.Nil(t, all[0])
		require.Equal(t, key("a"), all[1][0])
		require.NoError(t, r.Close())
		_, err = r.ShardsContainingMultihash(t.Context(), blocksOf(0)[1].Cid.Hash())
		require.ErrorIs(t, err, os.ErrClosed)
	})
}

// harmFiles flips a bit in each file of the top-level index whose name begins with
// a prefix.
func harmFiles(t *testing.T, dir, prefix string) {
	t.Helper()
	harmed := 0
	require.NoError(t, filepath.WalkDir(dir, func(path string, e os.DirEntry, err error) error {
		if err != nil || e.IsDir() || !strings.HasPrefix(e.Name(), prefix) {
			return err
		}
		b := readFile(t, path)
		b[len(b)/3] ^= 0x10
		harmed++
		return os.WriteFile(path, b, 0o600)
	}))
	require.NotZero(t, harmed)
}

func TestDamagedTopLevelIndexIsMadeAnewAndHidesNoBlock(t *testing.T) {
	for _, prefix := range []string{"journal-", "CURRENT", "GENERATION"} {
		t.Run(prefix, func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				r := newRig(t, inFolder(t), inTopLevelDir(t))
				require.NoError(t, r.register("a"))
				require.NoError(t, r.register("b"))
				require.NoError(t, r.Close())
				harmFiles(t, r.config.TopLevelDir, prefix)
				r.renew()
				require.NoError(t, r.Start(t.Context()))
				require.Equal(t, "[a]", r.shardsWith(blocksOf(0)[1]), "at once")
				synctest.Wait()
				require.Empty(t, r.topLevel.shards.lacks())
				require.Equal(t, "[b]", r.shardsWith(blocksOf(1)[1]))
				require.Equal(t, 1, r.sources["a"].fetched())
			})
		})
	}
}

// What was intact when the store began may rot while it runs.
func TestTopLevelIndexThatRotsIsMadeAnewBesideServing(t *testing.T) {
	blocks := cartest.Blocks(20_000, 4, 3) // so many that they are in a layer of their own
	inBubble(t, func(t *testing.T) {
		r := newRig(t, inFolder(t), inTopLevelDir(t))
		r.sources["a"].data = cartest.V1(nil, blocks)
		require.NoError(t, r.register("a"))
		require.NoError(t, r.register("b"))
		require.NoError(t, r.Close())
		layers, err := filepath.Glob(filepath.Join(r.config.TopLevelDir, "*", "layer-*"))
		require.NoError(t, err)
		require.Len(t, layers, 1)
		b := readFile(t, layers[0])
		for at := 100; at < 20_000*20; at += 4096 {
			b[at] ^= 1 // in each page
		}
		require.NoError(t, os.WriteFile(layers[0], b, 0o600))
		r.renew()
		require.NoError(t, r.Start(t.Context()))
		synctest.Wait()
		for _, b := range blocks[:50] {
			require.Equal(t, "[a]", r.shardsWith(b))
		}
		require.Equal(t, "[b]", r.shardsWith(blocksOf(1)[0]))
		synctest.Wait()
		require.Empty(t, r.topLevel.shards.lacks())
		require.NoError(t, r.topLevel.own.Verify(t.Context()))
		require.Equal(t, "[a]", r.shardsWith(blocks[77]))
	})
}

// Defect 22f, and a backup of the index that is older than the shards.
func TestShardsThatTheTopLevelIndexLacksAreFoundAtOnce(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		r := newRig(t, inFolder(t), inTopLevelDir(t))
		require.NoError(t, r.register("a"))
		require.NoError(t, r.register("b"))
		require.NoError(t, r.Close())
		older, err := index.OpenFSInverted(t.Context(), r.config.TopLevelDir, index.FSInvertedOptions{})
		require.NoError(t, err)
		require.NoError(t, older.RemoveShard(t.Context(), key("a"), nil))
		require.NoError(t, older.Close())
		r.renew()
		require.NoError(t, r.Start(t.Context()))
		require.Equal(t, "[a]", r.shardsWith(blocksOf(0)[1]))
		all, err := r.ShardsContainingMultihashes(t.Context(), []multihash.Multihash{blocksOf(0)[0].Cid.Hash()})
		require.NoError(t, err)
		require.Equal(t, key("a"), all[0][0])
		synctest.Wait()
		require.Empty(t, r.topLevel.shards.lacks())
		require.Equal(t, "[a]", r.shardsWith(blocksOf(0)[1]))
	})
}
