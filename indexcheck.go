package dagstore

import (
	"context"

	"github.com/filecoin-project/dagstore/index"
	"github.com/filecoin-project/dagstore/internal/guard"
)

// suspectIndex has the full index of the shard read whole, off every caller's
// path, and made again if it is damaged. The suspicion is what a look-up found;
// nil means that the index was just opened for the first time.
func (sh *Shard) suspectIndex(suspicion error) {
	sh.store.gate.post(message{shard: sh, suspect: true, event: event{kind: noEvent, err: suspicion}})
}

// check puts a shard in the queue of those whose indices are to be read.
func (l *loop) check(m message) {
	if l.closing {
		return
	}
	l.suspects = append(l.suspects, m)
	if !l.checking {
		l.checkNext()
	}
}

// checkNext reads the next index in the queue: one at a time, since that is work
// for the disk which nobody waits for.
func (l *loop) checkNext() {
	l.checking = len(l.suspects) > 0 && !l.closing
	if !l.checking {
		l.suspects = nil
		return
	}
	m := l.suspects[0]
	l.suspects = l.suspects[1:]
	l.inflight++
	go func() {
		defer l.gate.post(message{job: true, checked: true, event: event{kind: noEvent}}) // also when user code ends the goroutine
		m.shard.checkIndex(l.ctx, m.err)
	}()
}

// checkIndex reads the full index whole. What a look-up found counts even if the
// index is what was written, unless this process wrote it: then the data is not
// what it was.
func (sh *Shard) checkIndex(ctx context.Context, suspicion error) {
	if !sh.store.gate.serves(sh) {
		return
	}
	made := sh.made.Load()
	err := sh.verifyIndex(ctx)
	switch {
	case ctx.Err() != nil:
	case isLost(err):
		sh.indexLost(err)
	case err != nil:
		log.Warnw("full index of a shard could not be verified", "shard", sh.key, "error", err)
	case suspicion != nil && !made:
		sh.indexLost(suspicion)
	case suspicion != nil:
		log.Errorw("blocks of a shard are not where its new index says: has its data changed?", "shard", sh.key, "error", suspicion)
	}
}

func (sh *Shard) indexLost(err error) {
	log.Warnw("full index of a shard is damaged: indexing it anew", "shard", sh.key, "error", err)
	sh.store.gate.post(message{shard: sh, event: event{kind: evIndexLost, err: err}})
}

func (sh *Shard) verifyIndex(ctx context.Context) (err error) {
	defer guard.Recover(&err)
	idx, err := sh.store.fullIndex(sh.key)
	if err != nil {
		return err
	}
	defer releaseIndex(idx)
	if v, ok := idx.(index.Verifier); ok {
		return v.Verify(ctx)
	}
	return nil
}
