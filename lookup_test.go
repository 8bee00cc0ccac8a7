package dagstore

import (
	"fmt"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ipfs/go-cid"
	ds "github.com/ipfs/go-datastore"
	carindex "github.com/ipld/go-car/v2/index"
	mh "github.com/multiformats/go-multihash"
	"github.com/stretchr/testify/require"

	"github.com/filecoin-project/dagstore/index"
	"github.com/filecoin-project/dagstore/internal/fullindex"
	"github.com/filecoin-project/dagstore/internal/guard"
	"github.com/filecoin-project/dagstore/shard"
)

// A brokenRepo does not open the index of a shard, or gives one that cannot be asked.
type brokenRepo struct {
	index.FullIndexRepo
	key    shard.Key
	opens  bool
	isSane atomic.Bool
	err    error // nil panics
	fired  atomic.Int32
}

func (r *brokenRepo) GetFullIndex(k shard.Key) (carindex.Index, error) {
	idx, err := r.FullIndexRepo.GetFullIndex(k)
	switch {
	case err != nil || k != r.key || r.isSane.Load():
		return idx, err
	case r.opens:
		return brokenIndex{idx.(carindex.IterableIndex), r}, nil
	}
	return nil, r.fail()
}

func (r *brokenRepo) fail() error {
	r.fired.Add(1)
	if r.err == nil {
		panic("boom")
	}
	return r.err
}

type brokenIndex struct {
	carindex.IterableIndex
	repo *brokenRepo
}

func (b brokenIndex) GetAll(cid.Cid, func(uint64) bool) error { return b.repo.fail() }

// failures are the errors of all calls that look a multihash up.
func (r *rig) failures(h mh.Multihash) map[string]error {
	_, one := r.ShardsContainingMultihash(r.t.Context(), h)
	_, many := r.ShardsContainingMultihashes(r.t.Context(), []mh.Multihash{h})
	_, first := r.FirstShardContainingMultihash(r.t.Context(), h)
	return map[string]error{"one": one, "many": many, "first": first}
}

func TestBlockIsNotSaidToBeNowhereWhenAFullIndexCannotBeReadNow(t *testing.T) {
	for _, opens := range []bool{false, true} {
		for name, err := range map[string]error{
			"no file": syscall.EMFILE, "disk": syscall.EIO, "memory": syscall.ENOMEM, "other": errBoom, "panic": nil,
		} {
			t.Run(fmt.Sprint(name, opens), func(t *testing.T) {
				inBubble(t, func(t *testing.T) {
					r, _, repo := newLackingRig(t)
					broken := &brokenRepo{FullIndexRepo: repo, key: key("c"), opens: opens, err: err}
					r.indices, r.folder = broken, nil // so that the index is not kept
					for call, got := range r.failures(blocksOf(2)[2].Cid.Hash()) {
						require.NotErrorIs(t, got, ds.ErrNotFound, call)
						require.ErrorContains(t, got, `full index of shard "c"`, call)
						if err == nil {
							require.ErrorAs(t, got, new(*guard.PanicError), call)
							continue
						}
						require.ErrorIs(t, got, err, call)
					}
					require.EqualValues(t, 3, broken.fired.Load())
					broken.isSane.Store(true)
					require.Equal(t, "[c]", r.shardsWith(blocksOf(2)[2]), "it has passed")
					require.Equal(t, ShardStateAvailable, r.state("c"))
				})
			})
		}
	}
}

func TestLookUpThatFindsALostFullIndexHasItMadeAnew(t *testing.T) {
	for _, opens := range []bool{false, true} {
		for _, err := range []error{index.ErrNotFound, index.ErrDamaged, fullindex.ErrMalformed} {
			t.Run(fmt.Sprint(err, opens), func(t *testing.T) {
				inBubble(t, func(t *testing.T) {
					r, service, repo := newLackingRig(t)
					service.refuses.Store(false)
					broken := &brokenRepo{FullIndexRepo: repo, key: key("c"), opens: opens, err: err}
					r.indices, r.folder = broken, nil
					r.drain()
					for range 3 {
						all, err := r.ShardsContainingMultihashes(t.Context(), hashesOf(3, 1))
						require.NoError(t, err)
						require.Equal(t, "[[d] [b e]]", fmt.Sprint(all), "no other shard suffers")
					}
					broken.isSane.Store(true)
					synctest.Wait()
					r.expect("Initialize→Initializing", "MakeAvailable→Available")
					require.Equal(t, "[c]", r.shardsWith(blocksOf(2)[2]))
				})
			})
		}
	}
}

func TestThatAFullIndexIsLostIsReportedOnceHoweverManyLookUpsFindIt(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		r := newStoppedRig(t)
		require.NoError(t, r.ask(t.Context(), "a", nil))
		r.gate.take()
		l := r.topLevel.shards.indices.of(key("a"))
		for range 3 {
			require.NoError(t, l.use(nil))
		}
		require.Len(t, r.gate.take(), 1)
		l = r.topLevel.shards.indices.of(key("a"))
		l.end()
		l.lose(index.ErrDamaged)
		require.Empty(t, r.gate.take(), "another has taken its place")
	})
}

func TestLookUpWithoutAContextIsAnErrorAlsoWhenShardsAreLacking(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		r, _, _ := newLackingRig(t)
		_, err := r.ShardsContainingMultihash(nil, hashesOf(2)[0]) //nolint:staticcheck // the misuse under test
		require.ErrorIs(t, err, errNilContext)
		_, err = r.ShardsContainingMultihashes(nil, hashesOf(2)) //nolint:staticcheck // the misuse under test
		require.ErrorIs(t, err, errNilContext)
		_, err = r.FirstShardContainingMultihash(nil, hashesOf(2)[0]) //nolint:staticcheck // the misuse under test
		require.ErrorIs(t, err, errNilContext)
	})
}

func TestLookUpAfterCloseSaysThatTheStoreIsClosed(t *testing.T) {
	for name, tweak := range map[string]func(*Config){
		"in a folder": inTopLevelDir(t), "in memory": func(c *Config) { c.TopLevelIndex = nil },
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				r := newRig(t, tweak)
				require.NoError(t, r.register("a"))
				require.NoError(t, r.Close())
				for call, err := range r.failures(blocksOf(0)[1].Cid.Hash()) {
					require.ErrorIs(t, err, ErrClosed, call)
				}
				_, err := r.ShardsContainingMultihashes(t.Context(), nil)
				require.ErrorIs(t, err, ErrClosed)
			})
		})
	}
}

func TestFirstShardIsTheFirstOfAll(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		r, service, _ := newLackingRig(t)
		first := func(source int) (shard.Key, error) {
			return r.FirstShardContainingMultihash(t.Context(), hashesOf(source)[0])
		}
		check := func(want string, source int) {
			t.Helper()
			got, err := first(source)
			require.NoError(t, err)
			require.Equal(t, want, got.String())
			all, err := r.ShardsContainingMultihash(t.Context(), hashesOf(source)[0])
			require.NoError(t, err)
			require.Equal(t, got, all[0])
		}
		check("b", 1) // of the shards that are lacking
		_, err := first(4)
		require.ErrorIs(t, err, ds.ErrNotFound)
		idx, err := r.GetIterableIndex(key("e"))
		require.NoError(t, err)
		service.refuses.Store(false)
		require.NoError(t, service.AddMultihashesForShard(t.Context(), &fullMultihashes{index: idx}, key("stranger")))
		check("b", 1) // and not what the index says
		time.Sleep(mendPause)
		synctest.Wait()
		require.True(t, r.topLevel.shards.isWhole())
		check("b", 1) // although the stranger was added first
		check("a", 0)
		require.NoError(t, service.RemoveShard(t.Context(), key("stranger"), nil))
		asked := service.asked.Load()
		got, err := first(1)
		require.NoError(t, err)
		require.Equal(t, key("b"), got)
		_, err = first(4)
		require.ErrorIs(t, err, ds.ErrNotFound)
		require.Equal(t, asked, service.asked.Load(), "it is asked for one shard only")
	})
}

func TestFirstShardIsFoundInAnIndexThatGivesAllOnly(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		r := newRig(t, func(c *Config) { c.TopLevelIndex = &plainInverted{Inverted: newService(t)} })
		require.NoError(t, r.register("a"))
		got, err := r.FirstShardContainingMultihash(t.Context(), hashesOf(0)[0])
		require.NoError(t, err)
		require.Equal(t, key("a"), got)
	})
}
