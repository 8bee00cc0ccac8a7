package indexbs_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	blocks "github.com/ipfs/go-block-format"
	"github.com/ipfs/go-cid"
	ipld "github.com/ipfs/go-ipld-format"
	"github.com/stretchr/testify/require"

	"github.com/filecoin-project/dagstore/indexbs"
	"github.com/filecoin-project/dagstore/internal/cartest"
	"github.com/filecoin-project/dagstore/shard"
)

func cidsOf(bs []cartest.Block) []cid.Cid {
	cids := make([]cid.Cid, len(bs))
	for i, b := range bs {
		cids[i] = b.Cid
	}
	return cids
}

// A visited is what GetMany gave for a block.
type visited struct {
	block blocks.Block
	err   error
}

// getMany requires that each of cids is visited once, and returns in which order.
func getMany(t *testing.T, g getter, cids []cid.Cid) (all []visited, order []int) {
	t.Helper()
	all = make([]visited, len(cids))
	require.NoError(t, g.GetMany(t.Context(), cids, func(i int, b blocks.Block, err error) error {
		require.NotContains(t, order, i, "visited twice")
		require.NotEqual(t, err == nil, b == nil)
		order = append(order, i)
		all[i] = visited{b, err}
		return nil
	}))
	require.Len(t, order, len(cids))
	return all, order
}

func requireMany(t *testing.T, g getter, want []cartest.Block) {
	t.Helper()
	all, _ := getMany(t, g, cidsOf(want))
	for i, v := range all {
		require.NoError(t, v.err)
		require.Equal(t, want[i].Data, v.block.RawData())
		require.Equal(t, want[i].Cid, v.block.Cid())
	}
}

func TestManyBlocksCostOneQuestionAndFewShards(t *testing.T) {
	f := &batchStore{fakeStore: newFake()}
	onlyA, onlyB, everywhere := cartest.Blocks(1, 40, 1), cartest.Blocks(9, 40, 2), cartest.Blocks(9, 40, 3)
	bc := cartest.Blocks(1, 40, 4)
	f.add("c", concat(everywhere, bc)...)
	f.add("a", concat(onlyA, everywhere)...)
	f.add("b", concat(onlyB, everywhere, bc)...)
	f.add("d", everywhere...)
	store := open(t, f, nil, 3, 0)
	requireMany(t, store, concat(everywhere, bc, onlyB, onlyA))
	require.Equal(t, map[string]int{"a": 1, "b": 1}, f.acquired)
	require.EqualValues(t, 1, f.batches.Load())
	require.Zero(t, f.lookUps.Load())

	f.opened()
	store = open(t, f, nil, 3, 0)
	requireReads(t, store, onlyA[0])
	requireMany(t, store, everywhere)
	require.Equal(t, 1, f.opened(), "a was open")

	store = open(t, f.fakeStore, nil, 3, 0)
	f.lookUps.Store(0)
	requireMany(t, store, concat(everywhere, onlyB))
	require.Equal(t, 1, f.opened())
	require.EqualValues(t, 18, f.lookUps.Load(), "without batches one by one")
}

func TestManyBlocksGoToShardsThatAreReadAnyway(t *testing.T) {
	f := newFake()
	onlyA, onlyB := cartest.Blocks(1, 40, 1), cartest.Blocks(1, 40, 2)
	ac, bc := cartest.Blocks(2, 40, 3), cartest.Blocks(5, 40, 4)
	f.add("c", concat(ac, bc)...) // has the most of them
	f.add("a", concat(onlyA, ac)...)
	f.add("b", concat(onlyB, bc)...)
	requireMany(t, open(t, f, nil, 3, 0), concat(ac, bc, onlyA, onlyB))
	require.Equal(t, map[string]int{"a": 1, "b": 1}, f.acquired)
}

func TestBlocksOfAShardAreReadInTheOrderInWhichTheyLie(t *testing.T) {
	f := newFake()
	bs := cartest.Blocks(50, 40, 1)
	f.add("k", bs...)
	cids := cidsOf(bs)
	slices.Reverse(cids)
	_, order := getMany(t, open(t, f, nil, 1, 0), cids)
	require.True(t, slices.IsSortedFunc(order, func(x, y int) int { return y - x }))
}

func TestSelectorDecidesForManyBlocks(t *testing.T) {
	for name, session := range map[string]bool{"blockstore": false, "session": true} {
		t.Run(name, func(t *testing.T) {
			f := &batchStore{fakeStore: newFake()}
			bs := cartest.Blocks(4, 40, 1)
			f.add("a", bs...)
			f.add("b", bs...)
			f.add("c", bs...).unavailable.Store(true)
			refusal := errors.New("price list unavailable")
			store := open(t, f, func(c cid.Cid, _ []shard.Key) (shard.Key, error) {
				return map[cid.Cid]shard.Key{bs[0].Cid: key("b"), bs[1].Cid: key("c")}[c],
					map[cid.Cid]error{bs[2].Cid: indexbs.ErrNoShardSelected, bs[3].Cid: refusal}[c]
			}, 2, 0)
			var g getter = store
			if session {
				g = store.NewSession(t.Context())
				requireReads(t, g, bs[0])
			}
			all, _ := getMany(t, g, cidsOf(bs))
			require.NoError(t, all[0].err)
			require.NoError(t, all[1].err)
			require.ErrorIs(t, all[2].err, indexbs.ErrNoShardSelected)
			requireNotFound(t, all[2].err)
			require.ErrorIs(t, all[3].err, refusal)
			require.Equal(t, map[string]int{"a": 1, "b": 1, "c": 1}, f.acquired)
		})
	}
}

func TestBlocksThatAShardFailsToGiveAreReadFromOthers(t *testing.T) {
	f := newFake()
	bs, only := cartest.Blocks(6, 40, 1), cartest.Blocks(1, 40, 2)
	damaged := slices.Clone(bs)
	damaged[2].Data = make([]byte, 40)
	f.add("sealed", concat(bs, only)...).unavailable.Store(true)
	f.add("gone", bs...).unknown.Store(true)
	f.add("damaged", damaged...)
	f.add("good", bs...)
	store := open(t, f, nil, 4, 0)
	store.HashOnRead(true)
	all, _ := getMany(t, store, concatCids(bs, only))
	for i, b := range bs {
		require.NoError(t, all[i].err)
		require.Equal(t, b.Data, all[i].block.RawData())
	}
	require.ErrorIs(t, all[6].err, errUnavailable)
	require.False(t, ipld.IsNotFound(all[6].err))
	for name, times := range f.acquired {
		require.Equal(t, 1, times, "shard %s was tried again", name)
	}
}

func concatCids(all ...[]cartest.Block) []cid.Cid { return cidsOf(concat(all...)) }

func TestShardThatCannotBeOpenedIsTriedOncePerBatch(t *testing.T) {
	f := newFake()
	both, onlyA, onlyB := cartest.Blocks(1, 40, 1), cartest.Blocks(2, 40, 2), cartest.Blocks(1, 40, 3)
	f.add("a", concat(both, onlyA)...).unavailable.Store(true)
	f.add("b", concat(both, onlyB)...).unavailable.Store(true)
	all, _ := getMany(t, open(t, f, nil, 4, 0), concatCids(both, onlyA, onlyB, both))
	for _, v := range all {
		require.ErrorIs(t, v.err, errUnavailable)
	}
	require.ErrorContains(t, all[0].err, `shard "a"`)
	require.ErrorContains(t, all[0].err, `shard "b"`)
	require.Equal(t, map[string]int{"a": 1, "b": 1}, f.acquired)
}

func TestSessionReadsManyBlocksFromTheShardOfTheLastFirst(t *testing.T) {
	f := &batchStore{fakeStore: newFake()}
	bs, other := cartest.Blocks(5, 40, 1), cartest.Blocks(5, 40, 2)
	last := f.add("last", bs...)
	f.add("same", bs...)
	f.add("other", other...)
	s := session(t, open(t, f, nil, 2, 0))
	requireReads(t, s, bs[0])
	requireMany(t, s, bs)
	require.Zero(t, f.batches.Load())

	_, order := getMany(t, s, concatCids(other, bs))
	require.Equal(t, []int{5, 6, 7, 8, 9}, order[:5])
	require.EqualValues(t, 1, f.batches.Load())
	require.Equal(t, map[string]int{"last": 1, "other": 1}, f.acquired)

	requireReads(t, s, other[0])
	requireReads(t, s, bs[0])
	last.unreadable.Store(true)
	requireMany(t, s, concat(bs, other))
	require.Equal(t, map[string]int{"last": 1, "other": 1, "same": 1}, f.acquired)
}

func TestErrorsOfTheIndexReachEveryBlock(t *testing.T) {
	bs := cartest.Blocks(2, 40, 1)
	f := &batchStore{fakeStore: newFake()}
	f.add("k", bs...)
	f.answers = func(all [][]shard.Key) [][]shard.Key { return all[1:] }
	all, _ := getMany(t, open(t, f, nil, 1, 0), cidsOf(bs))
	for _, v := range all {
		require.ErrorContains(t, v.err, "1 answers to 2 questions")
	}
	f.brokenTop.Store(true)
	for _, d := range []indexbs.IdxBstoreDagstore{f, f.fakeStore} {
		all, _ := getMany(t, open(t, d, nil, 1, 0), append(cidsOf(bs), cid.Undef))
		require.ErrorIs(t, all[0].err, errIndex)
		require.ErrorIs(t, all[1].err, errIndex)
		require.ErrorContains(t, all[2].err, "undefined")
	}
	f.opened()
}

func TestVisitorEndsABatch(t *testing.T) {
	f := newFake()
	all := shardsOf(f, 3)
	cids := append(concatCids(all...), cartest.Blocks(1, 10, 9)[0].Cid, cid.Undef)
	mine := errors.New("client hung up")
	for stop := range cids {
		store := open(t, f, nil, 1, 0)
		s := store.NewSession(t.Context())
		requireReads(t, s, all[1][0])
		for _, g := range []getter{store, s} {
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			for _, ends := range []error{mine, context.Canceled} {
				calls := 0
				err := g.GetMany(ctx, cids, func(int, blocks.Block, error) error {
					if calls++; calls <= stop {
						return nil
					}
					if errors.Is(ends, mine) {
						return mine
					}
					cancel()
					return nil
				})
				require.Equal(t, ends, err, "as it is")
				require.Equal(t, stop+1, calls)
			}
		}
		calls := 0
		require.ErrorIs(t, s.GetMany(t.Context(), cids, func(int, blocks.Block, error) error {
			if calls++; calls > stop {
				require.NoError(t, s.Close())
			}
			return nil
		}), indexbs.ErrClosed)
		require.Equal(t, stop+1, calls)
		require.Panics(t, func() {
			_ = store.GetMany(t.Context(), cids, func(int, blocks.Block, error) error { panic("visitor") })
		})
		require.NoError(t, store.Close())
		f.requireNoneOpen(t)
	}
}

func TestVisitorMayReadFromTheSameBlockstore(t *testing.T) {
	f := newFake()
	all := shardsOf(f, 12)
	s := session(t, open(t, f, nil, 1, 0))
	require.NoError(t, s.GetMany(t.Context(), concatCids(all...), func(i int, _ blocks.Block, err error) error {
		requireReads(t, s, all[(i*5)%12]...)
		return err
	}))
}

func TestNoBlocksAreNoQuestion(t *testing.T) {
	f := &batchStore{fakeStore: newFake()}
	getMany(t, open(t, f, nil, 1, 0), nil)
	require.Zero(t, f.batches.Load())
}

// TestManyBlocksAreWhatGetGives compares GetMany with Get on stores at random.
func TestManyBlocksAreWhatGetGives(t *testing.T) {
	for seed := range uint64(40) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			r := rand.New(rand.NewPCG(seed, 5))
			f, cids := randomStore(r)
			var d indexbs.IdxBstoreDagstore = f
			if seed%2 == 0 {
				d = &batchStore{fakeStore: f}
			}
			store := open(t, d, nil, 1+r.IntN(4), 0)
			store.HashOnRead(true)
			s := store.NewSession(t.Context())
			for range 4 {
				some := make([]cid.Cid, r.IntN(40))
				for i := range some {
					some[i] = cids[r.IntN(len(cids))]
				}
				for _, g := range []getter{store, s} {
					all, _ := getMany(t, g, some)
					for i, v := range all {
						requireSame(t, store, some[i], v)
					}
				}
			}
			require.NoError(t, store.Close())
			f.requireNoneOpen(t)
		})
	}
}

// randomStore returns a store with broken shards and damaged blocks, and CIDs of
// what is in it, and is not.
func randomStore(r *rand.Rand) (*fakeStore, []cid.Cid) {
	made := cartest.Blocks(30, 50, r.Uint64())
	inline := cartest.Identity([]byte("inline"))
	f := newFake()
	for n := range 2 + r.IntN(12) {
		var bs []cartest.Block
		for _, b := range append(made[:28:28], inline) {
			switch r.IntN(12) {
			case 0, 1, 2:
				bs = append(bs, b)
			case 3:
				bs = append(bs, cartest.Block{Cid: b.Cid, Data: make([]byte, len(b.Data))})
			}
		}
		sh := f.add(fmt.Sprint(n), bs...)
		switch r.IntN(8) {
		case 0:
			sh.unavailable.Store(true)
		case 1:
			sh.unknown.Store(true)
		}
	}
	return f, append(cidsOf(made), inline.Cid, cartest.Identity([]byte("nowhere")).Cid, cid.Undef)
}

func requireSame(t *testing.T, store *indexbs.IndexBackedBlockstore, c cid.Cid, got visited) {
	t.Helper()
	want, err := store.Get(t.Context(), c)
	require.Equal(t, err == nil, got.err == nil, "%v, but %v", err, got.err)
	require.Equal(t, ipld.IsNotFound(err), ipld.IsNotFound(got.err))
	require.Equal(t, errors.Is(err, indexbs.ErrBlockNotFound), errors.Is(got.err, indexbs.ErrBlockNotFound))
	if err == nil {
		require.Equal(t, want.RawData(), got.block.RawData())
		require.Equal(t, c, got.block.Cid())
	}
}
