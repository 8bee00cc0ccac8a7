package dagstore

import (
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/filecoin-project/dagstore/internal/cartest"
)

// reuseKey has the key a stand for other data, and returns a block of before and one
// of now.
func (r *rig) reuseKey() (before, now cartest.Block) {
	r.t.Helper()
	require.NoError(r.t, r.destroy("a"))
	r.sources["a"].data = r.sources["b"].data
	require.NoError(r.t, r.register("a"))
	return blocksOf(0)[0], blocksOf(1)[0]
}

func (r *rig) requireNewEntries(before, now cartest.Block) {
	r.t.Helper()
	time.Sleep(time.Minute)
	synctest.Wait()
	require.Equal(r.t, "[a]", r.shardsWith(now))
	require.Equal(r.t, "[]", r.shardsWith(before))
	require.True(r.t, r.topLevel.shards.isWhole())
}

func TestIndexThatWasPutBackFromACopyIsBroughtUpToDate(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		r := newRig(t, inFolder(t), inTopLevelDir(t))
		require.NoError(t, r.register("a"))
		require.NoError(t, r.register("c"))
		require.NoError(t, r.Close())
		backup := t.TempDir()
		require.NoError(t, os.CopyFS(backup, os.DirFS(r.config.TopLevelDir)))
		r.renew()
		require.NoError(t, r.Start(t.Context()))
		before, now := r.reuseKey()
		require.NoError(t, r.Close())
		require.NoError(t, os.RemoveAll(r.config.TopLevelDir))
		require.NoError(t, os.CopyFS(r.config.TopLevelDir, os.DirFS(backup)))
		r.renew()
		require.NoError(t, r.Start(t.Context()))
		r.requireNewEntries(before, now)
		require.Equal(t, "[c]", r.shardsWith(blocksOf(2)[0]))
	})
}

func TestIndexThatWasLeftOutForARunIsBroughtUpToDate(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		r := newRig(t, inFolder(t), inTopLevelDir(t))
		require.NoError(t, r.register("a"))
		dir := r.config.TopLevelDir
		r.restart(func(c *Config) { c.TopLevelDir = "" })
		before, now := r.reuseKey()
		r.restart(func(c *Config) { c.TopLevelDir = dir })
		r.requireNewEntries(before, now)
	})
}

func TestIndexThatIsUpToDateIsNotWritten(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		r := newRig(t, inFolder(t), inTopLevelDir(t))
		for _, k := range []string{"a", "b", "c"} {
			require.NoError(t, r.register(k))
		}
		journals := func() (sizes []int64) {
			paths, err := filepath.Glob(filepath.Join(r.config.TopLevelDir, "*", "journal-*"))
			require.NoError(t, err)
			for _, path := range paths {
				info, err := os.Stat(path)
				require.NoError(t, err)
				sizes = append(sizes, info.Size())
			}
			return sizes
		}
		r.restart()
		before := journals()
		time.Sleep(time.Hour)
		require.Equal(t, before, journals())
	})
}

func TestCloseDoesNotWaitForTheAudit(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		r := newRig(t, inFolder(t), inTopLevelDir(t))
		require.NoError(t, r.register("a"))
		r.restart()
		synctest.Wait()
		begin := time.Now()
		require.NoError(t, r.Close())
		require.Zero(t, time.Since(begin))
	})
}
