package indexbs_test

import (
	"errors"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	blocks "github.com/ipfs/go-block-format"
	"github.com/ipfs/go-cid"
	"github.com/stretchr/testify/require"

	"github.com/filecoin-project/dagstore/indexbs"
	"github.com/filecoin-project/dagstore/internal/cartest"
	"github.com/filecoin-project/dagstore/shard"
)

func TestSelectorDecidesInASession(t *testing.T) {
	f := newFake()
	bs := cartest.Blocks(3, 40, 1)
	f.add("a", bs...)
	f.add("b", bs...)
	choice, hide := "a", false
	s := session(t, open(t, f, func(_ cid.Cid, keys []shard.Key) (shard.Key, error) {
		require.Len(t, keys, 2)
		if hide {
			return shard.Key{}, indexbs.ErrNoShardSelected
		}
		return key(choice), nil
	}, 2, 0))
	requireReads(t, s, bs[0])
	require.Equal(t, map[string]int{"a": 1}, f.acquired)
	choice = "b"
	requireReads(t, s, bs[1])
	require.Equal(t, map[string]int{"a": 1, "b": 1}, f.acquired)
	hide = true
	_, err := s.Get(t.Context(), bs[0].Cid)
	require.ErrorIs(t, err, indexbs.ErrNoShardSelected)
	has, err := s.Has(t.Context(), bs[0].Cid)
	require.NoError(t, err)
	require.False(t, has)
}

func TestShardThatFailsIsLetGoAndReadElsewhere(t *testing.T) {
	f := newFake()
	bs, only := cartest.Blocks(5, 40, 1), cartest.Blocks(1, 40, 2)
	failing := f.add("failing", concat(bs, only)...)
	f.add("good", bs...)
	other := cartest.Blocks(1, 40, 3)
	f.add("other", other...)
	store := open(t, f, nil, 1, 0)
	s := session(t, store)
	requireReads(t, s, bs[0])
	require.Equal(t, map[string]int{"failing": 1}, f.acquired)
	failing.unreadable.Store(true)
	_, err := s.Get(t.Context(), only[0].Cid)
	require.ErrorIs(t, err, errUnreadable)
	require.NotErrorIs(t, err, indexbs.ErrBlockNotFound)
	require.Equal(t, 1, strings.Count(err.Error(), "failing"), "the shard was asked again")
	requireReads(t, s, bs[1:]...)
	requireReads(t, store, other[0])
	require.EqualValues(t, 2, f.open.Load(), "good, which the session holds, and other, which the cache keeps")

	failing.unknown.Store(true)
	_, err = s.Get(t.Context(), only[0].Cid)
	requireNotFound(t, err)
	requireReads(t, s, bs...)
}

func TestDamagedBlockIsReadFromAnotherShardInASession(t *testing.T) {
	f := newFake()
	good := cartest.Blocks(2, 40, 1)
	f.add("bad", good[0], cartest.Block{Cid: good[1].Cid, Data: make([]byte, 40)})
	f.add("good", good...)
	store := open(t, f, nil, 2, 0)
	store.HashOnRead(true)
	s := session(t, store)
	requireReads(t, s, good...)
	requireReads(t, s, good[1])
	for _, g := range []getter{store, s} {
		calls := 0
		require.NoError(t, g.View(t.Context(), good[1].Cid, func(p []byte) error {
			calls++
			require.Equal(t, good[1].Data, p)
			return nil
		}))
		require.Equal(t, 1, calls)
	}
}

func TestErrorOfAViewerIsReturnedAndNotTakenForAFailingShard(t *testing.T) {
	f := newFake()
	bs := cartest.Blocks(2, 40, 1)
	f.add("a", bs...)
	f.add("b", bs...)
	store := open(t, f, nil, 2, 0)
	s := session(t, store)
	mine := errors.New("client hung up")
	for _, g := range []getter{store, s} {
		calls := 0
		err := g.View(t.Context(), bs[0].Cid, func([]byte) error {
			calls++
			return mine
		})
		require.Equal(t, mine, err, "as it is")
		require.Equal(t, 1, calls)
		require.PanicsWithValue(t, "mine", func() {
			_ = g.View(t.Context(), bs[0].Cid, func([]byte) error { panic("mine") })
		})
		requireNotFound(t, g.View(t.Context(), cartest.Blocks(1, 10, 9)[0].Cid, nil))
	}
	require.NoError(t, s.Close())
	require.NoError(t, store.Close())
	f.requireNoneOpen(t)
}

func TestRestOfABatchIsReadElsewhereWhenTheShardIsClosedByOthers(t *testing.T) {
	f := newFake()
	bs := cartest.Blocks(5, 40, 1)
	closing := f.add("closing", bs...)
	f.add("good", bs...)
	store := open(t, f, nil, 1, 0)
	seen := map[int]bool{}
	require.NoError(t, store.GetMany(t.Context(), cidsOf(bs), func(i int, b blocks.Block, err error) error {
		require.NoError(t, err)
		require.Equal(t, bs[i].Data, b.RawData())
		require.False(t, seen[i])
		seen[i] = true
		return closing.accessor.Load().Close()
	}))
	require.Len(t, seen, 5)
	require.Equal(t, map[string]int{"closing": 1, "good": 1}, f.acquired)
}

func TestShardThatFailsNowAndThenIsNeitherLeakedNorLost(t *testing.T) {
	f := newFake()
	bs := cartest.Blocks(1, 40, 1)
	sh := f.add("k", bs...)
	store := open(t, f, nil, 1, time.Microsecond)
	var readers sync.WaitGroup
	for g := range 8 {
		readers.Go(func() {
			r := rand.New(rand.NewPCG(uint64(g), 1))
			for range 300 {
				sh.unavailable.Store(r.IntN(2) == 0)
				if _, err := store.Get(t.Context(), bs[0].Cid); err != nil && !errors.Is(err, errUnavailable) {
					t.Errorf("block lost: %v", err)
				}
			}
		})
	}
	readers.Wait()
	sh.unavailable.Store(false)
	requireReads(t, store, bs[0])
	require.NoError(t, store.Close())
	f.requireNoneOpen(t)
}
