package dagstore

import (
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ipfs/go-cid"
	carindex "github.com/ipld/go-car/v2/index"
	"github.com/stretchr/testify/require"

	"github.com/filecoin-project/dagstore/index"
	"github.com/filecoin-project/dagstore/shard"
)

// A countingRepo counts the indices that it gave, and finds out if they are used after
// they were released.
type countingRepo struct {
	index.FullIndexRepo
	calls, opened, released, misused atomic.Int64
}

func (r *countingRepo) GetFullIndex(k shard.Key) (carindex.Index, error) {
	r.calls.Add(1)
	idx, err := r.FullIndexRepo.GetFullIndex(k)
	if err != nil {
		return nil, err
	}
	r.opened.Add(1)
	return &countedIndex{IterableIndex: idx.(carindex.IterableIndex), repo: r}, nil
}

func (r *countingRepo) open() int64 { return r.opened.Load() - r.released.Load() }

type countedIndex struct {
	carindex.IterableIndex
	repo *countingRepo
	gone atomic.Bool
}

func (c *countedIndex) GetAll(k cid.Cid, f func(uint64) bool) error {
	defer c.check()
	return c.IterableIndex.GetAll(k, f)
}

func (c *countedIndex) check() {
	if c.gone.Load() {
		c.repo.misused.Add(1)
	}
}

func (c *countedIndex) Release() {
	c.repo.released.Add(1)
	if c.gone.Swap(true) {
		c.repo.misused.Add(1)
	}
	c.IterableIndex.(index.Releaser).Release()
}

func TestLookUpsKeepTheIndicesOfLackingShardsOpenAndLetGoOfAll(t *testing.T) {
	ends := map[string]func(t *testing.T, r *rig, service *serviceInverted){
		"when they are added": func(t *testing.T, r *rig, service *serviceInverted) {
			service.refuses.Store(false)
			time.Sleep(mendPause)
			synctest.Wait()
			require.True(t, r.topLevel.shards.isWhole())
		},
		"when they are destroyed": func(t *testing.T, r *rig, _ *serviceInverted) {
			for _, k := range []string{"b", "c", "d", "e"} {
				require.NoError(t, r.destroy(k))
			}
		},
		"when the store is closed": func(t *testing.T, r *rig, _ *serviceInverted) {
			require.NoError(t, r.Close())
			require.Equal(t, "[c]", r.shardsWith(blocksOf(2)[2]), "the service's index is open")
		},
	}
	for name, end := range ends {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				r, service, repo := newLackingRig(t)
				for range 10 {
					require.Equal(t, "[c]", r.shardsWith(blocksOf(2)[2]))
				}
				require.EqualValues(t, 4, repo.opened.Load())
				require.EqualValues(t, 4, repo.open())
				end(t, r, service)
				require.Zero(t, repo.open())
				require.Zero(t, repo.misused.Load())
				require.Empty(t, r.topLevel.shards.indices.room)
			})
		})
	}
}

func TestLookUpFindsWhatAFullIndexHasThatWasMadeAnew(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		r, _, repo := newLackingRig(t)
		require.Equal(t, "[c]", r.shardsWith(blocksOf(2)[2]))
		r.sources["c"].data = r.sources["a"].data
		c := mustShard(t, r, "c")
		require.NoError(t, c.mount.DeleteTransient())
		r.indexLost("c") // fails, since the service takes nothing, after the new index was kept
		require.Equal(t, "[]", r.shardsWith(blocksOf(2)[2]))
		require.Equal(t, "[a c]", r.shardsWith(blocksOf(0)[2]))
		require.EqualValues(t, 4, repo.open())
	})
}

func TestIndicesBeyondTheRoomAreOpenedForEachLookUp(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		r, _, repo := newLackingRig(t)
		r.topLevel.shards.indices.room = make(slots, 2)
		for range 3 {
			require.Equal(t, "[d]", r.shardsWith(blocksOf(3)[2]))
		}
		require.EqualValues(t, 2, repo.open())
		require.EqualValues(t, 4+2+2, repo.opened.Load())
		require.NoError(t, r.destroy("b"))
		require.Equal(t, "[d]", r.shardsWith(blocksOf(3)[2]))
		require.EqualValues(t, 2, repo.open(), "there is room for another")
	})
}

// Indices of other repositories may be in memory, and large.
func TestIndicesOfOtherRepositoriesAreNotKept(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		r, _, repo := newLackingRig(t)
		r.folder = nil
		for range 3 {
			require.Equal(t, "[d]", r.shardsWith(blocksOf(3)[2]))
		}
		require.EqualValues(t, 12, repo.opened.Load())
		require.Zero(t, repo.released.Load(), "they may be somebody else's")
	})
}
