package indexbs

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	blocks "github.com/ipfs/go-block-format"
	"github.com/ipfs/go-cid"
	ds "github.com/ipfs/go-datastore"
	ipld "github.com/ipfs/go-ipld-format"
	carindex "github.com/ipld/go-car/v2/index"
	"github.com/multiformats/go-multihash"

	"github.com/filecoin-project/dagstore"
	"github.com/filecoin-project/dagstore/internal/guard"
	"github.com/filecoin-project/dagstore/shard"
)

var (
	// ErrNoShardSelected is what a ShardSelectorF returns to serve a block from
	// none of its shards. The block is then not found.
	ErrNoShardSelected = errors.New("no shard selected")

	// ErrBlockNotFound is the error for a block that no shard has. Such errors
	// are also go-ipld-format's ErrNotFound.
	ErrBlockNotFound = errors.New("block not found")

	// ErrClosed is the error of every read after Close.
	ErrClosed = errors.New("blockstore closed")

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

// IdxBstoreDagstoreFromDagstore returns d, as far as the blockstore needs it.
func IdxBstoreDagstoreFromDagstore(d dagstore.Interface) IdxBstoreDagstore { return d }

// IndexBackedBlockstore is a read-only blockstore over all shards. It has the
// methods of boxo's Blockstore and is safe for concurrent use.
//
// A shard whose accessor it keeps open counts as in use: it cannot be destroyed
// until the accessor has expired, given way to others, or Close was called.
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

// Close ends the blockstore. It waits for reads in progress, except for those
// that are opening a shard, which fail, and closes all accessors. It may be
// called often, and always returns nil.
func (b *IndexBackedBlockstore) Close() error {
	b.cache.close()
	return nil
}

// Has tells whether a shard has the block, and the selector does not hide it. It
// answers from the top-level index and opens no shard.
func (b *IndexBackedBlockstore) Has(ctx context.Context, c cid.Cid) (bool, error) {
	_, err := b.candidates(ctx, c)
	if ipld.IsNotFound(err) {
		return false, nil
	}
	return err == nil, err
}

// Get returns the block. Shards that fail are passed over. If no shard has the
// block, the error is ErrBlockNotFound; if shards that should have it failed, it
// is theirs.
func (b *IndexBackedBlockstore) Get(ctx context.Context, c cid.Cid) (blocks.Block, error) {
	return read(ctx, b, c, func(bs dagstore.ReadBlockstore) (blocks.Block, error) { return bs.Get(ctx, c) })
}

// GetSize returns the size of the block in bytes, without reading them. Its
// errors are those of Get.
func (b *IndexBackedBlockstore) GetSize(ctx context.Context, c cid.Cid) (int, error) {
	return read(ctx, b, c, func(bs dagstore.ReadBlockstore) (int, error) { return bs.GetSize(ctx, c) })
}

// HashOnRead makes Get compare every block with its CID from now on. A block
// that differs is read from another shard, or else gives dagstore.ErrHashMismatch.
// Off at first.
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

// read does something with one of the shards of a block, the first that does not
// fail.
func read[T any](
	ctx context.Context, b *IndexBackedBlockstore, c cid.Cid, do func(dagstore.ReadBlockstore) (T, error),
) (T, error) {
	var zero T
	keys, err := b.candidates(ctx, c)
	if err != nil {
		return zero, err
	}
	var failures []error
	for _, key := range keys {
		v, err := readShard(ctx, b, key, do)
		switch {
		case err == nil:
			return v, nil
		case ctx.Err() != nil:
			return zero, ctx.Err()
		case errors.Is(err, ErrClosed):
			return zero, err
		case !isAbsent(err):
			failures = append(failures, fmt.Errorf("shard %q: %w", key, err))
		}
	}
	if len(failures) > 0 {
		return zero, fmt.Errorf("block %s: %w", c, errors.Join(failures...))
	}
	return zero, notFound(c, ErrBlockNotFound)
}

func readShard[T any](
	ctx context.Context, b *IndexBackedBlockstore, key shard.Key, do func(dagstore.ReadBlockstore) (T, error),
) (T, error) {
	e, err := b.cache.lease(ctx, key)
	if err != nil {
		var zero T
		return zero, err
	}
	defer b.cache.release(e)
	e.blocks.HashOnRead(b.verify.Load())
	return do(e.blocks)
}

// candidates returns the shards to read a block from, in order: at least one.
func (b *IndexBackedBlockstore) candidates(ctx context.Context, c cid.Cid) ([]shard.Key, error) {
	if b.cache.ctx.Err() != nil {
		return nil, ErrClosed
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if !c.Defined() {
		return nil, errors.New("undefined cid")
	}
	keys, err := b.store.ShardsContainingMultihash(ctx, c.Hash())
	if err != nil && !isAbsent(err) {
		return nil, fmt.Errorf("block %s: %w", c, err)
	}
	if len(keys) == 0 {
		return nil, notFound(c, ErrBlockNotFound)
	}
	if b.selector == nil {
		return b.cache.openFirst(keys), nil
	}
	first, err := b.selected(c, slices.Clone(keys))
	if errors.Is(err, ErrNoShardSelected) {
		return nil, notFound(c, err)
	}
	if err != nil {
		return nil, fmt.Errorf("block %s: select shard: %w", c, err)
	}
	others := slices.DeleteFunc(slices.Clone(keys), func(k shard.Key) bool { return k == first })
	return append([]shard.Key{first}, others...), nil
}

// selected asks the selector, whose panic is an error.
func (b *IndexBackedBlockstore) selected(c cid.Cid, keys []shard.Key) (_ shard.Key, err error) {
	defer guard.Recover(&err)
	return b.selector(c, keys)
}

// isAbsent tells errors that say that there is no such block or shard from those
// that say that something is broken.
func isAbsent(err error) bool {
	return ipld.IsNotFound(err) || errors.Is(err, ds.ErrNotFound) || errors.Is(err, dagstore.ErrShardUnknown)
}

func notFound(c cid.Cid, reason error) error {
	if errors.Is(reason, ErrBlockNotFound) {
		return fmt.Errorf("%w: %w", reason, ipld.ErrNotFound{Cid: c})
	}
	return fmt.Errorf("%w: %w: %w", ErrBlockNotFound, reason, ipld.ErrNotFound{Cid: c})
}
