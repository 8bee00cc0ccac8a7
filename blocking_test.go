package dagstore_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"

	"github.com/ipfs/go-cid"
	ipld "github.com/ipfs/go-ipld-format"
	mh "github.com/multiformats/go-multihash"
	"github.com/stretchr/testify/require"

	"github.com/filecoin-project/dagstore"
	"github.com/filecoin-project/dagstore/internal/cartest"
	"github.com/filecoin-project/dagstore/mount"
	"github.com/filecoin-project/dagstore/shard"
)

// blockingStore returns a started store that the test closes.
func blockingStore(t *testing.T) *dagstore.DAGStore {
	t.Helper()
	d, err := dagstore.NewDAGStore(dagstore.Config{TransientsDir: t.TempDir()})
	require.NoError(t, err)
	require.NoError(t, d.Start(t.Context()))
	t.Cleanup(func() { require.NoError(t, d.Close()) })
	return d
}

func bytesMount(bs []cartest.Block) mount.Mount {
	return &mount.BytesMount{Bytes: cartest.V1(nil, bs)}
}

func TestBlockingCallsLeadThroughALife(t *testing.T) {
	ctx, d, key := t.Context(), blockingStore(t), shard.KeyFromString("life")
	bs := cartest.Blocks(3, 50, 1)
	require.NoError(t, dagstore.Register(ctx, d, key, bytesMount(bs), dagstore.RegisterOpts{}))
	require.ErrorIs(t, dagstore.Register(ctx, d, key, bytesMount(bs), dagstore.RegisterOpts{}), dagstore.ErrShardExists)
	require.ErrorIs(t, dagstore.Recover(ctx, d, key), dagstore.ErrShardNotErrored)

	a, err := dagstore.Acquire(ctx, d, key)
	require.NoError(t, err)
	require.ErrorIs(t, dagstore.Destroy(ctx, d, key), dagstore.ErrShardInUse)
	require.NoError(t, a.Close())
	require.NoError(t, dagstore.Destroy(ctx, d, key))
	_, err = dagstore.Acquire(ctx, d, key)
	require.ErrorIs(t, err, dagstore.ErrShardUnknown)
}

func TestEndedContextAsksForNothing(t *testing.T) {
	d, key := blockingStore(t), shard.KeyFromString("k")
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	err := dagstore.Register(ended, d, key, bytesMount(cartest.Blocks(1, 10, 1)), dagstore.RegisterOpts{})
	require.ErrorIs(t, err, context.Canceled)
	_, err = d.GetShardInfo(key)
	require.ErrorIs(t, err, dagstore.ErrShardUnknown)

	var none context.Context
	require.Error(t, dagstore.Recover(none, d, key))
}

// A stuckMount delivers once released.
type stuckMount struct {
	mount.BytesMount
	fetching, release chan struct{}
}

func (m *stuckMount) Fetch(ctx context.Context) (mount.Reader, error) {
	m.fetching <- struct{}{}
	<-m.release
	return m.BytesMount.Fetch(context.WithoutCancel(ctx))
}

func TestAcquireThatWasGivenUpDoesNotHoldTheShard(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, key := blockingStore(t), shard.KeyFromString("slow")
		m := &stuckMount{fetching: make(chan struct{}, 9), release: make(chan struct{})}
		m.Bytes = cartest.V1(nil, cartest.Blocks(2, 20, 1))
		require.NoError(t, dagstore.Register(t.Context(), d, key, m, dagstore.RegisterOpts{LazyInitialization: true}))

		ctx, cancel := context.WithCancel(t.Context())
		gone := make(chan error)
		go func() {
			_, err := dagstore.Acquire(ctx, d, key)
			gone <- err
		}()
		<-m.fetching
		cancel()
		require.ErrorIs(t, <-gone, context.Canceled)
		close(m.release)
		synctest.Wait()
		info, err := d.GetShardInfo(key)
		require.NoError(t, err)
		require.Zero(t, info.References())
		require.NoError(t, dagstore.Destroy(t.Context(), d, key))
	})
}

func TestBlockIsReadFromAnotherShardWhenOneFails(t *testing.T) {
	ctx, d := t.Context(), blockingStore(t)
	bs := cartest.Blocks(2, 60, 4)
	broken := &faultyMount{BytesMount: mount.BytesMount{Bytes: cartest.V1(nil, bs)}}
	require.NoError(t, dagstore.Register(ctx, d, shard.KeyFromString("a"), broken, dagstore.RegisterOpts{}))
	broken.fail = errors.New("disk on fire")
	_, err := dagstore.GetBlock(ctx, d, bs[1].Cid)
	require.ErrorContains(t, err, "disk on fire")
	require.False(t, ipld.IsNotFound(err))

	require.NoError(t, dagstore.Register(ctx, d, shard.KeyFromString("b"), bytesMount(bs), dagstore.RegisterOpts{}))
	b, err := dagstore.GetBlock(ctx, d, bs[1].Cid)
	require.NoError(t, err)
	require.Equal(t, bs[1].Data, b.RawData())

	_, err = dagstore.GetBlock(ctx, d, cartest.Blocks(1, 8, 99)[0].Cid)
	require.True(t, ipld.IsNotFound(err))
	_, err = dagstore.GetBlock(ctx, d, cid.Undef)
	require.Error(t, err)
}

// A faultyMount fails once fail is set; it is set while nobody fetches.
type faultyMount struct {
	mount.BytesMount
	fail error
}

func (m *faultyMount) Fetch(ctx context.Context) (mount.Reader, error) {
	if m.fail != nil {
		return nil, m.fail
	}
	return m.BytesMount.Fetch(ctx)
}

// A fakeStore answers before its AcquireShard returns, as mocks do.
type fakeStore struct {
	dagstore.Interface
	before chan struct{}
	keys   []shard.Key
	err    error
}

func (f *fakeStore) AcquireShard(_ context.Context, _ shard.Key, out chan dagstore.ShardResult, _ dagstore.AcquireOpts) error {
	<-f.before
	out <- dagstore.ShardResult{}
	return nil
}

func (f *fakeStore) ShardsContainingMultihash(context.Context, mh.Multihash) ([]shard.Key, error) {
	return f.keys, f.err
}

func TestMockThatSendsBeforeItReturnsDoesNotHang(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fakeStore{before: make(chan struct{})}
		ctx, cancel := context.WithCancel(t.Context())
		gone := make(chan error)
		go func() {
			_, err := dagstore.Acquire(ctx, f, shard.KeyFromString("k"))
			gone <- err
		}()
		synctest.Wait()
		cancel()
		require.ErrorIs(t, <-gone, context.Canceled)
		close(f.before) // the bubble fails if the late send hangs

		_, err := dagstore.Acquire(t.Context(), &fakeStore{before: f.before}, shard.KeyFromString("k"))
		require.ErrorContains(t, err, "no accessor")
	})
}

func TestErrorsOfTheIndexAreNotTakenForAbsence(t *testing.T) {
	c := cartest.Blocks(1, 8, 1)[0].Cid
	_, err := dagstore.GetBlock(t.Context(), &fakeStore{err: errors.New("index broken")}, c)
	require.ErrorContains(t, err, "index broken")
	require.False(t, ipld.IsNotFound(err))

	ended, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = dagstore.GetBlock(ended, &fakeStore{keys: []shard.Key{shard.KeyFromString("k")}}, c)
	require.ErrorIs(t, err, context.Canceled)
}
