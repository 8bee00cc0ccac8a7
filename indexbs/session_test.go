package indexbs_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	blocks "github.com/ipfs/go-block-format"
	"github.com/ipfs/go-cid"
	"github.com/stretchr/testify/require"

	"github.com/filecoin-project/dagstore"
	"github.com/filecoin-project/dagstore/indexbs"
	"github.com/filecoin-project/dagstore/internal/cartest"
)

func session(t *testing.T, bs *indexbs.IndexBackedBlockstore) *indexbs.Session {
	t.Helper()
	s := bs.NewSession(t.Context())
	t.Cleanup(func() { require.NoError(t, s.Close()) })
	return s
}

// A getter is a blockstore or a session.
type getter interface {
	Get(context.Context, cid.Cid) (blocks.Block, error)
	GetSize(context.Context, cid.Cid) (int, error)
	Has(context.Context, cid.Cid) (bool, error)
	View(context.Context, cid.Cid, func([]byte) error) error
	GetMany(context.Context, []cid.Cid, func(int, blocks.Block, error) error) error
}

var _, _ getter = (*indexbs.IndexBackedBlockstore)(nil), (*indexbs.Session)(nil)

func requireReads(t *testing.T, g getter, want ...cartest.Block) {
	t.Helper()
	for _, w := range want {
		b, err := g.Get(t.Context(), w.Cid)
		require.NoError(t, err)
		require.Equal(t, w.Data, b.RawData())
	}
}

func requireClosed(t *testing.T, g getter, c cid.Cid) {
	t.Helper()
	_, err := g.Get(t.Context(), c)
	require.ErrorIs(t, err, indexbs.ErrClosed)
	_, err = g.GetSize(t.Context(), c)
	require.ErrorIs(t, err, indexbs.ErrClosed)
	_, err = g.Has(t.Context(), c)
	require.ErrorIs(t, err, indexbs.ErrClosed)
	require.ErrorIs(t, g.View(t.Context(), c, func([]byte) error { panic("viewed") }), indexbs.ErrClosed)
	err = g.GetMany(t.Context(), []cid.Cid{c}, func(int, blocks.Block, error) error { panic("visited") })
	require.ErrorIs(t, err, indexbs.ErrClosed)
}

// shardsOf adds n shards of two blocks each, named by number.
func shardsOf(f *fakeStore, n int) [][]cartest.Block {
	all := make([][]cartest.Block, n)
	for i := range all {
		all[i] = cartest.Blocks(2, 50, uint64(i))
		f.add(fmt.Sprint(i), all[i]...)
	}
	return all
}

func TestSessionAsksTheShardOfTheLastBlockBeforeTheIndex(t *testing.T) {
	f := newFake()
	bs := cartest.Blocks(20, 100, 1)
	f.add("first", bs...)
	f.add("second", bs...)
	other := cartest.Blocks(1, 100, 2)
	f.add("other", other...)
	store := open(t, f, nil, 3, 0)
	s := session(t, store)
	requireReads(t, s, bs...)
	for _, b := range bs {
		size, err := s.GetSize(t.Context(), b.Cid)
		require.NoError(t, err)
		require.Equal(t, 100, size)
		has, err := s.Has(t.Context(), b.Cid)
		require.NoError(t, err)
		require.True(t, has)
		require.NoError(t, s.View(t.Context(), b.Cid, func(p []byte) error {
			require.Equal(t, b.Data, p)
			return nil
		}))
	}
	require.EqualValues(t, 1, f.lookUps.Load())

	f.brokenTop.Store(true)
	requireReads(t, s, bs[3])
	_, err := s.Get(t.Context(), other[0].Cid)
	require.ErrorIs(t, err, errIndex)
	_, err = s.Has(t.Context(), other[0].Cid)
	require.ErrorIs(t, err, errIndex)
	f.brokenTop.Store(false)

	before := f.lookUps.Load()
	has, err := s.Has(t.Context(), other[0].Cid)
	require.NoError(t, err)
	require.True(t, has)
	requireReads(t, s, bs[3])
	require.Equal(t, before+1, f.lookUps.Load(), "Has has not read a block")
	requireReads(t, s, other...)
	require.Equal(t, 2, f.opened())

	absent := cartest.Blocks(1, 10, 9)[0].Cid
	_, err = s.Get(t.Context(), absent)
	requireNotFound(t, err)
	has, err = s.Has(t.Context(), absent)
	require.NoError(t, err)
	require.False(t, has)
	_, err = s.Has(t.Context(), cid.Undef)
	require.Error(t, err)
}

func TestSessionFindsWhatTheBlockstoreFindsAndNoMore(t *testing.T) {
	f := newFake()
	bs := cartest.Blocks(1, 100, 1)
	f.add("k", bs...)
	s := session(t, open(t, f, nil, 1, 0))
	requireReads(t, s, bs...)
	inline := cartest.Identity([]byte("not in any shard")).Cid
	_, err := s.Get(t.Context(), inline)
	requireNotFound(t, err)
	has, err := s.Has(t.Context(), inline)
	require.NoError(t, err)
	require.False(t, has)
}

func TestSessionKeepsTenShardsOpen(t *testing.T) {
	f := newFake()
	all := shardsOf(f, 11)
	store := open(t, f, nil, 1, 0)
	s := session(t, store)
	for _, bs := range all[:10] {
		requireReads(t, s, bs[0])
	}
	require.Equal(t, 10, f.opened())
	for _, bs := range all[:10] {
		requireReads(t, s, bs[1])
	}
	require.Zero(t, f.opened(), "the cache has room for one, but the session holds ten")
	require.EqualValues(t, 10, f.open.Load())

	requireReads(t, s, all[0][0], all[10][0]) // 1 was used longest ago now
	require.EqualValues(t, 10, f.open.Load())
	for i, bs := range all {
		if i != 1 {
			requireReads(t, s, bs[1])
		}
	}
	require.Equal(t, 1, f.opened())
	requireReads(t, s, all[1][0])
	require.Equal(t, 1, f.opened())

	require.NoError(t, s.Close())
	require.LessOrEqual(t, f.open.Load(), int64(1), "the cache may keep one")
	require.NoError(t, store.Close())
	f.requireNoneOpen(t)
}

func TestShardThatASessionHoldsIsNotOpenedTwice(t *testing.T) {
	f := newFake()
	all := shardsOf(f, 3)
	store := open(t, f, nil, 1, 0)
	first, second := session(t, store), session(t, store)
	for _, bs := range all {
		requireReads(t, first, bs[0])
	}
	require.Equal(t, 3, f.opened())
	for _, bs := range all {
		requireReads(t, second, bs[0])
		requireReads(t, store, bs[1])
	}
	require.Zero(t, f.opened())
	require.NoError(t, first.Close())
	require.EqualValues(t, 3, f.open.Load())
	for _, bs := range all {
		requireReads(t, second, bs[1])
	}
	requireReads(t, store, all[0][0])
	require.NoError(t, second.Close())
	require.EqualValues(t, 1, f.open.Load())
	requireReads(t, store, all[0][1])
	require.Zero(t, f.opened(), "the cache keeps what was read last")
}

func TestExpiryDoesNotCloseTheShardsOfASession(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake()
		bs := shardsOf(f, 1)[0]
		s := session(t, open(t, f, nil, 1, time.Second))
		requireReads(t, s, bs[0])
		time.Sleep(time.Hour)
		require.EqualValues(t, 1, f.open.Load())
		requireReads(t, s, bs[1])
		require.Equal(t, 1, f.opened())
		require.NoError(t, s.Close())
		require.EqualValues(t, 1, f.open.Load())
		time.Sleep(time.Second)
		synctest.Wait()
		f.requireNoneOpen(t)
	})
}

func TestSessionEnds(t *testing.T) {
	ends := map[string]func(cancel func(), s *indexbs.Session, store *indexbs.IndexBackedBlockstore){
		"with its context":    func(cancel func(), _ *indexbs.Session, _ *indexbs.IndexBackedBlockstore) { cancel() },
		"when closed":         func(_ func(), s *indexbs.Session, _ *indexbs.IndexBackedBlockstore) { s.Close(); s.Close() },
		"with the blockstore": func(_ func(), _ *indexbs.Session, store *indexbs.IndexBackedBlockstore) { store.Close() },
	}
	for name, end := range ends {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFake()
				all := shardsOf(f, 5)
				store := open(t, f, nil, 1, 0)
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				s := store.NewSession(ctx)
				for _, bs := range all {
					requireReads(t, s, bs[0])
				}
				require.EqualValues(t, 5, f.open.Load())
				end(cancel, s, store)
				requireClosed(t, s, all[4][0].Cid)
				synctest.Wait()
				require.LessOrEqual(t, f.open.Load(), int64(1))
				require.NoError(t, store.Close())
				f.requireNoneOpen(t)
				requireClosed(t, store, all[4][0].Cid)
				requireClosed(t, store.NewSession(t.Context()), all[4][0].Cid)
			})
		})
	}
}

func TestEndOfASessionFailsTheReadThatOpensAShard(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, bs := newStore(t), cartest.Blocks(1, 40, 1)
		m := slowMount(bs)
		registerSlow(t, d, "slow", m)
		store := open(t, d, nil, 1, 0)
		s := store.NewSession(t.Context())
		done := make(chan error)
		go func() {
			_, err := s.Get(t.Context(), bs[0].Cid)
			done <- err
		}()
		<-m.fetching
		require.NoError(t, s.Close())
		require.ErrorIs(t, <-done, indexbs.ErrClosed)
		close(m.release)
		synctest.Wait()
		require.Zero(t, references(t, d, "slow"))
	})
}

func TestSessionMayBeClosedUnderAReader(t *testing.T) {
	f := newFake()
	all := shardsOf(f, 2)
	store := open(t, f, nil, 1, 0)
	s := session(t, store)
	require.NoError(t, s.View(t.Context(), all[0][0].Cid, func(p []byte) error {
		require.NoError(t, s.Close())
		requireReads(t, store, all[1][0]) // pushes the shard out of the cache
		require.EqualValues(t, 2, f.open.Load())
		require.Equal(t, all[0][0].Data, p)
		return nil
	}))
	require.EqualValues(t, 1, f.open.Load())
}

func TestSessionsBesideEachOtherLoseNoBlockAndNoAccessor(t *testing.T) {
	f := newFake()
	all := shardsOf(f, 15)
	for _, size := range []int{1, 4} {
		store := open(t, f, nil, size, time.Microsecond)
		var users sync.WaitGroup
		for g := range 8 {
			r := rand.New(rand.NewPCG(uint64(g), 1))
			users.Go(func() {
				for range 5 {
					ctx, cancel := context.WithCancel(t.Context())
					s := store.NewSession(ctx)
					var readers sync.WaitGroup
					for range 2 {
						seed := r.Uint64()
						readers.Go(func() { readAtRandom(t, s, all, seed) })
					}
					if g%2 == 0 {
						readers.Wait()
					}
					cancel()
					readers.Wait()
				}
			})
		}
		users.Wait()
		require.NoError(t, store.Close())
		f.requireNoneOpen(t)
	}
}

// readAtRandom reads until the session is closed, or 50 times.
func readAtRandom(t *testing.T, s *indexbs.Session, all [][]cartest.Block, seed uint64) {
	r := rand.New(rand.NewPCG(seed, 2))
	for range 50 {
		some := []cartest.Block{all[r.IntN(len(all))][0], all[r.IntN(len(all))][1]}
		err := s.GetMany(t.Context(), []cid.Cid{some[0].Cid, some[1].Cid}, func(i int, b blocks.Block, err error) error {
			if err == nil && string(b.RawData()) != string(some[i].Data) {
				err = errors.New("another block")
			}
			return err
		})
		if err == nil {
			err = s.View(t.Context(), some[0].Cid, func(p []byte) error {
				if string(p) != string(some[0].Data) {
					return errors.New("another block")
				}
				return nil
			})
		}
		if errors.Is(err, indexbs.ErrClosed) {
			return
		}
		if err != nil {
			t.Errorf("block lost: %v", err)
			return
		}
	}
}

func TestShardsOfASessionCannotBeDestroyedBeforeItEnds(t *testing.T) {
	d := newStore(t)
	var all [][]cartest.Block
	for i := range 4 {
		all = append(all, cartest.Blocks(20, 60, uint64(i)))
		register(t, d, fmt.Sprint(i), carMount(all[i]))
	}
	store := open(t, d, nil, 1, 0)
	s := session(t, store)
	var cids []cid.Cid
	for _, bs := range all {
		requireReads(t, s, bs...)
		cids = append(cids, bs[7].Cid)
	}
	read := 0
	require.NoError(t, s.GetMany(t.Context(), cids, func(i int, b blocks.Block, err error) error {
		read++
		require.NoError(t, err)
		require.Equal(t, all[i][7].Data, b.RawData())
		return nil
	}))
	require.Equal(t, 4, read)
	for i := range all {
		require.ErrorIs(t, dagstore.Destroy(t.Context(), d, key(fmt.Sprint(i))), dagstore.ErrShardInUse)
	}
	require.NoError(t, s.Close())
	require.NoError(t, store.Close())
	for i := range all {
		require.NoError(t, dagstore.Destroy(t.Context(), d, key(fmt.Sprint(i))))
	}
	s = session(t, open(t, d, nil, 1, 0))
	_, err := s.Get(t.Context(), all[0][0].Cid)
	requireNotFound(t, err)
}
