package dagstore

import (
	"context"
	"os"
	"path/filepath"
	"runtime"
	"testing"
	"testing/synctest"

	ds "github.com/ipfs/go-datastore"
	dssync "github.com/ipfs/go-datastore/sync"
	carindex "github.com/ipld/go-car/v2/index"
	"github.com/stretchr/testify/require"

	"github.com/filecoin-project/dagstore/mount"
	"github.com/filecoin-project/dagstore/shard"
)

func TestRecordedShardOutlivesRequestsMadeForItsKeyBeforeStart(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		r := newRig(t)
		require.NoError(t, r.register("a"))
		require.NoError(t, r.Close())
		r.renew()

		registered, acquired := make(chan ShardResult, 1), make(chan ShardResult, 1)
		other := &fakeMount{id: "b", sources: r.sources}
		require.NoError(t, r.RegisterShard(context.Background(), key("a"), other, registered, RegisterOpts{}))
		require.NoError(t, r.AcquireShard(context.Background(), key("a"), acquired, AcquireOpts{}))
		require.NoError(t, r.Start(t.Context()))
		require.ErrorIs(t, resultOn(registered).Error, ErrShardExists)
		res := resultOn(acquired)
		require.NoError(t, res.Error)
		require.NoError(t, res.Accessor.Close())
		synctest.Wait()
		r.use("a") // its own data, not that of the other mount
		r.restart()
		r.use("a")
	})
}

func TestCloseDoesNotWaitForUserCodeThatEndedItsGoroutine(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		exit := true
		r := newRig(t, func(c *Config) {
			c.ShardIndexer = func(ctx context.Context, k shard.Key, rd mount.Reader) (carindex.Index, error) {
				if exit {
					runtime.Goexit()
				}
				return indexSections(ctx, k, rd)
			}
		})
		require.ErrorIs(t, r.register("a"), errEnded)
		exit = false
		require.NoError(t, r.recover("a"))
		r.use("a")
		require.NoError(t, r.Close())
	})
}

func TestLazyShardThatIsBeingIndexedAgainIsFindableAfterACrash(t *testing.T) {
	l, rd, err := step(lifecycle{state: ShardStateAvailable, lazy: true}, event{kind: evIndexLost})
	require.NoError(t, err)
	require.True(t, rd.save)
	require.False(t, l.lazy, "the next start would wait for an acquirer")
}

func TestUsersCopyIsUsedAgainWhenItIsBack(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		r := newRig(t)
		given := filepath.Join(t.TempDir(), "mine.car")
		require.NoError(t, os.WriteFile(given, r.sources["a"].data, 0o600))
		require.NoError(t, r.register("a", RegisterOpts{ExistingTransient: given}))
		away := given + ".away"
		require.NoError(t, os.Rename(given, away))
		r.sources["a"].err = errBoom
		_, err := r.acquire("a")
		require.ErrorIs(t, err, errBoom)
		require.NoError(t, os.Rename(away, given))
		r.restart()
		require.NoError(t, r.recover("a"))
		r.use("a")
		require.Zero(t, r.transients())
	})
}

func TestCopyWhosePathTheRecordWouldMangleIsRefused(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		r := newRig(t)
		path := filepath.Join(t.TempDir(), "\xff.car")
		require.NoError(t, os.WriteFile(path, r.sources["a"].data, 0o600))
		require.ErrorContains(t, r.register("a", RegisterOpts{ExistingTransient: path}), "UTF-8")
		require.ErrorIs(t, r.register("a", RegisterOpts{ExistingTransient: path + ".gone"}), os.ErrNotExist)
		require.NoError(t, r.register("a"))
	})
}

// half is a datastore that fails between writing and forgetting a record.
type half struct {
	ds.Batching
	broken bool
	armed  bool
}

func (h *half) Sync(ctx context.Context, k ds.Key) error {
	if h.armed {
		h.armed, h.broken = false, true
		return errBoom
	}
	return h.Batching.Sync(ctx, k)
}

func (h *half) Batch(ctx context.Context) (ds.Batch, error) {
	if h.broken {
		return nil, errBoom
	}
	return h.Batching.Batch(ctx)
}

func TestRefusedRegistrationDoesNotComeBackAfterARestart(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		disk := &half{Batching: dssync.MutexWrap(ds.NewMapDatastore()), armed: true}
		r := newRig(t, func(c *Config) { c.Datastore = disk })
		require.ErrorIs(t, r.register("a"), errBoom)
		disk.broken = false
		require.NoError(t, r.register("b"))
		r.restart()
		require.Equal(t, ShardStateUnknown, r.state("a"))
		r.use("b")
		require.NoError(t, r.register("a"))
		r.restart()
		r.use("a")
	})
}
