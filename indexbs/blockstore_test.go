package indexbs_test

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	blocks "github.com/ipfs/go-block-format"
	"github.com/ipfs/go-cid"
	ipld "github.com/ipfs/go-ipld-format"
	"github.com/multiformats/go-multihash"
	"github.com/stretchr/testify/require"

	"github.com/filecoin-project/dagstore"
	"github.com/filecoin-project/dagstore/index"
	"github.com/filecoin-project/dagstore/indexbs"
	"github.com/filecoin-project/dagstore/internal/cartest"
	"github.com/filecoin-project/dagstore/mount"
	"github.com/filecoin-project/dagstore/shard"
)

// boxoBlockstore is boxo's Blockstore, to which this module has no dependency.
type boxoBlockstore interface {
	DeleteBlock(context.Context, cid.Cid) error
	Has(context.Context, cid.Cid) (bool, error)
	Get(context.Context, cid.Cid) (blocks.Block, error)
	GetSize(context.Context, cid.Cid) (int, error)
	Put(context.Context, blocks.Block) error
	PutMany(context.Context, []blocks.Block) error
	AllKeysChan(ctx context.Context) (<-chan cid.Cid, error)
	HashOnRead(enabled bool)
}

var _ boxoBlockstore = (*indexbs.IndexBackedBlockstore)(nil)

// A testMount may fail, and may make its fetches wait.
type testMount struct {
	mount.BytesMount
	fail     atomic.Bool
	fetching chan struct{}
	release  chan struct{} // nil: fetches do not wait
}

func (m *testMount) Fetch(ctx context.Context) (mount.Reader, error) {
	if m.fail.Load() {
		return nil, errors.New("disk on fire")
	}
	if m.release != nil {
		m.fetching <- struct{}{}
		<-m.release
	}
	return m.BytesMount.Fetch(context.WithoutCancel(ctx))
}

func carMount(bs []cartest.Block) *testMount {
	return &testMount{BytesMount: mount.BytesMount{Bytes: cartest.V1(nil, bs)}}
}

// slowMount is a mount whose fetches wait until release is closed.
func slowMount(bs []cartest.Block) *testMount {
	m := carMount(bs)
	m.fetching, m.release = make(chan struct{}, 9), make(chan struct{})
	return m
}

func newStore(t *testing.T) *dagstore.DAGStore {
	t.Helper()
	d, err := dagstore.NewDAGStore(dagstore.Config{TransientsDir: t.TempDir(), IndexRepo: index.NewMemoryRepo()})
	require.NoError(t, err)
	require.NoError(t, d.Start(t.Context()))
	t.Cleanup(func() { require.NoError(t, d.Close()) })
	return d
}

func key(name string) shard.Key { return shard.KeyFromString(name) }

func register(t *testing.T, d *dagstore.DAGStore, name string, m mount.Mount) {
	t.Helper()
	require.NoError(t, dagstore.Register(t.Context(), d, key(name), m, dagstore.RegisterOpts{}))
}

func open(
	t *testing.T, d indexbs.IdxBstoreDagstore, choose indexbs.ShardSelectorF, size int, expire time.Duration,
) *indexbs.IndexBackedBlockstore {
	t.Helper()
	bs, err := indexbs.NewIndexBackedBlockstore(t.Context(), d, choose, size, expire)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, bs.Close()) })
	return bs
}

func requireBlock(t *testing.T, bs *indexbs.IndexBackedBlockstore, want cartest.Block) {
	t.Helper()
	b, err := bs.Get(t.Context(), want.Cid)
	require.NoError(t, err)
	require.Equal(t, want.Data, b.RawData())
}

func requireNotFound(t *testing.T, err error) {
	t.Helper()
	require.ErrorIs(t, err, indexbs.ErrBlockNotFound)
	require.True(t, ipld.IsNotFound(err))
}

func references(t *testing.T, d *dagstore.DAGStore, name string) int {
	t.Helper()
	info, err := d.GetShardInfo(key(name))
	require.NoError(t, err)
	return info.References()
}

func TestBlocksAreReadAcrossShards(t *testing.T) {
	d := newStore(t)
	var all []cartest.Block
	for i := range 3 {
		bs := cartest.Blocks(4, 30+i, uint64(i))
		register(t, d, fmt.Sprint(i), carMount(bs))
		all = append(all, bs...)
	}
	bs := open(t, indexbs.IdxBstoreDagstoreFromDagstore(d), nil, 2, 0)
	bs.HashOnRead(true)
	for _, want := range all {
		requireBlock(t, bs, want)
		size, err := bs.GetSize(t.Context(), want.Cid)
		require.NoError(t, err)
		require.Len(t, want.Data, size)
		has, err := bs.Has(t.Context(), want.Cid)
		require.NoError(t, err)
		require.True(t, has)
	}
	absent := cartest.Blocks(1, 10, 77)[0].Cid
	_, err := bs.Get(t.Context(), absent)
	requireNotFound(t, err)
	_, err = bs.GetSize(t.Context(), absent)
	requireNotFound(t, err)
	has, err := bs.Has(t.Context(), absent)
	require.NoError(t, err)
	require.False(t, has)
}

func TestBlockIsReadFromAnotherShardWhenOneFails(t *testing.T) {
	d := newStore(t)
	bs := cartest.Blocks(2, 40, 1)
	lost := append(cartest.Blocks(1, 40, 2), bs...)
	broken := carMount(lost)
	register(t, d, "broken", broken)
	register(t, d, "good", carMount(bs))
	broken.fail.Store(true)
	prefer := func(cid.Cid, []shard.Key) (shard.Key, error) { return key("broken"), nil }
	store := open(t, d, prefer, 2, 0)
	requireBlock(t, store, bs[1])

	_, err := store.Get(t.Context(), lost[0].Cid)
	require.ErrorContains(t, err, "disk on fire")
	require.False(t, ipld.IsNotFound(err), "a broken shard is not absence")
}

func TestDamagedBlockIsReadFromAnotherShardWhenHashesAreChecked(t *testing.T) {
	d := newStore(t)
	good := cartest.Blocks(1, 40, 1)
	register(t, d, "bad", carMount([]cartest.Block{{Cid: good[0].Cid, Data: make([]byte, 40)}}))
	register(t, d, "good", carMount(good))
	store := open(t, d, func(cid.Cid, []shard.Key) (shard.Key, error) { return key("bad"), nil }, 2, 0)
	store.HashOnRead(true)
	requireBlock(t, store, good[0])
}

func TestSelectorDecides(t *testing.T) {
	d := newStore(t)
	bs := cartest.Blocks(1, 40, 1)
	register(t, d, "a", carMount(bs))
	register(t, d, "b", carMount(bs))
	var choice shard.Key
	var refusal error
	store := open(t, d, func(_ cid.Cid, keys []shard.Key) (shard.Key, error) {
		if len(keys) == 0 {
			panic("asked about nothing")
		}
		clear(keys) // a selector may do with its copy what it likes
		return choice, refusal
	}, 2, 0)
	choice = key("b")
	requireBlock(t, store, bs[0])
	require.Equal(t, 0, references(t, d, "a"))
	require.Equal(t, 1, references(t, d, "b"))

	choice = shard.Key{}
	requireBlock(t, store, bs[0])

	refusal = indexbs.ErrNoShardSelected
	_, err := store.Get(t.Context(), bs[0].Cid)
	require.ErrorIs(t, err, indexbs.ErrNoShardSelected)
	requireNotFound(t, err)
	has, err := store.Has(t.Context(), bs[0].Cid)
	require.NoError(t, err)
	require.False(t, has)

	refusal = errors.New("price list unavailable")
	_, err = store.Has(t.Context(), bs[0].Cid)
	require.ErrorIs(t, err, refusal)

	_, err = store.Get(t.Context(), cartest.Blocks(1, 10, 5)[0].Cid)
	requireNotFound(t, err)
	_, err = store.Get(t.Context(), cid.Undef)
	require.Error(t, err)

	panicking := open(t, d, func(cid.Cid, []shard.Key) (shard.Key, error) { panic("selector") }, 1, 0)
	_, err = panicking.Get(t.Context(), bs[0].Cid)
	require.Error(t, err)
}

func TestOpenShardIsPreferred(t *testing.T) {
	d := newStore(t)
	shared, only := cartest.Blocks(1, 40, 1), cartest.Blocks(1, 40, 2)
	register(t, d, "a", carMount(shared))
	register(t, d, "b", carMount(append(only, shared...)))
	register(t, d, "c", carMount(shared))
	store := open(t, d, nil, 3, 0)
	requireBlock(t, store, only[0])
	requireBlock(t, store, shared[0])
	require.Equal(t, 0, references(t, d, "a")+references(t, d, "c"))
}

// A brokenIndex is a store whose top-level index fails.
type brokenIndex struct{ indexbs.IdxBstoreDagstore }

var errIndex = errors.New("index broken")

func (brokenIndex) ShardsContainingMultihash(context.Context, multihash.Multihash) ([]shard.Key, error) {
	return nil, errIndex
}

func TestErrorsOfTheIndexAreNotTakenForAbsence(t *testing.T) {
	store, c := open(t, brokenIndex{}, nil, 1, 0), cartest.Blocks(1, 10, 1)[0].Cid
	_, err := store.Has(t.Context(), c)
	require.ErrorIs(t, err, errIndex)
	_, err = store.Get(t.Context(), c)
	require.ErrorIs(t, err, errIndex)
	require.False(t, ipld.IsNotFound(err))
}

func TestWritesAreRefused(t *testing.T) {
	store := open(t, brokenIndex{}, nil, 1, 0)
	require.ErrorIs(t, store.Put(t.Context(), nil), indexbs.ErrReadOnly)
	require.ErrorIs(t, store.PutMany(t.Context(), nil), indexbs.ErrReadOnly)
	require.ErrorIs(t, store.DeleteBlock(t.Context(), cid.Undef), indexbs.ErrReadOnly)
	_, err := store.AllKeysChan(t.Context())
	require.ErrorIs(t, err, indexbs.ErrUnsupported)
}

func TestUnusableArgumentsAreRefused(t *testing.T) {
	var none context.Context
	_, err := indexbs.NewIndexBackedBlockstore(none, brokenIndex{}, nil, 1, 0)
	require.Error(t, err)
	_, err = indexbs.NewIndexBackedBlockstore(t.Context(), nil, nil, 1, 0)
	require.Error(t, err)
	_, err = indexbs.NewIndexBackedBlockstore(t.Context(), brokenIndex{}, nil, 0, 0)
	require.Error(t, err)
	_, err = indexbs.NewIndexBackedBlockstore(t.Context(), brokenIndex{}, nil, 1, -1)
	require.Error(t, err)
}
