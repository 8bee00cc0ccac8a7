package index

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"sync"
	"sync/atomic"

	"github.com/multiformats/go-multihash"

	"github.com/filecoin-project/dagstore/internal/files"
	"github.com/filecoin-project/dagstore/internal/folderlock"
	"github.com/filecoin-project/dagstore/internal/fullindex"
	"github.com/filecoin-project/dagstore/internal/inverted"
	"github.com/filecoin-project/dagstore/shard"
)

// FSInvertedOptions are options of OpenFSInverted.
type FSInvertedOptions struct {
	// ReadOnly opens the index beside the process that writes it, and follows
	// what that does: an answer is at most some milliseconds old. It is
	// ErrIncomplete while the index is being filled again.
	ReadOnly bool

	// Anew begins with an empty index if the one that is there is damaged. A
	// store then adds its shards again, and says when it is complete.
	Anew bool
}

// An FSInverted is an Inverted index in a folder, or in memory. It is made by
// OpenFSInverted and NewMemoryInverted, and closed in the end. It needs no
// database: records of 20 bytes lie in immutable, sorted files, which are mapped
// and merged behind.
//
// An addition or a removal is durable, and in all answers, when it returns.
// Answers name shards in the order in which they were added. A look-up waits for
// no change. Damage is noticed, gives ErrDamaged, and never a wrong answer. Once it
// is noticed nothing can be changed, and the index cannot be opened again: Reset it,
// open it Anew, or make it again from full indices, see RebuildFSInverted.
type FSInverted struct {
	folder   generations // dir is "" in memory
	readOnly bool

	engine atomic.Pointer[inverted.Index]
	spoilt atomic.Pointer[inverted.Index] // the engine that has met damage; changes are refused
	seen   atomic.Pointer[sighting]       // of a reader

	mu      sync.Mutex // makes what changes engine follow each other, and guards what follows
	closed  bool
	current generation
	unlock  func() error // of the folder; nil if it is not locked
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
	return openFSInverted(ctx, files.OS, dir, o)
}

func openFSInverted(ctx context.Context, fsys files.FS, dir string, o FSInvertedOptions) (*FSInverted, error) {
	x := &FSInverted{folder: generations{fsys, dir}, readOnly: o.ReadOnly}
	open := x.openToWrite
	if o.ReadOnly {
		open = x.openToRead
	}
	err := open(ctx)
	if o.Anew && x.unlock != nil && errors.Is(err, ErrDamaged) {
		logger.Errorw("top-level index is damaged: it is made anew", "folder", dir, "err", err)
		err = x.begin(ctx, false)
	}
	if err != nil {
		return nil, fmt.Errorf("top-level index in %s: %w", dir, errors.Join(err, x.letGo()))
	}
	if !o.ReadOnly {
		x.folder.sweep(x.current.number)
	}
	return x, nil
}

func (x *FSInverted) openToWrite(ctx context.Context) (err error) {
	if err := x.folder.fsys.MkdirAll(x.folder.dir, 0o755); err != nil {
		return err
	}
	if x.unlock, err = folderlock.Lock(x.folder.dir); err != nil {
		return err
	}
	x.current, err = x.folder.current()
	if err == nil && x.current.number == 0 || errors.Is(err, errNoGeneration) && x.folder.unused(ctx) {
		return x.begin(ctx, true)
	}
	if err != nil {
		return err
	}
	folder := x.folder.folder(x.current.number)
	if entries, err := x.folder.fsys.ReadDir(folder); len(entries) == 0 && (err == nil || errors.Is(err, fs.ErrNotExist)) {
		return fmt.Errorf("%w: there is nothing in %s", ErrDamaged, folder)
	}
	engine, err := x.folder.open(ctx, x.current.number)
	if err != nil {
		return err
	}
	x.engine.Store(engine)
	return nil
}

// begin makes an empty index the current one, in a new generation.
func (x *FSInverted) begin(ctx context.Context, isComplete bool) error {
	newest, err := x.folder.newest()
	if err != nil {
		return err
	}
	next := generation{max(x.current.number, newest) + 1, !isComplete}
	engine, err := x.folder.begin(ctx, next)
	if err != nil {
		return err
	}
	x.engine.Store(engine)
	x.spoilt.Store(nil)
	x.current = next
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
// present one, and is not complete. It is the way on after ErrDamaged. Calls in
// progress end with an error, or begin anew. If Reset fails, what was there is gone
// all the same, and calls return ErrDamaged until it succeeds.
func (x *FSInverted) Reset(ctx context.Context) error {
	x.mu.Lock()
	defer x.mu.Unlock()
	if err := x.writable(); err != nil {
		return err
	}
	old, before := x.engine.Load(), x.current.number
	if x.folder.dir == "" {
		x.engine.Store(inverted.InMemory(inverted.Options{}))
		x.spoilt.Store(nil)
		return old.Close()
	}
	x.spoilt.Store(old)
	spoiling := x.folder.spoil(before)
	err := x.begin(ctx, false)
	if err != nil {
		err = fmt.Errorf("top-level index in %s: %w", x.folder.dir, errors.Join(err, spoiling))
	}
	if closing := old.Close(); closing != nil {
		logger.Warnw("old top-level index not closed cleanly", "folder", x.folder.dir, "err", closing)
	}
	x.folder.sweep(x.current.number) // the damaged one too, which makes room on the disk
	return err
}

// SetComplete tells readers in other processes whether the index has all that it is
// to have. It has at first, and has not after Reset and when it was opened Anew. Until
// it has, readers get ErrIncomplete, since an answer might lack a shard. A store says
// it of its own index.
func (x *FSInverted) SetComplete(isComplete bool) error {
	x.mu.Lock()
	defer x.mu.Unlock()
	if err := x.writable(); err != nil || x.folder.dir == "" {
		return err
	}
	next := generation{x.current.number, !isComplete}
	if next == x.current {
		return nil
	}
	if err := x.folder.switchTo(next); err != nil {
		return fmt.Errorf("top-level index in %s: %w", x.folder.dir, err)
	}
	x.current = next
	return nil
}

// writable returns why nothing can be written. x.mu is held.
func (x *FSInverted) writable() error {
	switch {
	case x.closed:
		return fs.ErrClosed
	case x.readOnly:
		return inverted.ErrReadOnly
	}
	return nil
}

// Close ends the use of the index. It interrupts additions and merging, waits for
// look-ups, and may be called often.
func (x *FSInverted) Close() error {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.closed = true
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
		if err := x.follow(); err != nil {
			return err
		}
		engine := x.engine.Load()
		err := use(engine)
		switch {
		case err == nil:
			return nil
		case errors.Is(err, inverted.ErrDamaged):
			x.spoil(engine, err)
			return asDamaged(err)
		case x.engine.Load() != engine && (errors.Is(err, fs.ErrClosed) || errors.Is(err, fs.ErrNotExist)):
		case errors.Is(err, fs.ErrClosed) && x.spoilt.Load() == engine:
			return errSpoilt
		case x.readOnly:
			return notThere(err)
		default:
			return err
		}
	}
}

// change is with for what changes the index.
func (x *FSInverted) change(use func(*inverted.Index) error) error {
	return x.with(func(engine *inverted.Index) error {
		if x.spoilt.Load() == engine {
			return errSpoilt
		}
		return use(engine)
	})
}

var errSpoilt = fmt.Errorf("%w: the index is to be made anew", ErrDamaged)

// spoil notes that an engine has met damage: nobody is to believe the rest of it
// later, when the damaged part is merged or dropped.
func (x *FSInverted) spoil(engine *inverted.Index, damage error) {
	if x.readOnly || x.spoilt.Load() == engine {
		return
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.closed || x.engine.Load() != engine || x.spoilt.Swap(engine) == engine || x.folder.dir == "" {
		return
	}
	logger.Errorw("top-level index is damaged", "folder", x.folder.dir, "err", damage)
	if err := x.folder.spoil(x.current.number); err != nil {
		logger.Errorw("damaged top-level index could not be put aside; another start may believe what can be read of it", "folder", x.folder.dir, "err", err)
	}
}

// AddMultihashesForShard implements Inverted. After an error s is in the answers
// in which it was before. To add a shard that is held adds to its multihashes. If
// merging is far behind, it waits for that. An iterator that is a RecordIterator,
// too, is asked for its records, which takes less time.
func (x *FSInverted) AddMultihashesForShard(ctx context.Context, mhIter MultihashIterator, s shard.Key) error {
	return x.change(func(e *inverted.Index) error {
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
		mh = fullindex.AppendMultihash(mh[:0], code, digest)
		return visit(mh)
	})
}
