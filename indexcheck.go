package dagstore

import (
	"context"
	"sync/atomic"

	carindex "github.com/ipld/go-car/v2/index"

	"github.com/filecoin-project/dagstore/index"
	"github.com/filecoin-project/dagstore/internal/guard"
)

// A trust is what this process knows of the full index of a shard.
type trust struct {
	made       atomic.Bool  // it was made by this process
	fits       atomic.Bool  // it was made, or compared with the data in places
	whole      atomic.Bool  // it was read whole, and is what was written
	generation atomic.Int64 // how often it was made
	checking   atomic.Bool  // a check of it is waiting, or under way
	blamed     atomic.Bool  // it was logged that the data is at fault
}

// renew is called when the index was made.
func (t *trust) renew() {
	t.generation.Add(1)
	t.whole.Store(false)
	t.made.Store(true)
	t.fits.Store(true)
}

// known tells whether the index need not be read whole before it is believed.
func (t *trust) known() bool { return t.made.Load() || t.whole.Load() }

// suspectIndex has the full index of the shard read whole, off every caller's
// path, and made again if it is damaged. The suspicion is what a look-up found;
// nil means that nobody has read it yet.
func (sh *Shard) suspectIndex(suspicion error) {
	if sh.trust.checking.Swap(true) {
		return
	}
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
	l.beside(func() { m.shard.checkIndex(l.ctx, m.err) }, l.checkNext)
}

// checkIndex reads the full index whole. What a look-up found counts even if the
// index is what was written, unless this process wrote it: then the data is not
// what it was, and the index is not read for that again.
func (sh *Shard) checkIndex(ctx context.Context, suspicion error) {
	defer sh.trust.checking.Store(false)
	if !sh.store.gate.serves(sh) {
		return
	}
	made := sh.trust.made.Load()
	if suspicion != nil && made && sh.trust.whole.Load() {
		sh.blameData(suspicion)
		return
	}
	err := sh.verifyStored(ctx)
	switch {
	case ctx.Err() != nil:
	case isLost(err):
		sh.indexLost(err)
	case err != nil:
		log.Warnw("full index of a shard could not be verified; the next acquirer has it tried again", "shard", sh.key, "error", err)
	case suspicion != nil && !made:
		sh.indexLost(suspicion)
	default:
		sh.trust.whole.Store(true)
		if suspicion != nil {
			sh.blameData(suspicion)
		}
	}
}

func (sh *Shard) blameData(suspicion error) {
	if !sh.trust.blamed.Swap(true) {
		log.Errorw("blocks of a shard are not where its new index says: has its data changed?", "shard", sh.key, "error", suspicion)
	}
}

func (sh *Shard) indexLost(err error) {
	log.Warnw("full index of a shard is damaged: indexing it anew", "shard", sh.key, "error", err)
	sh.store.gate.post(message{shard: sh, event: event{kind: evIndexLost, err: err}})
}

func (sh *Shard) verifyStored(ctx context.Context) error {
	idx, err := sh.store.fullIndex(sh.key)
	if err != nil {
		return err
	}
	defer sh.store.release(idx)
	return verifyIndex(ctx, idx)
}

// verifyIndex reads an index whole, if it is one that can tell whether it is
// sound.
func verifyIndex(ctx context.Context, idx carindex.Index) (err error) {
	defer guard.Recover(&err)
	if v, ok := idx.(index.Verifier); ok {
		return v.Verify(ctx)
	}
	return nil
}
