package indexbs_test

import (
	"bytes"
	"context"
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	blocks "github.com/ipfs/go-block-format"
	"github.com/ipfs/go-cid"
	"github.com/stretchr/testify/require"

	"github.com/filecoin-project/dagstore"
	"github.com/filecoin-project/dagstore/index"
	"github.com/filecoin-project/dagstore/indexbs"
	"github.com/filecoin-project/dagstore/internal/cartest"
	"github.com/filecoin-project/dagstore/mount"
	"github.com/filecoin-project/dagstore/shard"
)

// reads are the ways to read a block.
var reads = map[string]func(context.Context, getter, cid.Cid) error{
	"Get":     func(ctx context.Context, g getter, c cid.Cid) error { _, err := g.Get(ctx, c); return err },
	"GetSize": func(ctx context.Context, g getter, c cid.Cid) error { _, err := g.GetSize(ctx, c); return err },
	"View": func(ctx context.Context, g getter, c cid.Cid) error {
		return g.View(ctx, c, func([]byte) error { return nil })
	},
	"GetMany": func(ctx context.Context, g getter, c cid.Cid) error {
		return g.GetMany(ctx, []cid.Cid{c}, func(_ int, _ blocks.Block, err error) error { return err })
	},
}

func TestRepairedShardIsServedAgain(t *testing.T) {
	for name, read := range reads {
		t.Run(name, func(t *testing.T) {
			f, c := newFake(), cartest.Blocks(1, 40, 1)[0]
			sh := f.add("k", c)
			store := open(t, f, nil, 10, 0)
			for _, g := range []getter{store, session(t, store)} {
				require.NoError(t, read(t.Context(), g, c.Cid))
				sh.mended.Add(1)
				require.ErrorIs(t, read(t.Context(), g, c.Cid), errLost)
				f.requireNoneOpen(t)
				f.opened()
				require.NoError(t, read(t.Context(), g, c.Cid))
				require.NoError(t, read(t.Context(), g, c.Cid))
				require.Equal(t, 1, f.opened())
			}
		})
	}
}

func TestShardWhoseIndexFileWasMadeAnewIsServedAgain(t *testing.T) {
	dir, bs := t.TempDir(), cartest.Blocks(500, 50, 1)
	repo, err := index.NewFSRepo(dir)
	require.NoError(t, err)
	d, err := dagstore.NewDAGStore(dagstore.Config{TransientsDir: t.TempDir(), IndexRepo: repo})
	require.NoError(t, err)
	require.NoError(t, d.Start(t.Context()))
	t.Cleanup(func() { require.NoError(t, d.Close()) })
	register(t, d, "k", &mount.FileMount{Path: cartest.Write(t, "k.car", cartest.V1(nil, bs))})
	store := open(t, d, nil, 10, 0)
	s := session(t, store)
	requireReads(t, store, bs[0])
	requireReads(t, s, bs[0])

	path, lost := filepath.Join(dir, "k.full.idx"), bs[400]
	raw, err := os.ReadFile(path)
	require.NoError(t, err)
	digest := lost.Cid.Hash()[2:]
	at := bytes.Index(raw, digest)
	require.Positive(t, at)
	file, err := os.OpenFile(path, os.O_WRONLY, 0)
	require.NoError(t, err)
	_, err = file.WriteAt([]byte{9, 9}, int64(at+len(digest))) // where the block is
	require.NoError(t, errors.Join(err, file.Close()))

	_, err = store.Get(t.Context(), lost.Cid)
	require.Error(t, err)
	for _, g := range []getter{store, s} {
		require.Eventually(t, func() bool {
			_, err := g.Get(t.Context(), lost.Cid)
			return err == nil
		}, 10*time.Second, time.Millisecond)
		requireReads(t, g, bs...)
	}
	require.NoError(t, s.Close())
	require.NoError(t, store.Close())
	require.NoError(t, dagstore.Destroy(t.Context(), d, key("k")), "an accessor leaked")
}

func TestShardThatStaysBrokenIsOpenedOncePerRequestAtMost(t *testing.T) {
	prefer := func(cid.Cid, []shard.Key) (shard.Key, error) { return key("broken"), nil }
	for name, test := range map[string]struct {
		selector indexbs.ShardSelectorF
		opened   map[string]int
	}{
		"when it is preferred":                                 {prefer, map[string]int{"broken": 20, "good": 1}},
		"and then only if no shard that is open has the block": {nil, map[string]int{"broken": 1, "good": 1}},
	} {
		t.Run(name, func(t *testing.T) {
			f, bs := newFake(), cartest.Blocks(2, 40, 1)
			f.add("broken", bs[0], cartest.Block{Cid: bs[1].Cid, Data: make([]byte, 40)})
			f.add("good", bs...)
			store := open(t, f, test.selector, 2, 0)
			store.HashOnRead(true)
			for range 20 {
				requireReads(t, store, bs[1])
			}
			require.Equal(t, test.opened, f.acquired)
			require.EqualValues(t, 1, f.open.Load(), "the good one")
		})
	}
}

func TestBrokenShardTakesNoRoomFromOthers(t *testing.T) {
	f := newFake()
	all := shardsOf(f, 3)
	store := open(t, f, nil, 2, 0)
	requireReads(t, store, all[0][0], all[1][0])
	f.shards["1"].unreadable.Store(true)
	_, err := store.Get(t.Context(), all[1][0].Cid)
	require.ErrorIs(t, err, errUnreadable)
	requireReads(t, store, all[2][0], all[0][0])
	require.Equal(t, 3, f.opened(), "a good shard had to go")
	require.EqualValues(t, 2, f.open.Load())
}

func TestShardIsNotClosedForWhatIsNotItsFault(t *testing.T) {
	f := newFake()
	bs, elsewhere := cartest.Blocks(2, 40, 1), cartest.Blocks(1, 40, 2)[0]
	unverifiable := cartest.Block{Cid: cartest.Cid(0x3fffff, make([]byte, 32)), Data: []byte("data")}
	f.add("k", append(bs, unverifiable)...)
	f.add("lacks", elsewhere).car = cartest.V1(nil, bs)
	store := open(t, f, nil, 2, 0)
	store.HashOnRead(true)
	s := session(t, store)
	requireReads(t, s, bs...)
	_, err := store.Get(t.Context(), elsewhere.Cid)
	requireNotFound(t, err)
	f.opened()
	for _, g := range []getter{store, s} {
		_, err := g.Get(t.Context(), cartest.Blocks(1, 40, 3)[0].Cid)
		requireNotFound(t, err)
		_, err = g.Get(t.Context(), elsewhere.Cid)
		requireNotFound(t, err)
		_, err = g.Get(t.Context(), unverifiable.Cid)
		require.ErrorIs(t, err, dagstore.ErrUnknownHash)
		_, err = g.Get(t.Context(), cid.NewCidV1(cid.Raw, []byte("no multihash")))
		require.Error(t, err)
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		err = g.GetMany(ctx, cidsOf(bs), func(int, blocks.Block, error) error { cancel(); return nil })
		require.ErrorIs(t, err, context.Canceled)
		require.ErrorIs(t, g.View(t.Context(), bs[0].Cid, func([]byte) error { return errLost }), errLost)
		requireReads(t, g, bs...)
	}
	require.Zero(t, f.opened())
}

func TestShardIsNotClosedWhenAReaderGivesUp(t *testing.T) {
	f, bs := newFake(), cartest.Blocks(2, 40, 1)
	f.add("k", bs...)
	giveUp := func() {}
	s := session(t, open(t, f, func(_ cid.Cid, keys []shard.Key) (shard.Key, error) {
		giveUp()
		return keys[0], nil
	}, 1, 0))
	requireReads(t, s, bs...)
	for name, read := range reads {
		ctx, cancel := context.WithCancel(t.Context())
		giveUp = cancel
		require.ErrorIs(t, read(ctx, s, bs[0].Cid), context.Canceled, name)
		requireReads(t, s, bs...)
	}
	require.Equal(t, 1, f.opened())
}

func TestShardThatFailedOneReaderIsOpenedAnewForTheOthers(t *testing.T) {
	f, bs := newFake(), cartest.Blocks(2, 40, 1)
	sh := f.add("k", bs...)
	store := open(t, f, nil, 2, 0)
	first, second := session(t, store), session(t, store)
	requireReads(t, first, bs[0])
	requireReads(t, second, bs[0])
	require.NoError(t, second.View(t.Context(), bs[0].Cid, func(p []byte) error {
		sh.mended.Add(1)
		for _, g := range []getter{first, second} {
			_, err := g.Get(t.Context(), bs[1].Cid)
			if g == first {
				require.ErrorIs(t, err, errLost)
			} else {
				require.NoError(t, err)
			}
		}
		require.EqualValues(t, 2, f.open.Load(), "one is being viewed")
		require.Equal(t, bs[0].Data, p)
		return nil
	}))
	require.EqualValues(t, 1, f.open.Load(), "the session has taken back what failed")
	requireReads(t, first, bs...)
	requireReads(t, second, bs...)
	requireReads(t, store, bs...)
	require.Equal(t, 2, f.opened())
}

func TestShardThatBreaksUnderReadersIsNeitherLeakedNorLost(t *testing.T) {
	for _, expiry := range []time.Duration{0, time.Microsecond} {
		f := newFake()
		all := shardsOf(f, 3)
		store := open(t, f, nil, 2, expiry)
		shared := session(t, store)
		var readers sync.WaitGroup
		for g := range 8 {
			readers.Go(func() { breakAndRead(t, f, store, shared, all, uint64(g)) })
		}
		readers.Wait()
		for _, bs := range all {
			require.Eventually(t, func() bool {
				_, err := shared.Get(t.Context(), bs[0].Cid)
				return err == nil
			}, 10*time.Second, time.Microsecond)
			requireReads(t, shared, bs...)
			requireReads(t, store, bs...)
		}
		for range 4 {
			readers.Go(func() { breakAndRead(t, f, store, shared, all, 9) })
		}
		require.NoError(t, store.Close())
		readers.Wait()
		f.requireNoneOpen(t)
	}
}

// breakAndRead reads at random, in all ways, while accessors break, until the
// store is closed, or 50 times.
func breakAndRead(
	t *testing.T, f *fakeStore, store *indexbs.IndexBackedBlockstore, shared *indexbs.Session,
	all [][]cartest.Block, seed uint64,
) {
	r := rand.New(rand.NewPCG(seed, 6))
	own := store.NewSession(t.Context())
	defer own.Close()
	getters := []getter{store, shared, own}
	for range 50 {
		n := r.IntN(len(all))
		if r.IntN(4) == 0 {
			f.shards[f.names[n]].mended.Add(1)
		}
		for name, read := range reads {
			err := read(t.Context(), getters[r.IntN(len(getters))], all[n][r.IntN(2)].Cid)
			if errors.Is(err, indexbs.ErrClosed) {
				return
			}
			if err != nil && !errors.Is(err, errLost) {
				t.Errorf("%s: %v", name, err)
				return
			}
		}
	}
}
