package inverted

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/filecoin-project/dagstore/internal/journal"
	"github.com/filecoin-project/dagstore/internal/mapped"
)

// A log is the journal in use, and what it takes to replace it.
type log struct {
	folder folder
	unlock func() error // of the folder

	// replacing is held for reading while an entry is appended, so that those that
	// append together share a sync, and for writing while the journal is replaced.
	replacing sync.RWMutex
	journal   *journal.Journal
	number    uint64
	last      uint64 // the highest number that any journal was begun with
	begun     int64  // bytes of the journal when it was begun; 0 if that is not known

	// isBroken tells that nothing can be appended: an append has failed, or a crash
	// might bring another journal back. Another journal is the way on.
	isBroken atomic.Bool

	mu       sync.Mutex // guards what follows
	doubtful []string   // files that an entry may name whose append has failed, until another journal is in use
	garbage  []string   // files that nothing names and that are still there
}

// A retired is what a change has taken out of the view.
type retired struct {
	tables []*table
	gate   *mapped.Gate // of look-ups that may use them
}

// commit makes a change durable and then does it. The tables that it adds belong to
// commit: after an error their files are removed, at once or when that is safe. The
// error is that of ctx if the change was not made because of it. After other errors
// a restart may bring the change all the same.
func (x *Index) commit(ctx context.Context, c *change) (retired, error) {
	if x.log == nil {
		return x.do(c)
	}
	entry := c.encode()
	for _, t := range c.memory {
		t.raw = nil
	}
	if len(entry) > journal.MaxEntry {
		x.discard(c.added)
		return retired{}, fmt.Errorf("a change of %d bytes is too large for the journal", len(entry))
	}
	l := x.log
	for {
		if err := x.mend(); err != nil {
			x.discard(c.added)
			return retired{}, err
		}
		l.replacing.RLock()
		if !l.isBroken.Load() {
			break
		}
		l.replacing.RUnlock()
	}
	defer l.replacing.RUnlock()
	var r retired
	var applyErr error
	err := l.journal.Append(ctx, entry, func() { r, applyErr = x.do(c) })
	if err != nil {
		x.failed(c, err)
	}
	return r, errors.Join(err, applyErr)
}

// do does a change that is durable.
func (x *Index) do(c *change) (r retired, err error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	r.tables, err = x.manifest.apply(c)
	if len(r.tables) > 0 {
		r.gate = x.publishWithout()
	} else {
		x.publish()
	}
	if x.merger != nil {
		x.merger.ask()
	}
	return r, err
}

// failed sees to the files of a change whose append has failed.
func (x *Index) failed(c *change, err error) {
	isUnwritten := errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded)
	if isUnwritten {
		x.discard(c.added)
		return
	}
	l := x.log
	l.isBroken.Store(true)
	_ = closeTables(c.added) // the error is that of the append
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, t := range c.added {
		l.doubtful = append(l.doubtful, l.folder.layer(t.number))
	}
}

// discard closes tables that nothing names, and removes their files.
func (x *Index) discard(tables []*table) {
	_ = closeTables(tables) // nothing was written through them
	if x.log == nil {
		return
	}
	paths := make([]string, len(tables))
	for i, t := range tables {
		paths[i] = x.log.folder.layer(t.number)
	}
	x.log.sweep(paths...)
}

// retire closes tables that are no more once the last look-up in them has ended, and
// removes their files.
func (x *Index) retire(r retired) {
	if r.gate == nil {
		return
	}
	r.gate.Close()
	x.discard(r.tables)
}

// sweep removes these files, and those that could not be removed before.
func (l *log) sweep(paths ...string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.garbage = l.folder.remove(append(l.garbage, paths...))
}

// mend replaces the journal if nothing can be appended to it.
func (x *Index) mend() error {
	if !x.log.isBroken.Load() {
		return nil
	}
	x.log.replacing.Lock()
	defer x.log.replacing.Unlock()
	if !x.log.isBroken.Load() {
		return nil // somebody else was faster
	}
	return x.replaceJournal()
}

// trim replaces the journal if it has grown, and most of it does not count any more.
func (x *Index) trim() error {
	l := x.log
	isDue := func() bool { return l.journal.Size() >= max(x.sizes.journal, 2*l.begun) }
	l.replacing.RLock()
	wasDue := isDue()
	l.replacing.RUnlock()
	if !wasDue {
		return nil
	}
	l.replacing.Lock()
	defer l.replacing.Unlock()
	if !isDue() {
		return nil // somebody else was faster
	}
	return x.replaceJournal()
}

// replaceJournal begins a journal with what the manifest says, and puts it into use.
// After an error the one before is in use; or, if that is not sure, none: isBroken.
// l.replacing is held for writing.
func (x *Index) replaceJournal() error {
	l := x.log
	entries, err := x.snapshot()
	if err != nil {
		return err
	}
	l.last++
	number, path := l.last, l.folder.journal(l.last)
	next, err := journal.Create(l.folder.fsys, path, entries)
	if err != nil {
		l.sweep(path)
		return err
	}
	if err := l.folder.writeCurrent(number); err != nil {
		_ = next.Close() // what it has is in the other one
		if current, readErr := l.folder.readCurrent(); readErr == nil && current.journal == l.number {
			l.sweep(path)
			return err
		}
		l.isBroken.Store(true)
		l.mu.Lock()
		defer l.mu.Unlock()
		l.doubtful = append(l.doubtful, path)
		return err
	}
	_ = l.journal.Close() // what was acknowledged is durable, and in the new one
	old := l.folder.journal(l.number)
	l.journal, l.number, l.begun = next, number, next.Size()
	l.isBroken.Store(false)
	l.mu.Lock()
	doubtful := append(l.doubtful, old)
	l.doubtful = nil
	l.mu.Unlock()
	l.sweep(doubtful...)
	return nil
}

// sizeOf returns how many bytes of a journal are acknowledged: 0 if it is not the one
// in use, or if there is no writer, who alone knows.
func (l *log) sizeOf(number uint64) int64 {
	if l == nil {
		return 0
	}
	l.replacing.RLock()
	defer l.replacing.RUnlock()
	if number != l.number {
		return 0
	}
	return l.journal.Size()
}

// snapshot returns the entries that a journal begins with.
func (x *Index) snapshot() ([][]byte, error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.manifest.nextShard, x.manifest.nextLayer = x.nextShard, x.nextLayer
	changes, err := x.manifest.snapshot()
	if err != nil {
		return nil, err
	}
	entries := make([][]byte, len(changes))
	for i, c := range changes {
		entries[i] = c.encode()
	}
	return entries, nil
}

// close ends the log. Nothing is appended any more.
func (l *log) close() error {
	l.sweep()
	return errors.Join(l.journal.Close(), l.unlock())
}
