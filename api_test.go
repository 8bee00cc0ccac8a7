package dagstore_test

import (
	"context"
	"fmt"
	"io"
	"iter"
	"net/url"
	"reflect"
	"testing"
	"time"

	blocks "github.com/ipfs/go-block-format"
	"github.com/ipfs/go-cid"
	ds "github.com/ipfs/go-datastore"
	carindex "github.com/ipld/go-car/v2/index"
	mh "github.com/multiformats/go-multihash"
	"github.com/stretchr/testify/require"

	"github.com/filecoin-project/dagstore"
	"github.com/filecoin-project/dagstore/index"
	"github.com/filecoin-project/dagstore/indexbs"
	"github.com/filecoin-project/dagstore/mount"
	"github.com/filecoin-project/dagstore/shard"
	"github.com/filecoin-project/dagstore/throttle"
)

// What follows is what programs written against v0.7 use. If it does not
// compile, they do not either.

type (
	dagctx = context.Context
	out    = chan dagstore.ShardResult
)

// storeMethods has every method of dagstore.Interface, and no other.
type storeMethods interface {
	Start(ctx dagctx) error
	RegisterShard(ctx dagctx, key shard.Key, mnt mount.Mount, o out, opts dagstore.RegisterOpts) error
	DestroyShard(ctx dagctx, key shard.Key, o out, _ dagstore.DestroyOpts) error
	AcquireShard(ctx dagctx, key shard.Key, o out, _ dagstore.AcquireOpts) error
	RecoverShard(ctx dagctx, key shard.Key, o out, _ dagstore.RecoverOpts) error
	GetShardInfo(k shard.Key) (dagstore.ShardInfo, error)
	GetIterableIndex(key shard.Key) (carindex.IterableIndex, error)
	AllShardsInfo() dagstore.AllShardsInfo
	ShardsContainingMultihash(ctx dagctx, h mh.Multihash) ([]shard.Key, error)
	GC(ctx dagctx) (*dagstore.GCResult, error)
	Close() error
}

var (
	_ func(dagstore.Config) (*dagstore.DAGStore, error)                                          = dagstore.NewDAGStore
	_ func(mount.Reader, carindex.Index, *dagstore.Shard) (*dagstore.ShardAccessor, error)       = dagstore.NewShardAccessor
	_ func(dagctx, *dagstore.DAGStore, chan dagstore.ShardResult, uint64, func())                = dagstore.RecoverImmediately
	_ func(*dagstore.DAGStore, dagctx, shard.Key, out, dagstore.AcquireOpts) error               = (*dagstore.DAGStore).AcquireShard
	_ func(*dagstore.DAGStore, dagctx, shard.Key, out, dagstore.DestroyOpts) error               = (*dagstore.DAGStore).DestroyShard
	_ func(*dagstore.DAGStore, dagctx, shard.Key, out, dagstore.RecoverOpts) error               = (*dagstore.DAGStore).RecoverShard
	_ func(*dagstore.DAGStore, dagctx, shard.Key, mount.Mount, out, dagstore.RegisterOpts) error = (*dagstore.DAGStore).RegisterShard
	_ func(*dagstore.DAGStore) map[dagstore.ShardState]int                                       = (*dagstore.DAGStore).Stats
	_ func(*dagstore.GCResult) int                                                               = (*dagstore.GCResult).ShardFailures
	_ func(*dagstore.Shard) ([]byte, error)                                                      = (*dagstore.Shard).MarshalJSON
	_ func(*dagstore.Shard, []byte) error                                                        = (*dagstore.Shard).UnmarshalJSON
	_ func(*dagstore.ShardAccessor) (dagstore.ReadBlockstore, error)                             = (*dagstore.ShardAccessor).Blockstore
	_ func(*dagstore.ShardAccessor) io.Reader                                                    = (*dagstore.ShardAccessor).Reader
	_ func(*dagstore.ShardAccessor) shard.Key                                                    = (*dagstore.ShardAccessor).Shard
	_ func(*dagstore.ShardAccessor) error                                                        = (*dagstore.ShardAccessor).Close
	_ dagstore.ShardIndexer                                                                      = func(dagctx, shard.Key, mount.Reader) (carindex.Index, error) { return nil, nil }
	_ ds.Key                                                                                     = dagstore.StoreNamespace
	_ map[shard.Key]dagstore.ShardInfo                                                           = dagstore.AllShardsInfo{}
	_ index.Inverted                                                                             = (&dagstore.DAGStore{}).TopLevelIndex

	_ = []error{dagstore.ErrShardUnknown, dagstore.ErrShardExists, dagstore.ErrShardInitializationFailed, dagstore.ErrShardInUse}
	_ = []error{mount.ErrSeekUnsupported, mount.ErrRandomAccessUnsupported, mount.ErrUnrecognizedScheme, mount.ErrUnrecognizedType}
	_ = []error{index.ErrNotFound, indexbs.ErrNoShardSelected, indexbs.ErrBlockNotFound}

	_ = dagstore.Config{
		TransientsDir: "", IndexRepo: nil, TopLevelIndex: nil, Datastore: nil, MountRegistry: nil,
		TraceCh: (chan<- dagstore.Trace)(nil), FailureCh: (chan<- dagstore.ShardResult)(nil),
		MaxConcurrentIndex: 0, MaxConcurrentReadyFetches: 0,
		RecoverOnStart: dagstore.DoNotRecover, ShardIndexer: nil,
	}
	_ = dagstore.RegisterOpts{ExistingTransient: "", LazyInitialization: false}
	_ = dagstore.Trace{Key: shard.Key{}, Op: dagstore.OpShardRegister, After: dagstore.ShardInfo{ShardState: 0, Error: nil}}
	_ = dagstore.ShardResult{Key: shard.Key{}, Error: nil, Accessor: nil}
	_ = dagstore.GCResult{Shards: map[shard.Key]error{}}

	_ dagstore.Interface      = storeMethods(nil)
	_ storeMethods            = dagstore.Interface(nil)
	_ dagstore.ReadBlockstore = interface {
		Has(dagctx, cid.Cid) (bool, error)
		Get(dagctx, cid.Cid) (blocks.Block, error)
		GetSize(dagctx, cid.Cid) (int, error)
		AllKeysChan(ctx dagctx) (<-chan cid.Cid, error)
		HashOnRead(enabled bool)
	}(nil)

	_ func(string) shard.Key                               = shard.KeyFromString
	_ func([]byte) shard.Key                               = shard.KeyFromBytes
	_ func(cid.Cid) shard.Key                              = shard.KeyFromCID
	_ func(int) throttle.Throttler                         = throttle.Fixed
	_ func() throttle.Throttler                            = throttle.Noop
	_ func() *mount.Registry                               = mount.NewRegistry
	_ func(*mount.Registry, string, mount.Mount) error     = (*mount.Registry).Register
	_ func(*mount.Registry, *url.URL) (mount.Mount, error) = (*mount.Registry).Instantiate
	_ func(*mount.Registry, mount.Mount) (*url.URL, error) = (*mount.Registry).Represent
	_ index.Repo                                           = index.NewMemoryRepo()
	_ func(string) (*index.FSIndexRepo, error)             = index.NewFSRepo
	_ index.Inverted                                       = index.NewInverted(nil)
	_ index.Repo                                           = (*index.FSIndexRepo)(nil)

	_ mount.Mount = interface {
		io.Closer
		Fetch(dagctx) (mount.Reader, error)
		Info() mount.Info
		Stat(dagctx) (mount.Stat, error)
		Serialize() *url.URL
		Deserialize(*url.URL) error
	}(nil)
	_ mount.Reader = interface {
		io.Closer
		io.Reader
		io.ReaderAt
		io.Seeker
	}(nil)
	_                                   = mount.Info{Kind: mount.KindRemote, AccessSequential: true, AccessSeek: true, AccessRandom: true}
	_                                   = mount.Stat{Exists: true, Size: int64(0), Ready: true}
	_ mount.Reader                      = &mount.NopCloser{Reader: nil, ReaderAt: nil, Seeker: nil}
	_ mount.Mount                       = &mount.FileMount{Path: ""}
	_ mount.Mount                       = &mount.FSMount{FS: nil, Path: ""}
	_ mount.Mount                       = &mount.BytesMount{Bytes: nil}
	_ mount.Mount                       = &mount.Counting{Mount: nil}
	_ mount.Mount                       = (*mount.Upgrader)(nil)
	_ func(*mount.Counting) int         = (*mount.Counting).Count
	_ func(*mount.Upgrader) string      = (*mount.Upgrader).TransientPath
	_ func(*mount.Upgrader) error       = (*mount.Upgrader).DeleteTransient
	_ func(*mount.Upgrader) int         = (*mount.Upgrader).TimesFetched
	_ func(*mount.Upgrader) mount.Mount = (*mount.Upgrader).Underlying
	_ throttle.Throttler                = interface {
		Do(dagctx, func(dagctx) error) error
	}(nil)
	_ index.FullIndexRepo = interface {
		Len() (int, error)
		ForEach(func(shard.Key) (bool, error)) error
		Size() (uint64, error)
		GetFullIndex(shard.Key) (carindex.Index, error)
		AddFullIndex(shard.Key, carindex.Index) error
		DropFullIndex(shard.Key) (bool, error)
		StatFullIndex(shard.Key) (index.Stat, error)
	}(nil)
	_ index.Inverted = interface {
		AddMultihashesForShard(dagctx, index.MultihashIterator, shard.Key) error
		GetShardsForMultihash(dagctx, mh.Multihash) ([]shard.Key, error)
	}(nil)
	_ index.MultihashIterator = interface {
		ForEach(func(mh.Multihash) error) error
	}(nil)
	_                           = index.Stat{Exists: true, Size: uint64(0)}
	_ indexbs.IdxBstoreDagstore = dagstore.Interface(nil)

	_ func(mount.Mount, throttle.Throttler, string, string, string) (*mount.Upgrader, error)                                      = mount.Upgrade
	_ indexbs.ShardSelectorF                                                                                                      = func(cid.Cid, []shard.Key) (shard.Key, error) { return shard.Key{}, nil }
	_ func(dagstore.Interface) indexbs.IdxBstoreDagstore                                                                          = indexbs.IdxBstoreDagstoreFromDagstore
	_ func(dagctx, indexbs.IdxBstoreDagstore, indexbs.ShardSelectorF, int, time.Duration) (*indexbs.IndexBackedBlockstore, error) = indexbs.NewIndexBackedBlockstore
)

// What follows has come since, and programs use it by now.
var (
	_ index.ShardRemover = interface {
		RemoveShard(dagctx, shard.Key, index.MultihashIterator) error
	}(nil)
	_ index.ShardLister = interface {
		Shards(dagctx) ([]shard.Key, error)
	}(nil)
	_ index.BatchInverted = interface {
		GetShardsForMultihashes(dagctx, []mh.Multihash) ([][]shard.Key, error)
	}(nil)
	_ index.FirstInverted = interface {
		GetFirstShardForMultihash(dagctx, mh.Multihash) (shard.Key, error)
	}(nil)
	_ index.RecordIterator = interface {
		ForEachRecord(func(code uint64, digest []byte, offset uint64) error) error
	}(nil)
	_ index.RangeIterator = interface {
		ForEachInRange(r index.MultihashRange, visit func(h mh.Multihash, offset uint64) bool) error
	}(nil)
	_ indexbs.BatchDagstore = interface {
		ShardsContainingMultihashes(dagctx, []mh.Multihash) ([][]shard.Key, error)
	}(nil)
	_ interface {
		io.Closer
		Has(dagctx, cid.Cid) (bool, error)
		Get(dagctx, cid.Cid) (blocks.Block, error)
		GetSize(dagctx, cid.Cid) (int, error)
		View(dagctx, cid.Cid, func([]byte) error) error
		GetMany(dagctx, []cid.Cid, func(int, blocks.Block, error) error) error
	} = (*indexbs.Session)(nil)
	_ dagstore.BlockViewer = interface {
		View(dagctx, cid.Cid, func([]byte) error) error
	}(nil)
	_ dagstore.BlocksGetter = interface {
		GetMany(dagctx, []cid.Cid, func(int, blocks.Block, error) error) error
	}(nil)
	_ mount.Cloner   = interface{ Clone() mount.Mount }(nil)
	_ index.Verifier = interface{ Verify(dagctx) error }(nil)
	_ index.Releaser = interface{ Release() }(nil)

	_ = index.FSInvertedOptions{ReadOnly: false, Anew: false}
	_ = index.MultihashRange{After: mh.Multihash(nil), Through: mh.Multihash(nil)}
	_ = dagstore.ShardMultihash{Shard: shard.Key{}, Multihash: mh.Multihash(nil)}
	_ = dagstore.Config{TopLevelDir: "", IndexMemory: int64(0), VerifyBlocks: false, OnIndexProgress: func(shard.Key, dagstore.IndexProgress) {}}
	_ = []error{index.ErrDamaged, mount.ErrFetching, indexbs.ErrClosed, dagstore.ErrMalformedCAR}

	_ func(dagctx, string, index.FSInvertedOptions) (*index.FSInverted, error)                                                  = index.OpenFSInverted
	_ func() *index.FSInverted                                                                                                  = index.NewMemoryInverted
	_ func(dagctx, string, index.FullIndexRepo, func(done, all int)) error                                                      = index.RebuildFSInverted
	_ func(*index.FSInverted, dagctx) error                                                                                     = (*index.FSInverted).Reset
	_ func(*index.FSInverted, dagctx) error                                                                                     = (*index.FSInverted).Verify
	_ func(*index.FSInverted) error                                                                                             = (*index.FSInverted).Close
	_ func(*mount.Upgrader, dagctx) error                                                                                       = (*mount.Upgrader).Prepare
	_ func(*mount.Upgrader, dagctx, io.Writer) (bool, error)                                                                    = (*mount.Upgrader).PrepareTapped
	_ func(*dagstore.DAGStore, dagctx, []mh.Multihash) ([][]shard.Key, error)                                                   = (*dagstore.DAGStore).ShardsContainingMultihashes
	_ func(*dagstore.DAGStore, dagctx, mh.Multihash) (shard.Key, error)                                                         = (*dagstore.DAGStore).FirstShardContainingMultihash
	_ func(*dagstore.DAGStore, dagctx, shard.Key, index.MultihashRange) iter.Seq2[mh.Multihash, error]                          = (*dagstore.DAGStore).ShardMultihashes
	_ func(*dagstore.DAGStore, dagctx, index.MultihashRange, dagstore.ShardMultihash) iter.Seq2[dagstore.ShardMultihash, error] = (*dagstore.DAGStore).AllMultihashes
	_ func(a, b mh.Multihash) int                                                                                               = index.CompareMultihashes
	_ func(dagctx, carindex.IterableIndex) (index.RangeIterator, error)                                                         = index.RangeIteratorOf
	_ func(dagctx, dagstore.Interface, cid.Cid) (blocks.Block, error)                                                           = dagstore.GetBlock
	_ func(*indexbs.IndexBackedBlockstore, dagctx) *indexbs.Session                                                             = (*indexbs.IndexBackedBlockstore).NewSession
	_ func(*indexbs.IndexBackedBlockstore, dagctx, []cid.Cid, func(int, blocks.Block, error) error) error                       = (*indexbs.IndexBackedBlockstore).GetMany
)

var _ = []any{
	index.ShardRemover((*index.FSInverted)(nil)), index.ShardLister((*index.FSInverted)(nil)),
	index.BatchInverted((*index.FSInverted)(nil)), index.FirstInverted((*index.FSInverted)(nil)),
	index.Inverted((*index.FSInverted)(nil)), indexbs.BatchDagstore((*dagstore.DAGStore)(nil)),
}

func TestNumbersAndTagsThatProgramsAndRecordsRelyOn(t *testing.T) {
	for want, state := range map[byte]dagstore.ShardState{
		0: dagstore.ShardStateNew, 1: dagstore.ShardStateInitializing, 2: dagstore.ShardStateAvailable, 3: dagstore.ShardStateServing,
		0x80: dagstore.ShardStateRecovering, 0xf0: dagstore.ShardStateErrored, 0xff: dagstore.ShardStateUnknown,
	} {
		require.Equal(t, want, byte(state))
	}
	for want, op := range []dagstore.OpType{
		dagstore.OpShardRegister, dagstore.OpShardInitialize, dagstore.OpShardMakeAvailable, dagstore.OpShardDestroy,
		dagstore.OpShardAcquire, dagstore.OpShardFail, dagstore.OpShardRelease, dagstore.OpShardRecover,
	} {
		require.Equal(t, want, int(op))
	}
	for want, policy := range []dagstore.RecoverOnStartPolicy{dagstore.DoNotRecover, dagstore.RecoverOnAcquire, dagstore.RecoverNow} {
		require.Equal(t, want, int(policy))
	}
	require.Equal(t, "/dagstore", dagstore.StoreNamespace.String())
	require.EqualValues(t, 0, mount.KindLocal)
	require.EqualValues(t, 1, mount.KindRemote)

	var tags []string
	record := reflect.TypeFor[dagstore.PersistedShard]()
	for i := range record.NumField() {
		f := record.Field(i)
		tags = append(tags, fmt.Sprint(f.Name, " ", f.Type, " ", f.Tag))
	}
	require.Equal(t, []string{
		`Key string json:"k"`, `URL string json:"u"`, `TransientPath string json:"t"`,
		`State dagstore.ShardState json:"s"`, `Lazy bool json:"l"`, `Error string json:"e"`,
	}, tags)
	require.EqualError(t, dagstore.ErrShardUnknown, "shard not found")
	require.EqualError(t, dagstore.ErrShardExists, "shard already exists")
	require.EqualError(t, dagstore.ErrShardInitializationFailed, "shard initialization failed")
	require.EqualError(t, dagstore.ErrShardInUse, "shard in use")
}
