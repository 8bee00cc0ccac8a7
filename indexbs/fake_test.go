package indexbs_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"testing"

	ds "github.com/ipfs/go-datastore"
	carindex "github.com/ipld/go-car/v2/index"
	"github.com/multiformats/go-multihash"
	"github.com/stretchr/testify/require"

	"github.com/filecoin-project/dagstore"
	"github.com/filecoin-project/dagstore/indexbs"
	"github.com/filecoin-project/dagstore/internal/cartest"
	"github.com/filecoin-project/dagstore/shard"
)

// A fakeStore counts what is asked of it. Its methods are called concurrently,
// its fields are set before.
type fakeStore struct {
	shards map[string]*fakeShard
	names  []string // in the order of registration

	lookUps   atomic.Int64
	brokenTop atomic.Bool
	open      atomic.Int64 // accessors
	mu        sync.Mutex   // guards acquired
	acquired  map[string]int
}

type fakeShard struct {
	car         []byte
	blocks      []cartest.Block
	unavailable atomic.Bool                            // it cannot be opened
	unknown     atomic.Bool                            // the store has no such shard, whatever the index says
	unreadable  atomic.Bool                            // it can be opened, but not be read
	mended      atomic.Int64                           // how often; accessors that were open then fail for good
	accessor    atomic.Pointer[dagstore.ShardAccessor] // the last
}

var (
	errUnavailable = errors.New("sector sealed")
	errUnreadable  = errors.New("disk on fire")

	// errLost is what a mount's client says, whatever the reader's own context does.
	errLost = fmt.Errorf("connection lost: %w", context.DeadlineExceeded)
)

func newFake() *fakeStore {
	return &fakeStore{shards: map[string]*fakeShard{}, acquired: map[string]int{}}
}

func (f *fakeStore) add(name string, bs ...cartest.Block) *fakeShard {
	sh := &fakeShard{car: cartest.V1(nil, bs), blocks: bs}
	f.shards[name] = sh
	f.names = append(f.names, name)
	return sh
}

func (f *fakeStore) ShardsContainingMultihash(_ context.Context, h multihash.Multihash) ([]shard.Key, error) {
	f.lookUps.Add(1)
	if f.brokenTop.Load() {
		return nil, errIndex
	}
	if keys := f.find(h); keys != nil {
		return keys, nil
	}
	return nil, ds.ErrNotFound
}

func (f *fakeStore) find(h multihash.Multihash) (keys []shard.Key) {
	for _, name := range f.names {
		for _, b := range f.shards[name].blocks {
			if bytes.Equal(b.Cid.Hash(), h) {
				keys = append(keys, key(name))
				break
			}
		}
	}
	return keys
}

func (f *fakeStore) GetIterableIndex(shard.Key) (carindex.IterableIndex, error) {
	return nil, errors.ErrUnsupported
}

func (f *fakeStore) AcquireShard(
	ctx context.Context, k shard.Key, out chan dagstore.ShardResult, _ dagstore.AcquireOpts,
) error {
	f.mu.Lock()
	f.acquired[k.String()]++
	f.mu.Unlock()
	sh := f.shards[k.String()]
	if sh == nil || sh.unknown.Load() {
		return dagstore.ErrShardUnknown
	}
	if sh.unavailable.Load() {
		return errUnavailable
	}
	a, err := dagstore.NewShardAccessor(&fakeReader{bytes.NewReader(sh.car), sh, f, sh.mended.Load()}, nil, nil)
	if err != nil {
		return err
	}
	f.open.Add(1)
	sh.accessor.Store(a)
	select {
	case out <- dagstore.ShardResult{Key: k, Accessor: a}:
		return nil
	case <-ctx.Done():
		return errors.Join(ctx.Err(), a.Close())
	}
}

// opened returns how often shards were opened since it was called last.
func (f *fakeStore) opened() (n int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, times := range f.acquired {
		n += times
	}
	clear(f.acquired)
	return n
}

func (f *fakeStore) requireNoneOpen(t *testing.T) {
	t.Helper()
	require.Zero(t, f.open.Load(), "accessors leaked")
}

// A fakeReader is the data of a shard in memory.
type fakeReader struct {
	*bytes.Reader
	shard  *fakeShard
	store  *fakeStore
	mended int64 // of the shard, when it was opened
}

func (r *fakeReader) ReadAt(p []byte, off int64) (int, error) {
	if r.shard.unreadable.Load() {
		return 0, errUnreadable
	}
	if r.shard.mended.Load() != r.mended {
		return 0, errLost
	}
	return r.Reader.ReadAt(p, off)
}

func (r *fakeReader) Read([]byte) (int, error) { return 0, io.ErrNoProgress }

func (r *fakeReader) Close() error {
	r.store.open.Add(-1)
	return nil
}

// A batchStore is a fakeStore that answers many questions at once.
type batchStore struct {
	*fakeStore
	batches atomic.Int64
	answers func([][]shard.Key) [][]shard.Key // what is made of the right ones; nil: nothing
}

func (f *batchStore) ShardsContainingMultihashes(_ context.Context, hs []multihash.Multihash) ([][]shard.Key, error) {
	f.batches.Add(1)
	if f.brokenTop.Load() {
		return nil, errIndex
	}
	all := make([][]shard.Key, len(hs))
	for i, h := range hs {
		all[i] = f.find(h)
	}
	if f.answers != nil {
		all = f.answers(all)
	}
	return all, nil
}

var _ indexbs.BatchDagstore = (*batchStore)(nil)

// concat returns all blocks of several slices.
func concat(all ...[]cartest.Block) (bs []cartest.Block) {
	for _, some := range all {
		bs = append(bs, some...)
	}
	return bs
}
