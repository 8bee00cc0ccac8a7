package index

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"sync"
	"sync/atomic"

	ds "github.com/ipfs/go-datastore"
	"github.com/multiformats/go-multihash"

	"github.com/filecoin-project/dagstore/internal/folderlock"
	"github.com/filecoin-project/dagstore/internal/inverted"
	"github.com/filecoin-project/dagstore/shard"
)

// FSInvertedOptions are options of OpenFSInverted.
type FSInvertedOptions struct {
	// ReadOnly opens the index beside the process that writes it, and follows
	// what that does: an answer is at most some milliseconds old.
	ReadOnly bool

	// Anew begins with an empty index if the one that is there is damaged. A
	// store then adds its shards again.
	Anew bool
}

// An FSInverted is an Inverted index in a folder, or in memory. It is made by
// OpenFSInverted and NewMemoryInverted, and closed in the end. It needs no
// database: records of 20 bytes lie in immutable, sorted files, which are mapped
// and merged behind.
//
// An addition or a removal is durable, and in all answers, when it returns.
// Answers name shards in the order in which they were added. A look-up waits for
// no change. Damage is noticed, gives ErrDamaged, and never a wrong answer; the
// index can always be made again from full indices, see RebuildFSInverted.
type FSInverted struct {
	dir      string // "" in memory
	readOnly bool

	engine atomic.Pointer[inverted.Index]
	lost   atomic.Bool // the engine was closed by a Reset that failed

	mu         sync.Mutex // makes what changes engine follow each other, and guards what follows
	generation int
	unlock     func() error // of the folder; nil if it is not locked
}

var (
	_ Inverted      = (*FSInverted)(nil)
	_ ShardRemover  = (*FSInverted)(nil)
	_ ShardLister   = (*FSInverted)(nil)
	_ BatchInverted = (*FSInverted)(nil)
	_ FirstInverted = (*FSInverted)(nil)
)

// NewMemoryInverted returns an empty index in memory, some 22 bytes for each
// multihash of a shard.
func NewMemoryInverted() *FSInverted {
	x := &FSInverted{}
	x.engine.Store(inverted.InMemory(inverted.Options{}))
	return x
}

// OpenFSInverted opens the index in a folder, and makes both if they are missing.
// The error wraps ErrDamaged if its files are not what was written; that another
// process writes it is one, too. ctx is not kept.
func OpenFSInverted(ctx context.Context, dir string, o FSInvertedOptions) (*FSInverted, error) {
	x := &FSInverted{dir: dir, readOnly: o.ReadOnly}
	err := x.open(ctx)
	if o.Anew && !o.ReadOnly && errors.Is(err, ErrDamaged) {
		logger.Errorw("top-level index is damaged: it is made anew", "folder", dir, "err", err)
		err = x.begin(ctx, x.generation+1)
	}
	if err != nil {
		return nil, errors.Join(err, x.letGo())
	}
	return x, nil
}

func (x *FSInverted) open(ctx context.Context) (err error) {
	if !x.readOnly {
		if err := os.MkdirAll(x.dir, 0o755); err != nil {
			return fmt.Errorf("top-level index: %w", err)
		}
		if x.unlock, err = folderlock.Lock(x.dir); err != nil {
			return fmt.Errorf("top-level index in %s: %w", x.dir, err)
		}
	}
	if x.generation, err = currentGeneration(x.dir); err != nil {
		x.generation = newestGeneration(x.dir)
		return fmt.Errorf("top-level index: %w", err)
	}
	switch {
	case x.readOnly && x.generation == 0:
		return fmt.Errorf("top-level index in %s: %w", x.dir, fs.ErrNotExist)
	case x.readOnly:
		return x.use(inverted.OpenReader(ctx, generationFolder(x.dir, x.generation), inverted.Options{}))
	case x.generation == 0:
		return x.begin(ctx, newestGeneration(x.dir)+1)
	}
	if _, err := os.Stat(generationFolder(x.dir, x.generation)); errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("top-level index: %w: %s is missing", ErrDamaged, generationFolder(x.dir, x.generation))
	}
	if err := x.use(inverted.Open(ctx, generationFolder(x.dir, x.generation), inverted.Options{})); err != nil {
		return err
	}
	sweepGenerations(x.dir, x.generation)
	return nil
}

// use makes an engine that was opened the one in use.
func (x *FSInverted) use(engine *inverted.Index, err error) error {
	if err != nil {
		return asDamaged(err)
	}
	x.engine.Store(engine)
	return nil
}

// begin makes an empty index of a new generation the current one. If it fails,
// nothing is left of it.
func (x *FSInverted) begin(ctx context.Context, generation int) (err error) {
	folder := generationFolder(x.dir, generation)
	defer func() {
		if err != nil {
			err = errors.Join(err, os.RemoveAll(folder))
		}
	}()
	engine, err := inverted.Open(ctx, folder, inverted.Options{})
	if err != nil {
		return asDamaged(err)
	}
	if err := switchTo(x.dir, generation); err != nil {
		return errors.Join(err, engine.Close())
	}
	x.engine.Store(engine)
	x.generation = generation
	sweepGenerations(x.dir, x.generation)
	return nil
}

// asDamaged makes the engine's damage that of this package.
func asDamaged(err error) error {
	if errors.Is(err, inverted.ErrDamaged) {
		return fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	return err
}

// Reset makes the index empty: in a new generation, which takes the place of the
// present one. It is the way on after ErrDamaged. Calls in progress end with an
// error, or begin anew. If Reset fails, what was there is gone all the same, and calls
// return ErrDamaged until it succeeds.
func (x *FSInverted) Reset(ctx context.Context) error {
	x.mu.Lock()
	defer x.mu.Unlock()
	old := x.engine.Load()
	switch {
	case x.readOnly:
		return inverted.ErrReadOnly
	case x.dir == "":
		x.engine.Store(inverted.InMemory(inverted.Options{}))
	default:
		before := x.generation
		if err := x.begin(ctx, max(before, newestGeneration(x.dir))+1); err != nil {
			x.lost.Store(true)
			return errors.Join(err, old.Close(), os.RemoveAll(generationFolder(x.dir, before))) // lest it is opened again
		}
		x.lost.Store(false)
	}
	if err := old.Close(); err != nil {
		logger.Warnw("old top-level index not closed cleanly", "err", err)
	}
	return nil
}

// Close ends the use of the index. It interrupts additions and merging, waits for
// look-ups, and may be called often.
func (x *FSInverted) Close() error {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.letGo()
}

func (x *FSInverted) letGo() error {
	var errs []error
	if engine := x.engine.Load(); engine != nil {
		errs = append(errs, engine.Close())
	}
	if x.unlock != nil {
		errs = append(errs, x.unlock())
		x.unlock = nil
	}
	return errors.Join(errs...)
}

// with calls use with the engine: again, if another has taken its place meanwhile.
func (x *FSInverted) with(use func(*inverted.Index) error) error {
	for {
		engine := x.engine.Load()
		err := use(engine)
		switch {
		case err == nil:
			return nil
		case x.replaced(engine, err):
		case errors.Is(err, fs.ErrClosed) && x.lost.Load():
			return fmt.Errorf("%w: it was made empty, and could not be made anew", ErrDamaged)
		default:
			return asDamaged(err)
		}
	}
}

// replaced tells whether the engine that gave an error is not the one in use any
// more. A reader whose folder is gone looks for the one of the next generation.
func (x *FSInverted) replaced(engine *inverted.Index, err error) bool {
	if errors.Is(err, fs.ErrClosed) {
		return x.engine.Load() != engine
	}
	if !x.readOnly || !errors.Is(err, fs.ErrNotExist) {
		return false
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.engine.Load() != engine {
		return true
	}
	before := x.generation
	if x.open(context.Background()) != nil || x.generation == before {
		return false
	}
	_ = engine.Close() // of a reader, whose files are gone
	return true
}

// AddMultihashesForShard implements Inverted. After an error s is in the answers
// in which it was before. To add a shard that is held adds to its multihashes. If
// merging is far behind, it waits for that. An iterator that is a RecordIterator,
// too, is asked for its records, which takes less time.
func (x *FSInverted) AddMultihashesForShard(ctx context.Context, mhIter MultihashIterator, s shard.Key) error {
	return x.with(func(e *inverted.Index) error {
		return e.Add(ctx, s.String(), func(visit func(mh []byte) error) error { return eachMultihash(mhIter, visit) })
	})
}

// eachMultihash visits the multihashes of an iterator, which may be used until the
// visit ends. None is allocated if the iterator is a RecordIterator, too. Panics are
// the caller's to guard against.
func eachMultihash(mhs MultihashIterator, visit func(mh []byte) error) error {
	if records, ok := mhs.(RecordIterator); ok {
		return eachRecord(records, visit)
	}
	return mhs.ForEach(func(mh multihash.Multihash) error { return visit(mh) })
}

// eachRecord visits the multihashes of records, as eachMultihash does.
func eachRecord(records RecordIterator, visit func(mh []byte) error) error {
	var mh []byte
	return records.ForEachRecord(func(code uint64, digest []byte, _ uint64) error {
		mh = binary.AppendUvarint(mh[:0], code)
		mh = binary.AppendUvarint(mh, uint64(len(digest)))
		mh = append(mh, digest...)
		return visit(mh)
	})
}

// GetShardsForMultihash implements Inverted.
func (x *FSInverted) GetShardsForMultihash(ctx context.Context, h multihash.Multihash) (found []shard.Key, err error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	err = x.with(func(e *inverted.Index) error {
		keys, err := e.Lookup(h)
		found = shardKeys(keys)
		return err
	})
	if err == nil && len(found) == 0 {
		err = noShard(h)
	}
	return found, err
}

// GetShardsForMultihashes implements BatchInverted.
func (x *FSInverted) GetShardsForMultihashes(ctx context.Context, hs []multihash.Multihash) (found [][]shard.Key, err error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	mhs := make([][]byte, len(hs))
	for i, h := range hs {
		mhs[i] = h
	}
	err = x.with(func(e *inverted.Index) error {
		all, err := e.LookupMany(mhs)
		found = shardKeysOfMany(all)
		return err
	})
	if err != nil {
		return nil, err
	}
	return found, nil
}

// GetFirstShardForMultihash implements FirstInverted.
func (x *FSInverted) GetFirstShardForMultihash(ctx context.Context, h multihash.Multihash) (first shard.Key, err error) {
	if err := ctx.Err(); err != nil {
		return first, err
	}
	var found bool
	err = x.with(func(e *inverted.Index) error {
		var key string
		key, found, err = e.First(h)
		first = shard.KeyFromString(key)
		return err
	})
	if err == nil && !found {
		err = noShard(h)
	}
	return first, err
}

func noShard(h multihash.Multihash) error {
	return fmt.Errorf("top-level index: no shard holds multihash %s: %w", h, ds.ErrNotFound)
}

func shardKeys(keys []string) []shard.Key {
	if len(keys) == 0 {
		return nil
	}
	found := make([]shard.Key, len(keys))
	for i, k := range keys {
		found[i] = shard.KeyFromString(k)
	}
	return found
}

// shardKeysOfMany does for many what shardKeys does for one. All lie in one array.
func shardKeysOfMany(all [][]string) [][]shard.Key {
	total := 0
	for _, keys := range all {
		total += len(keys)
	}
	found, room := make([][]shard.Key, len(all)), make([]shard.Key, 0, total)
	for i, keys := range all {
		start := len(room)
		for _, k := range keys {
			room = append(room, shard.KeyFromString(k))
		}
		if end := len(room); end > start {
			found[i] = room[start:end:end]
		}
	}
	return found
}

// RemoveShard implements ShardRemover. It needs no multihashes.
func (x *FSInverted) RemoveShard(ctx context.Context, s shard.Key, _ MultihashIterator) error {
	return x.with(func(e *inverted.Index) error { return e.Remove(ctx, s.String()) })
}

// Shards implements ShardLister.
func (x *FSInverted) Shards(ctx context.Context) (keys []shard.Key, err error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	err = x.with(func(e *inverted.Index) error {
		all, err := e.Shards()
		keys = shardKeys(all)
		return err
	})
	return keys, err
}

// Verify reads all files. The error wraps ErrDamaged if they are not what was
// written.
func (x *FSInverted) Verify(ctx context.Context) error {
	return x.with(func(e *inverted.Index) error { return e.Verify(ctx) })
}
