package dagstore

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"

	ds "github.com/ipfs/go-datastore"
	logging "github.com/ipfs/go-log/v2"
	carindex "github.com/ipld/go-car/v2/index"
	mh "github.com/multiformats/go-multihash"

	"github.com/filecoin-project/dagstore/index"
	"github.com/filecoin-project/dagstore/internal/catalogue"
	"github.com/filecoin-project/dagstore/internal/indexbuild"
	"github.com/filecoin-project/dagstore/mount"
	"github.com/filecoin-project/dagstore/shard"
	"github.com/filecoin-project/dagstore/throttle"
)

var log = logging.Logger("dagstore")

// StoreNamespace is the namespace of the records of shards in the datastore.
var StoreNamespace = ds.NewKey("dagstore")

var (
	// ErrShardUnknown is the error for a key that no shard has.
	ErrShardUnknown = errors.New("shard not found")

	// ErrShardExists is the error for registering a key that a shard has.
	ErrShardExists = errors.New("shard already exists")

	// ErrShardInitializationFailed is what the error of a shard wraps that could
	// not be fetched or indexed.
	ErrShardInitializationFailed = errors.New("shard initialization failed")

	// ErrShardInUse is the error for destroying a shard that has open
	// accessors. Close them first.
	ErrShardInUse = errors.New("shard in use")

	// ErrShardNotErrored is the error for recovering a shard that did not fail.
	ErrShardNotErrored = errors.New("shard is not errored")

	// ErrClosed is the error for a request that the store did not serve because
	// it was closed.
	ErrClosed = errors.New("dagstore closed")
)

// Interface is what a DAGStore does, for programs that put something else in
// its place. It does not grow: new abilities are methods of DAGStore, or
// functions over Interface such as [Acquire].
type Interface interface {
	Start(ctx context.Context) error
	RegisterShard(ctx context.Context, key shard.Key, mnt mount.Mount, out chan ShardResult, opts RegisterOpts) error
	DestroyShard(ctx context.Context, key shard.Key, out chan ShardResult, _ DestroyOpts) error
	AcquireShard(ctx context.Context, key shard.Key, out chan ShardResult, _ AcquireOpts) error
	RecoverShard(ctx context.Context, key shard.Key, out chan ShardResult, _ RecoverOpts) error
	GetShardInfo(k shard.Key) (ShardInfo, error)
	GetIterableIndex(key shard.Key) (carindex.IterableIndex, error)
	AllShardsInfo() AllShardsInfo
	ShardsContainingMultihash(ctx context.Context, h mh.Multihash) ([]shard.Key, error)
	GC(ctx context.Context) (*GCResult, error)
	Close() error
}

var _ Interface = (*DAGStore)(nil)

// DAGStore is a store of shards. Its methods are safe for concurrent use. Make
// one with NewDAGStore and call Start; see the package documentation for what it
// guarantees.
type DAGStore struct {
	// TopLevelIndex is the index from multihashes to shards that the store was
	// configured with, or its own. Replacing it has no effect. Asked directly, it
	// passes by the shards that it lacks, and may name some that were destroyed: ask
	// ShardsContainingMultihash.
	TopLevelIndex index.Inverted

	config        Config
	registry      *mount.Registry
	indices       index.FullIndexRepo
	folder        *index.FSIndexRepo // indices, if it is exactly that: what wraps it has its own methods
	topLevel      *topLevel
	catalogue     *catalogue.Catalogue
	indexMemory   *indexbuild.Budget
	earlyScans    slots // of data that is being downloaded
	throttleIndex throttle.Throttler
	throttleFetch throttle.Throttler

	gate     *gate
	observed *observed

	ctx    context.Context // ends when Close begins: all work of the store runs under it
	cancel context.CancelFunc
	done   chan struct{} // closed when every goroutine of the store has ended
	start  sync.Once
	unlock func() error // gives the transients folder back; nil while it is not held
	unread []UnreadableRecord
}

// NewDAGStore returns a store that is not started: requests are taken on, and
// served after Start. It makes the transients folder if it is missing.
func NewDAGStore(cfg Config) (*DAGStore, error) {
	if cfg.TransientsDir == "" {
		return nil, errors.New("new dagstore: no transients folder; set Config.TransientsDir")
	}
	dir, err := filepath.Abs(cfg.TransientsDir)
	if err != nil {
		return nil, fmt.Errorf("new dagstore: transients folder: %w", err)
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, fmt.Errorf("new dagstore: transients folder: %w", err)
	}
	cfg.TransientsDir = dir
	if cfg.IndexRepo == nil {
		cfg.IndexRepo = index.NewMemoryRepo()
	}
	if cfg.MountRegistry == nil {
		cfg.MountRegistry = mount.NewRegistry()
	}
	if cfg.Datastore == nil {
		log.Warnw("no datastore is configured: shards will not survive a restart")
	}
	var earlyScans slots
	if cfg.MaxConcurrentIndex > 0 {
		earlyScans = make(slots, cfg.MaxConcurrentIndex)
	}
	folder, _ := cfg.IndexRepo.(*index.FSIndexRepo)
	d := &DAGStore{
		config:        cfg,
		registry:      cfg.MountRegistry,
		indices:       cfg.IndexRepo,
		folder:        folder,
		catalogue:     catalogue.New(cfg.Datastore, StoreNamespace),
		indexMemory:   indexbuild.NewBudget(cfg.IndexMemory),
		earlyScans:    earlyScans,
		throttleIndex: throttle.Fixed(cfg.MaxConcurrentIndex),
		throttleFetch: throttle.Fixed(cfg.MaxConcurrentReadyFetches),
		gate:          newGate(),
		observed:      &observed{traceCh: cfg.TraceCh, failureCh: cfg.FailureCh},
		done:          make(chan struct{}),
	}
	if d.topLevel, err = openTopLevel(d); err != nil {
		return nil, fmt.Errorf("new dagstore: %w", err)
	}
	d.TopLevelIndex = d.topLevel.inverted
	d.ctx, d.cancel = context.WithCancel(context.Background())
	return d, nil
}

// Start restores the shards that the datastore has records of, resumes what a
// restart interrupted, and begins to serve. ctx bounds only Start itself. A
// second Start is an error, and so is one whose transients folder another
// running store has; after an error the store can only be closed.
func (d *DAGStore) Start(ctx context.Context) error {
	if ctx == nil {
		return errNilContext
	}
	err := errors.New("start dagstore: it was started, or closed, before")
	d.start.Do(func() { err = d.restoreAndRun(ctx) })
	return err
}

func (d *DAGStore) restoreAndRun(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(d.ctx, cancel)() // Close ends a Start
	if err := d.restore(ctx); err != nil {
		go d.refuseAll()
		return fmt.Errorf("start dagstore: %w", err)
	}
	go d.run()
	return nil
}

// Close ends the store. Requests are refused from now on; those that were taken
// on and not answered get ErrClosed; work under way is cancelled. Close returns
// when every goroutine of the store has ended. An answer that nobody receives
// within a second is dropped. Open accessors stay usable until they are closed.
// Close may be called often and always returns nil, but not by what the store
// itself calls and awaits: mounts, indexers, indices, OnIndexProgress.
func (d *DAGStore) Close() error {
	d.gate.close()
	d.cancel()
	d.start.Do(func() { go d.refuseAll() })
	<-d.done
	return nil
}

// RegisterShard adds a shard: its data is behind mnt, which the store may from
// now on call at any time, also concurrently. It returns an error at once when
// the request is not taken on: a shard with this key exists (ErrShardExists), an
// argument is unusable, or the store is closed. Otherwise one result is sent on
// out, which may be nil: when the shard is indexed, or failed, or with
// LazyInitialization when it is recorded.
//
// ctx bounds the wait for the result and nothing else. When the store has a
// datastore, mnt must survive a restart: its type must be in the registry and
// its URL must lead back to it.
func (d *DAGStore) RegisterShard(
	ctx context.Context, key shard.Key, mnt mount.Mount, out chan ShardResult, opts RegisterOpts,
) error {
	if ctx == nil {
		return errNilContext
	}
	sh, err := d.newShard(key, mnt, opts)
	if err != nil {
		return fmt.Errorf("register shard %q: %w", key, err)
	}
	m := message{shard: sh, event: event{kind: evRegister}, caller: &caller{key: key, ctx: ctx, out: out}}
	if err := d.gate.register(m); err != nil {
		return fmt.Errorf("register shard %q: %w", key, err)
	}
	return nil
}

// AcquireShard asks for an accessor of a shard. It returns an error at once
// when the request is not taken on: there is no such shard (ErrShardUnknown), or
// the store is closed. Otherwise one result is sent on out; its accessor must be
// closed. A shard that was not indexed yet is indexed first, and one whose local
// copy is gone is fetched. When ctx ends first, nothing is sent and nothing is
// held.
func (d *DAGStore) AcquireShard(ctx context.Context, key shard.Key, out chan ShardResult, _ AcquireOpts) error {
	return d.request(ctx, "acquire", evAcquire, key, out)
}

// RecoverShard drops the local copy of a failed shard, fetches it and indexes
// it again. It returns an error at once when there is no such shard, and nothing
// is sent then. Otherwise one result is sent on out: nil when the shard is
// available, ErrShardNotErrored when it had not failed.
func (d *DAGStore) RecoverShard(ctx context.Context, key shard.Key, out chan ShardResult, _ RecoverOpts) error {
	return d.request(ctx, "recover", evRecover, key, out)
}

// DestroyShard removes a shard and everything that the store keeps of it: its
// record, its full index, its entries in the top-level index, its transient. It
// returns ErrShardUnknown at once when there is no such shard. Otherwise one
// result is sent on out: ErrShardInUse while accessors are open. What waits for
// the shard is answered with ErrShardUnknown. The key can be registered anew as
// soon as the result was sent.
func (d *DAGStore) DestroyShard(ctx context.Context, key shard.Key, out chan ShardResult, _ DestroyOpts) error {
	return d.request(ctx, "destroy", evDestroy, key, out)
}

func (d *DAGStore) request(ctx context.Context, what string, kind eventKind, key shard.Key, out chan ShardResult) error {
	if ctx == nil {
		return errNilContext
	}
	err := d.gate.request(key, message{event: event{kind: kind}, caller: &caller{key: key, ctx: ctx, out: out}})
	if err == nil || errors.Is(err, ErrShardUnknown) {
		return err // services compare with ErrShardUnknown itself
	}
	return fmt.Errorf("%s shard %q: %w", what, key, err)
}

// GetShardInfo returns where the shard with key k stands, or ErrShardUnknown.
func (d *DAGStore) GetShardInfo(k shard.Key) (ShardInfo, error) { return d.gate.info(k) }

// AllShardsInfo returns where every shard stands.
func (d *DAGStore) AllShardsInfo() AllShardsInfo { return d.gate.infos() }

// Stats counts the shards by state. States without shards are left out.
func (d *DAGStore) Stats() map[ShardState]int {
	stats := map[ShardState]int{}
	for _, info := range d.gate.infos() {
		stats[info.ShardState]++
	}
	return stats
}

// GetIterableIndex returns the full index of a shard. An index that is missing
// gives an error that is index.ErrNotFound and fs.ErrNotExist. It may also be an
// index.RecordIterator, which is faster to go through, and an index.Releaser; see
// index.RangeIteratorOf for ranges of it, and ShardMultihashes. An index that no
// part of this process has read yet is read whole first; a damaged one gives an
// error that is index.ErrDamaged, and is made again.
func (d *DAGStore) GetIterableIndex(key shard.Key) (carindex.IterableIndex, error) {
	idx, err := d.verifiedIndex(context.Background(), key)
	if err != nil {
		return nil, fmt.Errorf("full index of shard %q: %w", key, err)
	}
	return idx, nil
}

// DroppedTraces returns how many traces were dropped because Config.TraceCh was
// not read fast enough.
func (d *DAGStore) DroppedTraces() uint64 { return d.observed.dropped.Load() }

var errNilContext = errors.New("nil context; use context.Background()")
