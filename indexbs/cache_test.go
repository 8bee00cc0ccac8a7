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

	"github.com/stretchr/testify/require"

	"github.com/filecoin-project/dagstore"
	"github.com/filecoin-project/dagstore/indexbs"
	"github.com/filecoin-project/dagstore/internal/cartest"
)

func TestEvictionDoesNotPullShardsFromUnderReaders(t *testing.T) {
	d := newStore(t)
	var all []cartest.Block
	for i := range 8 {
		bs := cartest.Blocks(20, 200, uint64(i))
		register(t, d, fmt.Sprint(i), carMount(bs))
		all = append(all, bs...)
	}
	for _, size := range []int{1, 2} {
		store := open(t, d, nil, size, time.Millisecond)
		var readers sync.WaitGroup
		for g := range 8 {
			readers.Go(func() {
				r := rand.New(rand.NewPCG(uint64(g), 1))
				for range 100 {
					want := all[r.IntN(len(all))]
					b, err := store.Get(t.Context(), want.Cid)
					if err != nil || string(b.RawData()) != string(want.Data) {
						t.Errorf("block lost: %v", err)
						return
					}
				}
			})
		}
		readers.Wait()
		require.NoError(t, store.Close())
	}
	for i := range 8 {
		require.NoError(t, dagstore.Destroy(t.Context(), d, key(fmt.Sprint(i))), "a shard is still held")
	}
}

func TestReadThatWasGivenUpDoesNotHoldTheShard(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, bs := newStore(t), cartest.Blocks(1, 40, 1)
		m := slowMount(bs)
		registerSlow(t, d, "slow", m)
		store := open(t, d, nil, 1, 0)
		ctx, cancel := context.WithCancel(t.Context())
		gone := make(chan error)
		for range 2 {
			go func() {
				_, err := store.Get(ctx, bs[0].Cid)
				gone <- err
			}()
		}
		<-m.fetching
		synctest.Wait()
		require.Empty(t, m.fetching, "both share one acquire")
		cancel()
		require.ErrorIs(t, <-gone, context.Canceled)
		require.ErrorIs(t, <-gone, context.Canceled)
		close(m.release)
		synctest.Wait()
		info, err := d.GetShardInfo(key("slow"))
		require.NoError(t, err)
		require.Equal(t, dagstore.ShardStateAvailable, info.ShardState)
		require.NoError(t, dagstore.Destroy(t.Context(), d, key("slow")))

		_, err = store.Get(ctx, bs[0].Cid)
		require.ErrorIs(t, err, context.Canceled)
	})
}

// registerSlow registers a shard whose fetches wait from now on.
func registerSlow(t *testing.T, d *dagstore.DAGStore, name string, m *testMount) {
	t.Helper()
	release := m.release
	m.release = nil
	register(t, d, name, m)
	synctest.Wait()
	m.release = release
}

func TestOneReaderGivingUpDoesNotFailTheOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, bs := newStore(t), cartest.Blocks(1, 40, 1)
		m := slowMount(bs)
		registerSlow(t, d, "slow", m)
		store := open(t, d, nil, 1, 0)
		ctx, cancel := context.WithCancel(t.Context())
		impatient, patient := make(chan error), make(chan error)
		get := func(ctx context.Context, done chan error) {
			_, err := store.Get(ctx, bs[0].Cid)
			done <- err
		}
		go get(ctx, impatient)
		<-m.fetching
		go get(t.Context(), patient)
		synctest.Wait()
		cancel()
		require.ErrorIs(t, <-impatient, context.Canceled)
		close(m.release)
		require.NoError(t, <-patient)
	})
}

func TestDestroyedShardIsNotPromised(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, bs := newStore(t), cartest.Blocks(1, 40, 1)
		register(t, d, "k", carMount(bs))
		store := open(t, d, nil, 1, time.Minute)
		requireBlock(t, store, bs[0])
		require.ErrorIs(t, dagstore.Destroy(t.Context(), d, key("k")), dagstore.ErrShardInUse)

		time.Sleep(40 * time.Second)
		requireBlock(t, store, bs[0]) // use puts the expiry off
		time.Sleep(40 * time.Second)
		require.Equal(t, 1, references(t, d, "k"))
		time.Sleep(21 * time.Second)
		synctest.Wait()
		require.NoError(t, dagstore.Destroy(t.Context(), d, key("k")))
		has, err := store.Has(t.Context(), bs[0].Cid)
		require.NoError(t, err)
		require.False(t, has)
		_, err = store.Get(t.Context(), bs[0].Cid)
		requireNotFound(t, err)
	})
}

func TestCloseFailsReadersThatAreOpeningAndHoldsNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, bs, ready := newStore(t), cartest.Blocks(1, 40, 1), cartest.Blocks(1, 40, 2)
		m := slowMount(bs)
		registerSlow(t, d, "slow", m)
		register(t, d, "ready", carMount(ready))
		ctx, cancel := context.WithCancel(t.Context())
		store, err := indexbs.NewIndexBackedBlockstore(ctx, d, nil, 2, 0)
		require.NoError(t, err)
		requireBlock(t, store, ready[0])
		done := make(chan error)
		go func() {
			_, err := store.Get(t.Context(), bs[0].Cid)
			done <- err
		}()
		<-m.fetching
		cancel() // the context given to New ends: the blockstore closes
		require.ErrorIs(t, <-done, indexbs.ErrClosed)
		require.NoError(t, store.Close())
		close(m.release)
		synctest.Wait()
		require.Equal(t, 0, references(t, d, "ready")+references(t, d, "slow"))

		_, err = store.Get(t.Context(), ready[0].Cid)
		require.ErrorIs(t, err, indexbs.ErrClosed)
		_, err = store.GetSize(t.Context(), ready[0].Cid)
		require.ErrorIs(t, err, indexbs.ErrClosed)
		_, err = store.Has(t.Context(), ready[0].Cid)
		require.ErrorIs(t, err, indexbs.ErrClosed)
	})
}

func TestCloseBesideReadersBreaksNoRead(t *testing.T) {
	d, bs := newStore(t), cartest.Blocks(20, 2000, 1)
	register(t, d, "k", carMount(bs))
	for range 10 {
		store := open(t, d, nil, 1, 0)
		var readers sync.WaitGroup
		for range 4 {
			readers.Go(func() {
				for i := 0; ; i++ {
					b, err := store.Get(t.Context(), bs[i%20].Cid)
					if errors.Is(err, indexbs.ErrClosed) {
						return
					}
					if err != nil || string(b.RawData()) != string(bs[i%20].Data) {
						t.Errorf("block lost: %v", err)
						return
					}
				}
			})
		}
		requireBlockOrClosed(t, store, bs[0])
		require.NoError(t, store.Close())
		readers.Wait()
	}
}

func requireBlockOrClosed(t *testing.T, store *indexbs.IndexBackedBlockstore, want cartest.Block) {
	t.Helper()
	if _, err := store.Get(t.Context(), want.Cid); !errors.Is(err, indexbs.ErrClosed) {
		require.NoError(t, err)
	}
}
