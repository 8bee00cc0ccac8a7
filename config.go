package dagstore

import (
	"context"

	ds "github.com/ipfs/go-datastore"
	carindex "github.com/ipld/go-car/v2/index"

	"github.com/filecoin-project/dagstore/index"
	"github.com/filecoin-project/dagstore/mount"
	"github.com/filecoin-project/dagstore/shard"
)

// Config is what a store is made of. Everything but TransientsDir may be left
// out.
type Config struct {
	// TransientsDir is the folder for local copies of shards whose mounts cannot
	// be read at random. One running store owns it: at start, files in it that
	// no shard refers to are removed; folders and links are left alone.
	TransientsDir string

	// IndexRepo keeps the full index of every shard. Nil keeps them in memory.
	IndexRepo index.FullIndexRepo

	// TopLevelIndex maps multihashes to shards. Nil has the store make its own. If
	// it is an index.ShardLister, Start adds the shards that it lacks; if it is an
	// index.ShardRemover, destroyed shards are removed from it. Who asks it directly,
	// and not through the store, does not find the shards that it still lacks.
	TopLevelIndex index.Inverted

	// TopLevelDir is the folder of the store's own top-level index; see
	// index.OpenFSInverted. The store opens it in NewDAGStore and closes it in the
	// end. Damaged, it is made anew from the full indices; shards in it that have no
	// record in the Datastore are removed at Start. Empty keeps the index in memory,
	// from where it is made anew at each start. It has no meaning beside a
	// TopLevelIndex.
	TopLevelDir string

	// Datastore keeps a record of every shard. Without one, nothing survives a
	// restart. One that is also a datastore.Batching gets all changes that have
	// gathered in one batch, with one sync.
	Datastore ds.Datastore

	// MountRegistry has a template of every type of mount that shards use.
	MountRegistry *mount.Registry

	// TraceCh gets every operation, in the order in which they were performed.
	// Nobody waits for its reader: up to 65,536 undelivered traces are kept, then
	// the oldest are dropped (see DAGStore.DroppedTraces).
	TraceCh chan<- Trace

	// FailureCh gets a result whenever a shard becomes Errored. Nobody waits for
	// its reader, and no failure is dropped, but of several of one shard that
	// were not read, only the last is kept. Its reader may call the store. See
	// RecoverImmediately.
	FailureCh chan<- ShardResult

	// MaxConcurrentIndex is how many shards are indexed at once. 0 is no bound. As
	// many again are passed over while they are being downloaded.
	MaxConcurrentIndex int

	// MaxConcurrentReadyFetches is how many mounts that report themselves ready
	// are copied at once. 0 is no bound. Mounts that are not ready, and may take
	// long, are not counted.
	MaxConcurrentReadyFetches int

	// RecoverOnStart says what becomes of failed shards at Start.
	RecoverOnStart RecoverOnStartPolicy

	// ShardIndexer makes the full index of a shard. Nil reads the sections of
	// the CAR, of one that is being downloaded while it arrives; an index that a
	// CARv2 brings along is never believed.
	ShardIndexer ShardIndexer

	// IndexMemory bounds the memory, in bytes, in which all shards that are being
	// indexed together collect their records, 40 bytes for each block with a
	// sha2-256 CID. What does not fit is sorted and put aside in TransientsDir
	// until the index is written. Each shard may use 1 MiB in any case. On Linux
	// most of it is not in Go's heap, and GOMEMLIMIT does not count it. 0 is
	// 256 MiB. It does not concern a ShardIndexer.
	IndexMemory int64

	// VerifyBlocks makes the indexing compare every block with its hash, on as
	// many cores as there are. It reads all of the data, whereas indexing alone
	// passes over large blocks. A block that differs fails the shard with
	// ErrHashMismatch. A full index that is there already is not adopted then. It
	// does not concern a ShardIndexer.
	VerifyBlocks bool

	// OnIndexProgress is told, about once for each MiB, how far the indexing of a
	// shard has come. It is called by the goroutine that indexes, and holds it
	// up. Attempts that are repeated begin anew. It does not concern a
	// ShardIndexer.
	OnIndexProgress func(shard.Key, IndexProgress)
}

// IndexProgress is how far the indexing of a shard has come.
type IndexProgress struct {
	Bytes  int64 // of the file that have been passed
	Blocks int64 // that were found
}

// A ShardIndexer makes the full index of a shard from its data: from multihashes
// to offsets of sections in the CARv1 payload. The reader is positioned at the
// first byte and closed by the caller.
type ShardIndexer func(context.Context, shard.Key, mount.Reader) (carindex.Index, error)

// RegisterOpts are options of RegisterShard.
type RegisterOpts struct {
	// ExistingTransient is the path of a local copy of the shard that is there
	// already, read where it lies. A file outside TransientsDir stays the
	// caller's and is never deleted.
	ExistingTransient string

	// LazyInitialization puts off fetching and indexing until the shard is first
	// acquired. The result of the registration is sent as soon as the shard is
	// recorded. Until it is indexed, its blocks are in no index.
	LazyInitialization bool
}

// AcquireOpts are options of AcquireShard. There are none yet.
type AcquireOpts struct{}

// RecoverOpts are options of RecoverShard. There are none yet.
type RecoverOpts struct{}

// DestroyOpts are options of DestroyShard. There are none yet.
type DestroyOpts struct{}

// A ShardResult is the outcome of a request.
type ShardResult struct {
	Key      shard.Key
	Error    error
	Accessor *ShardAccessor // of a successful AcquireShard; the receiver closes it
}

// A Trace is an operation on a shard, and the shard after it.
type Trace struct {
	Key   shard.Key
	Op    OpType
	After ShardInfo
}

// ShardInfo is where a shard stands.
type ShardInfo struct {
	ShardState
	Error error // why the shard is Errored or Recovering, else nil
	refs  int
}

// References returns how many accessors are open or being opened.
func (i ShardInfo) References() int { return i.refs }

// AllShardsInfo is where all shards stand.
type AllShardsInfo map[shard.Key]ShardInfo
