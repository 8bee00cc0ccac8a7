package dagstore

import (
	"context"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"

	"github.com/filecoin-project/dagstore/index"
	"github.com/filecoin-project/dagstore/internal/cartest"
)

func TestNoResultIsSentOnceTheContextIsDone(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		r := newRig(t)
		out := make(chan ShardResult, 10)
		done, cancel := context.WithCancel(context.Background())
		cancel()
		require.NoError(t, r.ask(done, "a", out))
		synctest.Wait()
		require.Equal(t, ShardStateAvailable, r.state("a"), "taken on all the same")
		require.NoError(t, r.AcquireShard(done, key("a"), out, AcquireOpts{}))
		require.NoError(t, r.RecoverShard(done, key("a"), out, RecoverOpts{}))
		synctest.Wait()
		require.Equal(t, ShardStateAvailable, r.state("a"))
		require.NoError(t, r.DestroyShard(done, key("a"), out, DestroyOpts{}))
		synctest.Wait()
		r.gone("a")
		require.Empty(t, out)

		r.sources["b"].hold = make(chan struct{})
		ctx, cancel := context.WithCancel(context.Background())
		require.NoError(t, r.ask(ctx, "b", out))
		synctest.Wait()
		cancel()
		close(r.sources["b"].hold)
		synctest.Wait()
		require.Empty(t, out)
		require.Equal(t, ShardStateAvailable, r.state("b"))
	})
}

// Defects 10, 10b.
func TestDamagedFullIndexIsMadeAnew(t *testing.T) {
	for _, damage := range []func(b []byte) []byte{
		func(b []byte) []byte { return b[:len(b)/2] },
		func(b []byte) []byte { return nil },
		func(b []byte) []byte { return append(b[:len(b)/2:len(b)/2], make([]byte, len(b)-len(b)/2)...) },
		func(b []byte) []byte { b[len(b)/2] ^= 0x40; return b },
		func(b []byte) []byte { b[3] ^= 0xff; return b },
	} {
		inBubble(t, func(t *testing.T) {
			dir := t.TempDir()
			repo, err := index.NewFSRepo(dir)
			require.NoError(t, err)
			r := newRig(t, func(c *Config) { c.IndexRepo = repo })
			require.NoError(t, r.register("a"))
			require.NoError(t, r.Close())
			path := filepath.Join(dir, "a.full.idx")
			b, err := os.ReadFile(path)
			require.NoError(t, err)
			require.NoError(t, os.WriteFile(path, damage(b), 0o600))
			repo, err = index.NewFSRepo(dir)
			require.NoError(t, err)
			r.restart(func(c *Config) { c.IndexRepo = repo })
			a := r.mustAcquire("a")
			bs, err := a.Blockstore()
			require.NoError(t, err)
			for _, b := range blocksOf(0) {
				got, err := bs.Get(t.Context(), b.Cid)
				require.NoError(t, err)
				require.Equal(t, b.Data, got.RawData())
			}
			require.NoError(t, a.Close())
			require.Equal(t, 1, r.sources["a"].fetched())
		})
	}
}

func TestFailedDownloadLeavesNoFile(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		r := newRig(t)
		r.sources["a"].hold = make(chan struct{})
		require.NoError(t, r.ask(t.Context(), "a", nil))
		synctest.Wait()
		require.NoError(t, r.destroy("a"))
		r.sources["b"].data = []byte("not a car")
		require.Error(t, r.register("b"))
		collect(t, r)
		require.Empty(t, r.transients())
	})
}

// A copy that was downloaded before, by other tools, is a transient like any other.
func TestTransientThatLiesAtItsPlaceIsAdopted(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		r := newRig(t)
		path := filepath.Join(r.config.TransientsDir, "transient-a.complete")
		require.NoError(t, os.WriteFile(path, r.sources["a"].data, 0o600))
		require.NoError(t, r.register("a", RegisterOpts{ExistingTransient: path}))
		r.use("a")
		require.Zero(t, r.sources["a"].fetched())
		r.restart()
		r.use("a")
		require.Zero(t, r.sources["a"].fetched())
		require.NoError(t, r.destroy("a"))
		r.gone("a")
	})
}

// A file that an earlier shard of this key left must not become the new one's data.
func TestTransientOfOtherDataIsNotServed(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		r := newRig(t)
		path := filepath.Join(r.config.TransientsDir, "transient-a.complete")
		stale := cartest.V1(nil, blocksOf(8)) // of the same size
		require.Len(t, stale, len(r.sources["a"].data))
		require.NoError(t, os.WriteFile(path, stale[:100], 0o600))
		require.NoError(t, r.register("a"))
		r.use("a")
		require.Equal(t, 1, r.sources["a"].fetched())
	})
}

func TestManyShardsComeThroughARestart(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		r := newRig(t)
		r.sources["a"].remote = false
		keys := []string{"a/b", "a//b", "a/../b", "a b", "a\x00b", "a\xff", "a%2f", "a.", "a:b"}
		for _, k := range keys {
			require.NoError(t, r.register(k), "%q", k)
		}
		for range 2 {
			require.Len(t, r.AllShardsInfo(), len(keys))
			for _, k := range keys {
				r.use(k)
			}
			r.restart()
		}
		for _, k := range keys {
			require.NoError(t, r.destroy(k))
		}
		r.restart()
		require.Empty(t, r.AllShardsInfo())
	})
}

// A crash is the records of one instant beside the files of that instant.
func TestShardDestroyedHalfwayIsDestroyedAtStart(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		r := newRig(t)
		require.NoError(t, r.register("a"))
		require.NoError(t, r.Close())
		r.plant("a", ShardStateUnknown, false, "")
		r.restart()
		r.gone("a")
		require.NoError(t, r.register("a"))
		r.use("a")
	})
}
