package dagstore

import (
	"bytes"
	"context"
	"fmt"
	"io/fs"
	"sync"
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
	"github.com/filecoin-project/dagstore/internal/indexer"
	"github.com/filecoin-project/dagstore/shard"
)

// A serviceInverted is the index of a service that tells which shards it holds, and
// adds nothing as long as it refuses.
type serviceInverted struct {
	*index.FSInverted
	refuses atomic.Bool
	hold    chan struct{} // adding waits until it is closed; nil if not
	before  func()        // an answer is looked up; nil if nothing is to happen
	after   func()        // it was looked up, and is given
	asked   atomic.Int32  // for one multihash
	batches atomic.Int32
	fed     atomic.Pointer[index.MultihashIterator] // the last that it was given
}

// errRefused says nothing about full indices, although that of a missing one looks so.
var errRefused = fmt.Errorf("the database is away: %w", fs.ErrNotExist)

func newService(t *testing.T) *serviceInverted {
	s := &serviceInverted{FSInverted: index.NewMemoryInverted()}
	t.Cleanup(func() { require.NoError(t, s.Close()) })
	return s
}

func (s *serviceInverted) AddMultihashesForShard(ctx context.Context, it index.MultihashIterator, k shard.Key) error {
	s.fed.Store(&it)
	if s.refuses.Load() {
		return errRefused
	}
	if s.hold != nil {
		<-s.hold
	}
	return s.FSInverted.AddMultihashesForShard(ctx, it, k)
}

func (s *serviceInverted) GetShardsForMultihash(ctx context.Context, h mh.Multihash) ([]shard.Key, error) {
	s.asked.Add(1)
	if s.before != nil {
		s.before()
	}
	found, err := s.FSInverted.GetShardsForMultihash(ctx, h)
	if s.after != nil {
		s.after()
	}
	return found, err
}

func (s *serviceInverted) GetShardsForMultihashes(ctx context.Context, hs []mh.Multihash) ([][]shard.Key, error) {
	s.batches.Add(1)
	return s.FSInverted.GetShardsForMultihashes(ctx, hs)
}

// newLackingRig returns a store with the shards a to e, of which the index of a service
// lacks all but a, which it will not take before it is told. The repository counts, and
// is wrapped.
func newLackingRig(t *testing.T, wraps ...func(index.FullIndexRepo) index.FullIndexRepo) (*rig, *serviceInverted, *countingRepo) {
	t.Helper()
	r := newRig(t, inFolder(t))
	r.sources["e"].data = r.sources["b"].data
	for _, k := range []string{"e", "d", "a", "c", "b"} {
		require.NoError(t, r.register(k))
	}
	require.NoError(t, r.Close())
	service := newService(t)
	idx, err := r.config.IndexRepo.GetFullIndex(key("a"))
	require.NoError(t, err)
	mhs := &fullMultihashes{index: idx.(carindex.IterableIndex)}
	require.NoError(t, service.AddMultihashesForShard(t.Context(), mhs, key("a")))
	idx.(index.Releaser).Release()
	service.refuses.Store(true)
	r.config.TopLevelIndex = service
	r.renew()
	repo := &countingRepo{FullIndexRepo: r.indices}
	r.indices = repo
	for _, wrap := range wraps {
		r.indices = wrap(r.indices)
	}
	require.NoError(t, r.Start(t.Context()))
	synctest.Wait()
	repo.opened.Store(0)
	repo.released.Store(0)
	return r, service, repo
}

func hashesOf(sources ...int) (hs []mh.Multihash) {
	for _, i := range sources {
		hs = append(hs, blocksOf(i)[2].Cid.Hash())
	}
	return hs
}

func TestShardsThatCouldNotBeAddedAtStartAreTriedAgainAndFoundMeanwhile(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		r, service, _ := newLackingRig(t)
		require.Len(t, r.topLevel.shards.lacks(), 4)
		require.Equal(t, "[b e]", r.shardsWith(blocksOf(1)[2]))
		service.refuses.Store(false)
		time.Sleep(mendPause)
		synctest.Wait()
		require.True(t, r.topLevel.shards.isWhole())
		require.Equal(t, 1, r.sources["c"].fetched(), "it was not indexed anew")
		keys, err := service.FSInverted.GetShardsForMultihash(t.Context(), hashesOf(1)[0])
		require.NoError(t, err)
		require.Equal(t, []shard.Key{key("b"), key("e")}, keys)
	})
}

func TestBatchAsksTheIndexOnceAlsoWhenItLacksShards(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		r, service, repo := newLackingRig(t)
		all, err := r.ShardsContainingMultihashes(t.Context(), append(hashesOf(0, 1, 2, 3), mh.Multihash("none")))
		require.NoError(t, err)
		require.Equal(t, "[[a] [b e] [c] [d] []]", fmt.Sprint(all))
		require.EqualValues(t, 1, service.batches.Load())
		require.Zero(t, service.asked.Load())
		require.EqualValues(t, 4, repo.opened.Load())
	})
}

func TestAnswersNameTheShardsOfTheIndexFirstAndThenThoseThatItLacksByKey(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		r, service, _ := newLackingRig(t)
		idx, err := r.GetIterableIndex(key("b"))
		require.NoError(t, err)
		service.refuses.Store(false)
		mhs := &fullMultihashes{index: idx}
		require.NoError(t, service.AddMultihashesForShard(t.Context(), mhs, key("d")))
		require.NoError(t, service.AddMultihashesForShard(t.Context(), mhs, key("a")))
		require.Equal(t, "[a d b e]", r.shardsWith(blocksOf(1)[2]), "a was added first to this index")
	})
}

func TestBlocksOfAShardThatIsIndexedAnewAreFoundAllTheTime(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		service := newService(t)
		r := newRig(t, inFolder(t), func(c *Config) { c.TopLevelIndex = service })
		require.NoError(t, r.register("a"))
		service.hold = make(chan struct{})
		r.indexLost("a")
		keys, err := service.Shards(t.Context())
		require.NoError(t, err)
		require.Empty(t, keys, "it was taken out, and is being added")
		require.Equal(t, "[a]", r.shardsWith(blocksOf(0)[2]))
		close(service.hold)
		synctest.Wait()
		require.True(t, r.topLevel.shards.isWhole())
		require.Equal(t, "[a]", r.shardsWith(blocksOf(0)[2]))
	})
}

func TestShardThatIsAddedDuringALookUpIsFoundByIt(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		r, service, _ := newLackingRig(t)
		service.after = func() {
			service.refuses.Store(false)
			time.Sleep(mendPause)
			synctest.Wait()
			require.True(t, r.topLevel.shards.isWhole())
		}
		require.Equal(t, "[c]", r.shardsWith(blocksOf(2)[2]))
		require.EqualValues(t, 1, service.asked.Load())
	})
}

func TestShardThatIsIndexedAnewDuringALookUpIsFoundByIt(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		service := newService(t)
		r := newRig(t, inFolder(t), func(c *Config) { c.TopLevelIndex = service })
		require.NoError(t, r.register("a"))
		service.hold = make(chan struct{})
		defer close(service.hold)
		service.before = func() {
			service.before = nil
			r.indexLost("a")
		}
		require.Equal(t, "[a]", r.shardsWith(blocksOf(0)[2]), "after it was taken out, and before it was added")
		require.EqualValues(t, 2, service.asked.Load())
	})
}

func TestShardWhoseFullIndexIsLostWhileItIsLackingIsIndexedAnew(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		r, service, _ := newLackingRig(t)
		_, err := r.folder.DropFullIndex(key("c"))
		require.NoError(t, err)
		service.refuses.Store(false)
		time.Sleep(mendPause)
		synctest.Wait()
		require.True(t, r.topLevel.shards.isWhole())
		require.Equal(t, "[c]", r.shardsWith(blocksOf(2)[2]))
		require.Equal(t, ShardStateAvailable, r.state("c"))
	})
}

func TestLookUpsDoNotAskForAFullIndexThatIsMissing(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		r, _, repo := newLackingRig(t)
		_, err := r.folder.DropFullIndex(key("c"))
		require.NoError(t, err)
		r.sources["c"].err = errBoom
		require.NoError(t, mustShard(t, r, "c").mount.DeleteTransient())
		time.Sleep(mendPause)
		synctest.Wait()
		require.Equal(t, ShardStateErrored, r.state("c"))
		before := repo.calls.Load()
		require.Equal(t, "[d]", r.shardsWith(blocksOf(3)[2]))
		require.EqualValues(t, 3, repo.calls.Load()-before)
	})
}

// A round that finds the same damage each time would never be the last.
func TestFailedShardWhoseFullIndexIsDamagedDoesNotKeepTheIndexFromBecomingWhole(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		broken := &brokenRepo{key: key("c"), err: index.ErrDamaged}
		r, service, _ := newLackingRig(t, func(repo index.FullIndexRepo) index.FullIndexRepo {
			broken.FullIndexRepo = repo
			return broken
		})
		require.Equal(t, ShardStateErrored, r.state("c"))
		require.Len(t, r.topLevel.shards.lacks(), 4)
		service.refuses.Store(false)
		time.Sleep(mendPause)
		synctest.Wait()
		require.True(t, r.topLevel.shards.isWhole())
		broken.isSane.Store(true)
		require.NoError(t, r.recover("c"))
		require.Equal(t, "[c]", r.shardsWith(blocksOf(2)[2]))
	})
}

// lookUntil looks blocks of the shards a to d up, in bursts, and tells what it misses.
func (r *rig) lookUntil(stop <-chan struct{}) {
	hs := hashesOf(0, 1, 2, 3)
	for {
		select {
		case <-stop:
			return
		case <-time.After(10 * time.Second): // when the store goes on with something, too
		}
		for i := range 20 {
			all, err := r.ShardsContainingMultihashes(context.Background(), hs)
			if err != nil || fmt.Sprint(all) != "[[a] [b] [c] [d]]" {
				r.t.Errorf("batch: %v, %v", all, err)
			}
			keys, err := r.ShardsContainingMultihash(context.Background(), hs[i%4])
			if err != nil || len(keys) != 1 {
				r.t.Errorf("look-up: %v, %v", keys, err)
			}
		}
	}
}

// All that can happen to a top-level index happens beside look-ups.
func TestNoLookUpMissesABlockWhileShardsComeAndGoAndTheIndexIsMadeAnew(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		r := newRig(t, inFolder(t), inTopLevelDir(t))
		repo := &countingRepo{FullIndexRepo: r.indices}
		r.indices = repo
		for _, k := range []string{"a", "b", "c", "d"} {
			require.NoError(t, r.register(k))
		}
		stop := make(chan struct{})
		var lookUps sync.WaitGroup
		for range 3 {
			lookUps.Go(func() { r.lookUntil(stop) })
		}
		for i := range 60 {
			out := make(chan ShardResult, 2)
			switch i % 3 {
			case 0:
				r.spoil()
			case 1:
				mustShard(t, r, "abcd"[i%4:i%4+1]).indexLost(index.ErrDamaged)
			case 2:
				require.NoError(t, r.ask(t.Context(), "e", out))
				require.NoError(t, (<-out).Error)
				require.NoError(t, r.DestroyShard(t.Context(), key("e"), out, DestroyOpts{}))
				require.NoError(t, (<-out).Error)
			}
			time.Sleep(10 * time.Second)
		}
		close(stop)
		lookUps.Wait()
		require.Equal(t, "map[a:true b:true c:true d:true]", r.inIndex())
		require.Zero(t, repo.open())
		require.Zero(t, repo.misused.Load())
	})
}

func TestIndexOfAServiceIsFedRecordsExactlyIfTheFullIndexHasThem(t *testing.T) {
	for name, tweak := range map[string]func(*Config){
		"from our folder": inFolder(t),
		"from a user's": indexedBy(func(idx carindex.IterableIndex) carindex.Index {
			hold := make(chan struct{})
			close(hold)
			return heldIndex{idx, hold}
		}),
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				service := newService(t)
				r := newRig(t, tweak, func(c *Config) { c.TopLevelIndex = service })
				require.NoError(t, r.register("a"))
				records, ok := (*service.fed.Load()).(index.RecordIterator)
				require.Equal(t, name == "from our folder", ok)
				if !ok {
					return
				}
				n := 0
				require.NoError(t, records.ForEachRecord(func(uint64, []byte, uint64) error { n++; return nil }))
				require.Equal(t, 4, n)
				require.ErrorIs(t, records.ForEachRecord(func(uint64, []byte, uint64) error { return ds.ErrNotFound }), ds.ErrNotFound)
			})
		})
	}
}

func TestFeedingTheTopLevelIndexDoesNotAllocateForEachMultihash(t *testing.T) {
	repo, err := index.NewFSRepo(t.TempDir())
	require.NoError(t, err)
	car := cartest.V1(nil, manyBlocks())
	made, err := indexer.Memory(t.Context(), bytes.NewReader(car), int64(len(car)))
	require.NoError(t, err)
	require.NoError(t, repo.AddFullIndex(key("a"), made.CarIndex()))
	idx, err := repo.GetFullIndex(key("a"))
	require.NoError(t, err)
	top := index.NewMemoryInverted()
	defer func() { require.NoError(t, top.Close()) }()
	n := testing.AllocsPerRun(5, func() {
		mhs := &fullMultihashes{index: idx.(carindex.IterableIndex)}
		require.NoError(t, top.AddMultihashesForShard(t.Context(), mhs.iterator(), key("a")))
	})
	require.Less(t, n, float64(len(manyBlocks()))/4)
}
