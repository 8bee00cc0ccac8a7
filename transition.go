package dagstore

import "fmt"

// The verbs of the table in state.go. Each moves one lifecycle and notes in the
// ready what that asks of the world. They are as pure as step.

func register(l *lifecycle, ev event, rd *ready) {
	rd.save = true
	rd.did(OpShardRegister, l)
	if l.lazy {
		rd.answer(ev.ticket, nil)
		return
	}
	l.owner = ev.ticket
	initialize(l, jobIndex, rd)
}

func resume(l *lifecycle, _ event, rd *ready) {
	rd.did(OpShardRegister, l)
	initialize(l, jobIndex, rd)
}

// unregister forgets also the record: some of it may have been written.
func unregister(l *lifecycle, ev event, rd *ready) {
	l.state, rd.forget = shardStateGone, true
	rd.answer(ev.ticket, ev.err)
}

func initialize(l *lifecycle, kind jobKind, rd *ready) {
	l.state, l.indexing = ShardStateInitializing, true
	rd.start(kind, 0)
	rd.did(OpShardInitialize, l)
}

func initializeThenOpen(l *lifecycle, ev event, rd *ready) {
	park(l, ev, rd)
	initialize(l, jobIndex, rd)
}

// reindex makes the index of a shard again that had one. A restart is to finish
// that, and not to wait for an acquirer.
func reindex(l *lifecycle, _ event, rd *ready) {
	l.lazy = false
	initialize(l, jobReindex, rd)
}

// reindexThenOpen repairs an index that an open job could not use.
func reindexThenOpen(l *lifecycle, ev event, rd *ready) {
	parkAgain(l, ev, rd)
	reindex(l, ev, rd)
}

func park(l *lifecycle, ev event, rd *ready) {
	l.parked = append(l.parked, ev.ticket)
	rd.did(OpShardAcquire, l)
}

// parkAgain lets an acquirer whose index was stale wait for the new one.
func parkAgain(l *lifecycle, ev event, rd *ready) {
	release(l, ev, rd)
	l.parked = append(l.parked, ev.ticket)
}

func unpark(l *lifecycle, ev event, rd *ready) {
	for i, t := range l.parked {
		if t == ev.ticket {
			l.parked = append(l.parked[:i], l.parked[i+1:]...)
			rd.answer(t, ev.err)
			return
		}
	}
}

func open(l *lifecycle, ev event, rd *ready) {
	l.state = ShardStateServing
	l.refs++
	rd.start(jobOpen, ev.ticket)
	rd.did(OpShardAcquire, l)
}

func activate(l *lifecycle, _ event, rd *ready) {
	l.indexing, l.err = false, nil
	for _, t := range l.parked {
		rd.start(jobReopen, t)
	}
	l.refs += len(l.parked)
	l.parked = nil
	l.settle()
	rd.answer(l.takeOwner(), nil)
	rd.did(OpShardMakeAvailable, l)
}

func fail(l *lifecycle, ev event, rd *ready) {
	l.indexing = false
	rd.answer(l.takeOwner(), ev.err)
	rd.answerAll(l.takeParked(), ev.err)
	becomeErrored(l, ev.err, rd)
}

func failOpen(l *lifecycle, ev event, rd *ready) {
	abandon(l, ev, rd)
	becomeErrored(l, ev.err, rd)
}

func becomeErrored(l *lifecycle, err error, rd *ready) {
	l.state, l.err, l.recoverOnAcquire = ShardStateErrored, err, false
	rd.save, rd.failure = true, err
	rd.did(OpShardFail, l)
}

func deliver(_ *lifecycle, ev event, rd *ready) { rd.answer(ev.ticket, nil) }

func abandon(l *lifecycle, ev event, rd *ready) {
	rd.answer(ev.ticket, ev.err)
	release(l, ev, rd)
}

func release(l *lifecycle, _ event, rd *ready) {
	l.refs--
	if l.state == ShardStateServing {
		l.settle()
	}
	rd.did(OpShardRelease, l)
}

func recoverNow(l *lifecycle, ev event, rd *ready) {
	l.state, l.owner = ShardStateRecovering, ev.ticket
	l.recoverOnAcquire, l.indexing = false, true
	rd.start(jobRefetch, 0)
	rd.did(OpShardRecover, l)
}

func recoverThenOpen(l *lifecycle, ev event, rd *ready) {
	if !l.recoverOnAcquire {
		rd.answer(ev.ticket, l.err)
		rd.did(OpShardAcquire, l)
		return
	}
	park(l, ev, rd)
	recoverNow(l, event{}, rd)
}

func destroyIfIdle(l *lifecycle, ev event, rd *ready) {
	if l.refs > 0 {
		refuse(l, event{ticket: ev.ticket, err: fmt.Errorf("failed to destroy shard; active references: %d: %w", l.refs, ErrShardInUse)}, rd)
		return
	}
	destroy(l, ev, rd)
}

// destroy makes the shard unreachable; an index job that runs is ended first,
// and what waited for it is told that the shard is gone.
func destroy(l *lifecycle, ev event, rd *ready) {
	l.state, l.err = ShardStateUnknown, nil
	rd.answer(l.takeOwner(), ErrShardUnknown)
	rd.answerAll(l.takeParked(), ErrShardUnknown)
	l.owner = ev.ticket
	if l.indexing {
		rd.cancel = true
		return
	}
	rd.start(jobErase, 0)
}

func erase(l *lifecycle, _ event, rd *ready) {
	l.indexing = false
	rd.start(jobErase, 0)
}

func forget(l *lifecycle, _ event, rd *ready) {
	rd.did(OpShardDestroy, l)
	rd.forget = true
	rd.answer(l.takeOwner(), nil)
	l.state = shardStateGone
}

// keep leaves a shard that could not be destroyed whole as a failed one: it can
// be destroyed again, or recovered.
func keep(l *lifecycle, ev event, rd *ready) {
	rd.answer(l.takeOwner(), ev.err)
	becomeErrored(l, ev.err, rd)
}

func refuseRecover(l *lifecycle, ev event, rd *ready) {
	rd.answer(ev.ticket, fmt.Errorf("%w; current state: %s", ErrShardNotErrored, l.state))
	rd.did(OpShardRecover, l)
}

// undestroyed writes the record anew: what says that the shard is to be destroyed
// may have been written after all.
func undestroyed(l *lifecycle, ev event, rd *ready) {
	rd.save = true
	refuse(l, ev, rd)
}

func refuse(l *lifecycle, ev event, rd *ready) {
	rd.answer(ev.ticket, ev.err)
	rd.did(OpShardDestroy, l)
}

func refuseUnknown(_ *lifecycle, ev event, rd *ready) { rd.answer(ev.ticket, ErrShardUnknown) }

func ignore(*lifecycle, event, *ready) {}

// settle gives an indexed shard the state that its references call for.
func (l *lifecycle) settle() {
	l.state = ShardStateAvailable
	if l.refs > 0 {
		l.state = ShardStateServing
	}
}

func (l *lifecycle) takeOwner() ticket {
	t := l.owner
	l.owner = 0
	return t
}

func (l *lifecycle) takeParked() []ticket {
	p := l.parked
	l.parked = nil
	return p
}

func (l *lifecycle) info() ShardInfo {
	return ShardInfo{ShardState: l.state, Error: l.err, refs: l.refs}
}

func (rd *ready) start(kind jobKind, t ticket) { rd.jobs = append(rd.jobs, job{kind, t}) }

func (rd *ready) did(op OpType, l *lifecycle) { rd.traces = append(rd.traces, trace{op, l.info()}) }

func (rd *ready) answer(t ticket, err error) {
	if t != 0 {
		rd.replies = append(rd.replies, reply{t, err})
	}
}

func (rd *ready) answerAll(ts []ticket, err error) {
	for _, t := range ts {
		rd.answer(t, err)
	}
}
