package dagstore

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	ds "github.com/ipfs/go-datastore"
	carindex "github.com/ipld/go-car/v2/index"
	mh "github.com/multiformats/go-multihash"
	"github.com/stretchr/testify/require"

	"github.com/filecoin-project/dagstore/index"
	"github.com/filecoin-project/dagstore/internal/cartest"
	"github.com/filecoin-project/dagstore/mount"
	"github.com/filecoin-project/dagstore/shard"
)

// blocksInALayer are so many that they get a layer of their own.
func blocksInALayer(i int) []cartest.Block { return cartest.Blocks(9000, 4, uint64(i+1000)) }

// newDamagedRig returns a store with the shards a, b and c, whose top-level index has
// met damage while it was merging: it takes no changes any more.
func newDamagedRig(t *testing.T) *rig {
	t.Helper()
	r := newRig(t, inFolder(t), inTopLevelDir(t))
	for i, k := range []string{"a", "b", "c"} {
		r.sources[k].data = cartest.V1(nil, blocksInALayer(i))
	}
	require.NoError(t, r.register("a"))
	require.NoError(t, r.register("b"))
	require.NoError(t, r.Close())
	layers, err := filepath.Glob(filepath.Join(r.config.TopLevelDir, "*", "layer-*"))
	require.NoError(t, err)
	require.NotEmpty(t, layers) // merged by now or not
	for _, path := range layers {
		b := readFile(t, path)
		for at := 100; at < 9000*20; at += 4096 {
			b[at] ^= 1 // in each page
		}
		require.NoError(t, os.WriteFile(path, b, 0o600))
	}
	r.renew()
	require.NoError(t, r.Start(t.Context()))
	require.NoError(t, r.register("c")) // its layer is to be merged with the others
	time.Sleep(time.Second)             // merging rests now and then
	require.ErrorIs(t, r.topLevel.own.RemoveShard(t.Context(), key("nobody"), nil), index.ErrDamaged)
	return r
}

// inIndex returns the shards that the top-level index itself has, when it has become
// whole.
func (r *rig) inIndex() string {
	r.t.Helper()
	time.Sleep(2 * longestPause)
	require.True(r.t, r.topLevel.shards.isWhole())
	require.NoError(r.t, r.topLevel.own.Verify(r.t.Context()))
	keys, err := r.topLevel.own.Shards(r.t.Context())
	require.NoError(r.t, err)
	names := map[string]bool{}
	for _, k := range keys {
		names[k.String()] = true
	}
	return fmt.Sprint(names)
}

func TestShardIsRegisteredAlthoughTheTopLevelIndexIsDamaged(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		r := newDamagedRig(t)
		require.NoError(t, r.register("d"))
		require.Equal(t, ShardStateAvailable, r.state("d"))
		require.Equal(t, "[d]", r.shardsWith(blocksOf(3)[0]), "at once")
		require.Equal(t, "map[a:true b:true c:true d:true]", r.inIndex())
		require.Equal(t, "[d]", r.shardsWith(blocksOf(3)[0]))
		require.Equal(t, "[b]", r.shardsWith(blocksInALayer(1)[8999]))
		r.restart()
		require.Equal(t, "[d]", r.shardsWith(blocksOf(3)[0]))
		require.Equal(t, 1, r.sources["d"].fetched())
	})
}

func TestShardIsDestroyedAlthoughTheTopLevelIndexIsDamaged(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		r := newDamagedRig(t)
		require.NoError(t, r.destroy("a"))
		require.Equal(t, "[]", r.shardsWith(blocksInALayer(0)[5]), "at once")
		require.Equal(t, "map[b:true c:true]", r.inIndex())
		require.Equal(t, "[]", r.shardsWith(blocksInALayer(0)[5]))
		require.Equal(t, "[b]", r.shardsWith(blocksInALayer(1)[5]))
	})
}

func TestShardIsIndexedAnewAlthoughTheTopLevelIndexIsDamaged(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		r := newDamagedRig(t)
		r.indexLost("b")
		require.Equal(t, ShardStateAvailable, r.state("b"))
		require.Equal(t, "[b]", r.shardsWith(blocksInALayer(1)[5]), "at once")
		require.Equal(t, "map[a:true b:true c:true]", r.inIndex())
	})
}

// indexLost has the full index of a shard made anew.
func (r *rig) indexLost(k string) {
	r.t.Helper()
	mustShard(r.t, r, k).indexLost(index.ErrDamaged)
	synctest.Wait()
}

// spoil has the store believe that its own top-level index is damaged.
func (r *rig) spoil() {
	r.t.Helper()
	require.NoError(r.t, r.topLevel.unlessDamaged(r.topLevel.shards.now.Load(), index.ErrDamaged))
}

// A heldIndex is a full index of a user that cannot be read before hold is closed.
type heldIndex struct {
	carindex.IterableIndex
	hold chan struct{}
}

func (h heldIndex) wrapped() carindex.Index { return h.IterableIndex }

func (h heldIndex) ForEach(f func(mh.Multihash, uint64) error) error {
	<-h.hold
	return h.IterableIndex.ForEach(f)
}

// indexedBy has full indices made by a user, and kept without being read.
func indexedBy(wrap func(carindex.IterableIndex) carindex.Index) func(*Config) {
	return func(c *Config) {
		c.ShardIndexer = func(ctx context.Context, k shard.Key, r mount.Reader) (carindex.Index, error) {
			idx, err := indexSections(ctx, k, r)
			return wrap(idx.(carindex.IterableIndex)), err
		}
		c.IndexRepo = unwrapping{index.NewMemoryRepo()}
	}
}

// unwrapping keeps what these indices wrap.
type unwrapping struct{ index.FullIndexRepo }

func (r unwrapping) AddFullIndex(k shard.Key, idx carindex.Index) error {
	return r.FullIndexRepo.AddFullIndex(k, idx.(interface{ wrapped() carindex.Index }).wrapped())
}

// Between being added to the damaged index and being found in the new one, a shard must
// not be forgotten: it may be in neither the store's list of indexed shards nor the index.
func TestShardThatIsBeingAddedWhenTheTopLevelIndexIsMadeAnewIsInIt(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		hold := make(chan struct{})
		r := newRig(t, inTopLevelDir(t), indexedBy(func(idx carindex.IterableIndex) carindex.Index { return heldIndex{idx, hold} }))
		out := make(chan ShardResult, 1)
		require.NoError(t, r.ask(t.Context(), "a", out))
		synctest.Wait()
		require.Equal(t, ShardStateInitializing, r.state("a"), "it is being added")
		r.spoil()
		synctest.Wait()
		close(hold)
		require.NoError(t, resultOn(out).Error)
		require.Equal(t, "[a]", r.shardsWith(blocksOf(0)[1]), "at once")
		require.Equal(t, "map[a:true]", r.inIndex())
		require.Equal(t, "[a]", r.shardsWith(blocksOf(0)[1]))
	})
}

func TestShardWhoseRecordIsBeingWrittenWhenTheTopLevelIndexIsMadeAnewIsInIt(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		commits := make(chan struct{})
		r := newRig(t, inFolder(t), inTopLevelDir(t), func(c *Config) {
			c.Datastore = &stoppedDisk{c.Datastore.(ds.Batching), commits}
		})
		out := make(chan ShardResult, 1)
		require.NoError(t, r.ask(t.Context(), "a", out))
		<-commits // that it is registered
		synctest.Wait()
		require.Equal(t, ShardStateInitializing, r.state("a"), "it is added, and this is to be recorded")
		r.spoil()
		require.NoError(t, r.topLevel.own.Reset(t.Context()))
		r.topLevel.shards.renewed() // as the loop would, if it were not waiting for the disk
		<-commits
		require.NoError(t, resultOn(out).Error)
		require.Equal(t, "[a]", r.shardsWith(blocksOf(0)[1]), "at once")
		require.Equal(t, "map[a:true]", r.inIndex())
	})
}

func TestChangeOfATopLevelIndexThatIsGoneIsMadeAgain(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		r := newRig(t, inFolder(t), inTopLevelDir(t))
		for _, isMember := range []bool{true, false} {
			calls := 0
			require.NoError(t, r.topLevel.alter(key("a"), isMember, func(s *standing) error {
				if calls++; calls == 1 {
					r.topLevel.shards.spoil(s)
					r.topLevel.shards.renewed()
				}
				return nil
			}))
			require.Equal(t, 2, calls)
		}
	})
}

// A stoppedDisk begins a batch when somebody takes from commits.
type stoppedDisk struct {
	ds.Batching
	commits chan struct{}
}

func (s *stoppedDisk) Batch(ctx context.Context) (ds.Batch, error) {
	s.commits <- struct{}{}
	return s.Batching.Batch(ctx)
}

func TestShardDestroyedWhileTheTopLevelIndexIsMadeAnewIsNotInIt(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		r := newRig(t, inFolder(t), inTopLevelDir(t))
		unblock := r.blockReset()
		require.NoError(t, r.register("a"))
		require.NoError(t, r.register("b"))
		r.spoil()
		require.NoError(t, r.destroy("a"))
		require.NoError(t, r.destroy("b"))
		require.NoError(t, r.register("b"))
		require.Equal(t, "[]", r.shardsWith(blocksOf(0)[1]))
		require.Equal(t, "[b]", r.shardsWith(blocksOf(1)[1]))
		unblock()
		require.Equal(t, "map[b:true]", r.inIndex())
	})
}

// blockReset has the making of a new top-level index fail, until unblock is called.
func (r *rig) blockReset() (unblock func()) {
	r.t.Helper()
	path := filepath.Join(r.config.TopLevelDir, "GENERATION")
	require.NoError(r.t, os.Remove(path))
	require.NoError(r.t, os.MkdirAll(filepath.Join(path, "in the way"), 0o700))
	return func() { require.NoError(r.t, os.RemoveAll(path)) }
}

func TestTopLevelIndexThatCannotBeMadeAnewIsTriedAgain(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		r := newRig(t, inFolder(t), inTopLevelDir(t))
		require.NoError(t, r.register("a"))
		unblock := r.blockReset()
		r.spoil()
		time.Sleep(mendPause - time.Second)
		require.NoError(t, r.register("b"))
		require.Equal(t, "[a]", r.shardsWith(blocksOf(0)[1]))
		require.Equal(t, "[b]", r.shardsWith(blocksOf(1)[1]))
		unblock()
		require.False(t, r.topLevel.shards.isWhole(), "not yet")
		time.Sleep(time.Second)
		synctest.Wait()
		require.True(t, r.topLevel.shards.isWhole())
		require.Equal(t, "map[a:true b:true]", r.inIndex())
	})
}

// Who repairs a disk after a day must not wait for long, and a day must not fill the
// log.
func TestMakingTheTopLevelIndexAnewIsTriedSeldomButNotForgotten(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		r := newRig(t, inFolder(t), inTopLevelDir(t))
		require.NoError(t, r.register("a"))
		unblock := r.blockReset()
		r.spoil() // tried now, after 1, 3, 7, 15, 31 and 63 minutes, and then each hour
		time.Sleep(64*time.Minute + 22*time.Hour)
		unblock()
		time.Sleep(58 * time.Minute)
		synctest.Wait()
		require.False(t, r.topLevel.shards.isWhole())
		time.Sleep(time.Minute)
		synctest.Wait()
		require.True(t, r.topLevel.shards.isWhole())
	})
}

func TestTopLevelIndexThatIsDamagedOverAndOverIsNotMadeAnewAllTheTime(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		r := newRig(t, inFolder(t), inTopLevelDir(t))
		require.NoError(t, r.register("a"))
		begin, times := r.topLevel.shards.now.Load().era, 0
		for range 3600 {
			r.spoil()
			require.Equal(t, "[a]", r.shardsWith(blocksOf(0)[1]))
			time.Sleep(time.Second)
		}
		times = (r.topLevel.shards.now.Load().era - begin) / 2
		require.Greater(t, times, 30)
		require.LessOrEqual(t, times, 61)
		require.Equal(t, "map[a:true]", r.inIndex())
	})
}

func TestCloseDoesNotWaitForTheNextTry(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		r := newRig(t, inFolder(t), inTopLevelDir(t))
		require.NoError(t, r.register("a"))
		r.blockReset()
		r.spoil()
		synctest.Wait()
		begin := time.Now()
		require.NoError(t, r.Close())
		require.Zero(t, time.Since(begin))
	})
}

// The full index may be what is damaged.
func TestDamageOfAFullIndexIsNotTakenForThatOfTheTopLevelIndex(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		var n atomic.Int32
		r := newRig(t, inTopLevelDir(t), indexedBy(func(idx carindex.IterableIndex) carindex.Index { return unreadableIndex{idx, &n} }))
		require.ErrorIs(t, r.register("a"), index.ErrDamaged)
		require.NotZero(t, n.Load())
		require.False(t, r.topLevel.shards.now.Load().damaged)
	})
}

type unreadableIndex struct {
	carindex.IterableIndex
	n *atomic.Int32
}

func (u unreadableIndex) wrapped() carindex.Index { return u.IterableIndex }

func (u unreadableIndex) ForEach(func(mh.Multihash, uint64) error) error {
	u.n.Add(1)
	return fmt.Errorf("bad sector: %w: %w", index.ErrDamaged, io.ErrUnexpectedEOF)
}
