package inverted

import (
	"context"
	"errors"
	"io/fs"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/filecoin-project/dagstore/internal/journal"
)

// attempts is how often a reader begins anew, when what it begins with is replaced
// meanwhile.
const attempts = 10

// A follower is how far a reader has read.
type follower struct {
	freshness time.Duration
	start     time.Time
	checked   atomic.Int64 // what was written by then is known; nanoseconds since start

	mu      sync.Mutex // guards what follows, and the manifest of a reader; held while files are read
	current current
	at      journal.Position
	isOff   bool // the manifest is not what the journal says up to at
}

func newFollower(freshness time.Duration) *follower {
	return &follower{freshness: freshness, start: time.Now(), isOff: true}
}

// keepUp sees to it that the view is fresh. Who comes while somebody reads waits for
// that.
func (x *Index) keepUp() error {
	f := x.follow
	isFresh := func() bool { return time.Since(f.start)-time.Duration(f.checked.Load()) < f.freshness }
	if isFresh() {
		return nil
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if isFresh() {
		return nil
	}
	now := time.Since(f.start)
	if err := x.catchUp(); err != nil {
		if closed := x.closed(); closed != nil {
			return closed // which has interrupted it
		}
		return asDamage(err)
	}
	f.checked.Store(int64(now))
	return nil
}

// catchUp reads what was written since. f.mu is held.
func (x *Index) catchUp() error {
	if err := x.closed(); err != nil {
		return err
	}
	f := x.follow
	current, err := x.folder.readCurrent()
	if err != nil {
		return err
	}
	if f.isOff || current != f.current || x.readOn() != nil {
		return x.beginAnew(x.ctx)
	}
	return nil
}

// readOn reads on in the journal. After an error the manifest is of no use. Such
// errors mean little: the writer may have put another journal into use, or have
// taken an entry back whose append failed.
func (x *Index) readOn() error {
	f, m := x.follow, x.manifest
	f.isOff = true
	var dropped []*table
	at, err := journal.Read(x.folder.fsys, x.folder.journal(f.current.journal), f.at, func(entry []byte) error {
		c, err := decode(entry)
		if err != nil {
			return err
		}
		gone, err := m.apply(c)
		dropped = append(dropped, gone...)
		return err
	})
	if err != nil {
		return err
	}
	if at != f.at {
		if err := x.show(dropped); err != nil {
			return err
		}
		f.at = at
	}
	f.isOff = false
	return nil
}

// show opens what is new in the manifest and makes it what look-ups see.
func (x *Index) show(dropped []*table) error {
	m := x.manifest
	if err := m.settle(); err != nil {
		return err
	}
	if err := x.compact(m); err != nil {
		return err
	}
	if err := x.folder.openTables(m); err != nil {
		return err
	}
	x.mu.Lock()
	gate := x.publishWithout()
	x.mu.Unlock()
	gate.Close()
	return closeTables(dropped)
}

// compact merges what a reader has in memory.
func (x *Index) compact(m *manifest) error {
	for {
		chosen := choose(slices.DeleteFunc(slices.Clone(m.tables), func(t *table) bool { return !inMemory(t) }))
		if len(chosen) == 0 {
			return nil
		}
		t, err := mergedInMemory(x.ctx, chosen, m.shards, func() {})
		if err != nil {
			return err
		}
		m.replace(chosen, t)
	}
}

// beginAnew reads the journal in use from its start.
func (x *Index) beginAnew(ctx context.Context) error {
	var err error
	for range attempts {
		if err = x.loadJournal(ctx); err == nil || !isReplaced(err) {
			return err
		}
	}
	return err
}

// isReplaced tells whether an error may be because a file was replaced meanwhile.
func isReplaced(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(asDamage(err), ErrDamaged)
}

func (x *Index) loadJournal(ctx context.Context) error {
	current, err := x.folder.readCurrent()
	if err != nil {
		return err
	}
	m := newManifest()
	at, err := journal.Read(x.folder.fsys, x.folder.journal(current.journal), journal.Position{}, m.reading(ctx))
	if err == nil {
		err = x.folder.openTables(m)
	}
	if err != nil {
		return asMissing(err)
	}
	f := x.follow
	f.current, f.at, f.isOff = current, at, false
	x.mu.Lock()
	old := x.view.Load()
	x.manifest = m
	gate := x.publishWithout()
	x.mu.Unlock()
	gate.Close()
	return closeTables(old.tables)
}
