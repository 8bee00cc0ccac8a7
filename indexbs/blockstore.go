package indexbs

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	blocks "github.com/ipfs/go-block-format"
	"github.com/ipfs/go-cid"
	ipld "github.com/ipfs/go-ipld-format"
	carindex "github.com/ipld/go-car/v2/index"
	"github.com/multiformats/go-multihash"

	"github.com/filecoin-project/dagstore"
	"github.com/filecoin-project/dagstore/shard"
)

var (
	// ErrNoShardSelected is what a ShardSelectorF returns to serve a block from
	// none of its shards. The block is then not found.
	ErrNoShardSelected = errors.New("no shard selected")

	// ErrBlockNotFound is the error for a block that no shard has. Such errors
	// are also go-ipld-format's ErrNotFound.
	ErrBlockNotFound = errors.New("block not found")

	// ErrClosed is the error of every read after Close, and of the reads of a
	// session that has ended.
	ErrClosed = errors.New("blockstore or session closed")

	// ErrReadOnly is the error of the methods that would change the shards.
	ErrReadOnly = errors.New("blockstore is read-only; register a shard instead")

	// ErrUnsupported is the error of AllKeysChan.
	ErrUnsupported = errors.New("not supported across shards; list the keys of each shard instead")
)

// ShardSelectorF chooses, of the shards that have a block, the one to read it
// from. It gets at least one. The others are read only if the chosen one fails.
// It returns ErrNoShardSelected to hide the block. It is called concurrently.
type ShardSelectorF func(c cid.Cid, shards []shard.Key) (shard.Key, error)

// IdxBstoreDagstore is what the blockstore needs of a dagstore. The shards that
// ShardsContainingMultihash returns must exist.
type IdxBstoreDagstore interface {
	ShardsContainingMultihash(ctx context.Context, h multihash.Multihash) ([]shard.Key, error)
	GetIterableIndex(key shard.Key) (carindex.IterableIndex, error)
	AcquireShard(ctx context.Context, key shard.Key, out chan dagstore.ShardResult, _ dagstore.AcquireOpts) error
}

// A BatchDagstore is an IdxBstoreDagstore that looks up many multihashes at once.
// GetMany makes use of it. *dagstore.DAGStore is one.
type BatchDagstore interface {
	// ShardsContainingMultihashes returns the shards of each of hs, in their order;
	// nil if no shard has one, which is no error.
	ShardsContainingMultihashes(ctx context.Context, hs []multihash.Multihash) ([][]shard.Key, error)
}

var _ BatchDagstore = (*dagstore.DAGStore)(nil)

// IdxBstoreDagstoreFromDagstore returns d, as far as the blockstore needs it.
func IdxBstoreDagstoreFromDagstore(d dagstore.Interface) IdxBstoreDagstore { return d }

// IndexBackedBlockstore is a read-only blockstore over all shards. It has the
// methods of boxo's Blockstore and Viewer, and is safe for concurrent use.
//
// A shard whose accessor it keeps open counts as in use: it cannot be destroyed
// until the accessor has expired, failed, given way to others, or Close was
// called, and no session holds it. A shard that failed a read is opened anew for
// the next: once it is repaired it is served again.
type IndexBackedBlockstore struct {
	store    IdxBstoreDagstore
	selector ShardSelectorF
	verify   atomic.Bool
	cache    *cache
}

// NewIndexBackedBlockstore returns a blockstore over the shards of d. A nil
// shardSelector prefers shards that are open, then takes them in order.
// maxCacheSize, at least 1, is how many accessors stay open after use, and
// cacheExpire for how long; 0 is until others need the room. Accessors in use
// are never closed, so that more can be open for a while. The blockstore is
// closed when ctx ends.
func NewIndexBackedBlockstore(
	ctx context.Context, d IdxBstoreDagstore, shardSelector ShardSelectorF, maxCacheSize int, cacheExpire time.Duration,
) (*IndexBackedBlockstore, error) {
	switch {
	case ctx == nil:
		return nil, errors.New("new blockstore: nil context; use context.Background()")
	case d == nil:
		return nil, errors.New("new blockstore: no dagstore")
	case maxCacheSize < 1:
		return nil, fmt.Errorf("new blockstore: cache size %d; use at least 1", maxCacheSize)
	case cacheExpire < 0:
		return nil, fmt.Errorf("new blockstore: expiry after %s; use 0 for none", cacheExpire)
	}
	c, err := newCache(ctx, d, maxCacheSize, cacheExpire)
	if err != nil {
		return nil, fmt.Errorf("new blockstore: %w", err)
	}
	return &IndexBackedBlockstore{store: d, selector: shardSelector, cache: c}, nil
}

// Close ends the blockstore and its sessions. It waits for reads in progress,
// and what they call, except for those that are opening a shard, which fail, and
// closes all accessors. It may be called often, and always returns nil.
func (b *IndexBackedBlockstore) Close() error {
	b.cache.close()
	return nil
}

// Has tells whether a shard has the block, and the selector does not hide it. It
// answers from the top-level index and opens no shard.
func (b *IndexBackedBlockstore) Has(ctx context.Context, c cid.Cid) (bool, error) {
	r, err := b.begin(ctx, b.cache, c)
	if err != nil {
		return false, err
	}
	err = b.locate(ctx, r)
	if ipld.IsNotFound(err) {
		return false, nil
	}
	return err == nil, err
}

// Get returns the block. Shards that fail are passed over. If no shard has the
// block, the error is ErrBlockNotFound; if shards that should have it failed, it
// is theirs.
func (b *IndexBackedBlockstore) Get(ctx context.Context, c cid.Cid) (blocks.Block, error) {
	return get(ctx, b, b.cache, c)
}

// GetSize returns the size of the block in bytes, without reading them. Its
// errors are those of Get.
func (b *IndexBackedBlockstore) GetSize(ctx context.Context, c cid.Cid) (int, error) {
	return getSize(ctx, b, b.cache, c)
}

// View calls f, once at most, with the bytes of the block, which are not copied
// if the shard is mapped into memory. They are valid during the call only, and
// not to be changed. An error of f is returned as it is; the others are those of
// Get. f must not close the blockstore, whose Close waits for it.
func (b *IndexBackedBlockstore) View(ctx context.Context, c cid.Cid, f func([]byte) error) error {
	return view(ctx, b, b.cache, c, f)
}

// GetMany calls visit once for each of cids, with its place i in cids and the
// block, or the error that Get would have returned. The top-level index is asked
// for all of them at once, if the dagstore is a [BatchDagstore]; then each shard
// is opened once, and its blocks are read in the order in which they lie. The
// order of the visits is therefore another than that of cids. A block that
// several shards have is read from one that is read anyway; the selector, if
// there is one, decides instead. What a shard fails to give is read from others
// afterwards.
//
// One block is held at a time, and visits are made one after the other, while
// the shard is open: visit must not close the blockstore. An error of visit, the
// end of ctx, and Close end GetMany and are returned; the other blocks are not
// visited then.
func (b *IndexBackedBlockstore) GetMany(
	ctx context.Context, cids []cid.Cid, visit func(i int, block blocks.Block, err error) error,
) error {
	return getMany(ctx, b, b.cache, cids, visit)
}

// HashOnRead makes Get, View and GetMany compare every block with its CID from
// now on, in sessions as well. A block that differs is read from another shard,
// or else gives dagstore.ErrHashMismatch. Off at first.
func (b *IndexBackedBlockstore) HashOnRead(enabled bool) { b.verify.Store(enabled) }

// AllKeysChan returns ErrUnsupported.
func (b *IndexBackedBlockstore) AllKeysChan(context.Context) (<-chan cid.Cid, error) {
	return nil, fmt.Errorf("all keys: %w", ErrUnsupported)
}

// Put returns ErrReadOnly.
func (b *IndexBackedBlockstore) Put(context.Context, blocks.Block) error {
	return fmt.Errorf("put block: %w", ErrReadOnly)
}

// PutMany returns ErrReadOnly.
func (b *IndexBackedBlockstore) PutMany(context.Context, []blocks.Block) error {
	return fmt.Errorf("put blocks: %w", ErrReadOnly)
}

// DeleteBlock returns ErrReadOnly.
func (b *IndexBackedBlockstore) DeleteBlock(context.Context, cid.Cid) error {
	return fmt.Errorf("delete block: %w", ErrReadOnly)
}
