package dagstore

import (
	"context"
	"errors"
	"io/fs"
	"time"

	"github.com/filecoin-project/dagstore/shard"
)

// A top-level index that lacks shards, or is damaged, is mended beside serving, in
// rounds until it is whole. Look-ups go to the full indices of the shards that it
// lacks, so that answers are right all the time.

const (
	// mendPause is the time between two rounds. It doubles, up to longestPause, as
	// long as rounds fail: the disk is full, or cannot be written.
	mendPause    = time.Minute
	longestPause = time.Hour
)

// mending is what the loop knows of it.
type mending struct {
	isOn  bool
	next  time.Time     // no round begins before
	pause time.Duration // that led to next
}

// mend begins a round, unless there is one, or no need.
func (l *loop) mend() {
	if l.mending.isOn || l.closing || l.topLevel.shards.isWhole() {
		return
	}
	l.mending.isOn = true
	begin := l.mending.next
	l.beside(func() {
		if waitUntil(l.ctx, begin) && l.renew() {
			l.backfill()
			l.topLevel.tellReaders()
		}
	}, l.mended)
}

// mended is called after a round.
func (l *loop) mended() {
	m := &l.mending
	if l.topLevel.shards.isWhole() {
		m.pause = 0
	}
	m.pause = min(max(2*m.pause, mendPause), longestPause)
	m.next = time.Now().Add(m.pause)
	m.isOn = false
	l.mend()
}

// waitUntil returns false if ctx ends.
func waitUntil(ctx context.Context, t time.Time) bool {
	timer := time.NewTimer(time.Until(t))
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
	return ctx.Err() == nil
}

// renew makes the top-level index empty if it is damaged, and returns false if it
// cannot.
func (l *loop) renew() bool {
	t := l.topLevel
	if !t.shards.now.Load().damaged {
		return true
	}
	if err := t.own.Reset(l.ctx); err != nil {
		if l.ctx.Err() == nil {
			log.Errorw("damaged top-level index could not be made anew, which is tried again within the hour; look-ups are slow until then: make room on its disk, and let it be written to", "folder", t.dir, "error", err)
		}
		return false
	}
	t.shards.renewed()
	return true
}

// backfill adds the shards that the top-level index lacks: after a crash, an upgrade
// from v0.7, or the loss of the index.
func (l *loop) backfill() {
	failures, first := 0, error(nil)
	for _, lacking := range l.topLevel.shards.lacks() {
		if l.ctx.Err() != nil || l.topLevel.shards.now.Load().damaged {
			return
		}
		if err := l.add(lacking); err != nil {
			if failures++; first == nil {
				first = err
			}
		}
	}
	if failures > 0 && l.ctx.Err() == nil {
		log.Errorw("shards could not be added to the top-level index, which is tried again within the hour; look-ups in their full indices are slow until then", "shards", failures, "error", first)
	}
}

// awaitsCaller tells whether a shard is not indexed before somebody acquires, recovers
// or destroys it.
func (l *loop) awaitsCaller(key shard.Key) bool {
	info, err := l.gate.info(key)
	return err == nil && (info.ShardState == ShardStateNew || info.ShardState == ShardStateErrored)
}

// add adds a shard from its full index. If that cannot be used, the shard is indexed
// anew, and look-ups make do with what can be read of it until then; one that nobody
// indexes is given up.
func (l *loop) add(lacking *lackingShard) error {
	sh := l.gate.lookup(lacking.key)
	if sh == nil { // destroyed meanwhile
		return nil
	}
	err := sh.adopt(l.ctx)
	switch {
	case errors.Is(err, ErrShardUnknown):
		return nil
	case errors.Is(err, errTopLevel):
		return err
	case isLost(err), errors.Is(err, errNotIterable):
		if errors.Is(err, fs.ErrNotExist) || l.awaitsCaller(lacking.key) {
			l.topLevel.shards.giveUp(lacking)
		}
		l.gate.post(message{shard: sh, event: event{kind: evIndexLost, err: err}})
		return nil
	}
	return err
}
