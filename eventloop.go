package dagstore

import (
	"context"
	"time"

	"github.com/filecoin-project/dagstore/internal/catalogue"
	"github.com/filecoin-project/dagstore/shard"
)

// closeGrace is how long Close lets answers wait for their receivers.
const closeGrace = time.Second

// A loop is the state that the event loop owns outright: no other goroutine can
// reach it, so nothing in it has a lock. The lifecycles of shards are its own too.
type loop struct {
	*DAGStore
	tickets  ticket
	callers  map[ticket]*caller
	inflight int // jobs and outboxes that have not reported their end
	indexing map[*Shard]context.CancelFunc
	outboxes map[chan ShardResult]*outbox
	closing  bool
	suspects []message          // full indices to be checked
	checking bool               // one is being checked
	mending  mending            // of the top-level index
	undead   map[shard.Key]bool // refused registrations whose records may be there; the next write removes them
	giveUp   chan struct{}      // closed when answers are not to wait any longer
}

// run is the event loop. It takes what has gathered in the inbox, decides what
// that means (state.go), writes all records that changed at once, and only then
// shows, starts, and answers. It waits for no caller, observer, mount or index;
// the one thing that it waits for is the datastore, for all records at once.
func (d *DAGStore) run() {
	l := &loop{
		DAGStore: d,
		callers:  map[ticket]*caller{},
		indexing: map[*Shard]context.CancelFunc{},
		outboxes: map[chan ShardResult]*outbox{},
		undead:   map[shard.Key]bool{},
		giveUp:   make(chan struct{}),
	}
	stop := d.ctx.Done()
	for !l.closing || l.inflight > 0 {
		l.wait(stop)
		if stop != nil && l.ctx.Err() != nil { // Close has begun: nothing more is served
			stop = nil
			defer l.shutDown().Stop()
		}
		l.handle(l.gate.take())
	}
	l.gate.die()
	d.topLevel.close()
	d.unlockFolder()
	close(d.done)
}

// wait returns when there is a message, when the store is to stop, or when an
// observer took something. An observer that closed its channel is told nothing
// any more.
func (l *loop) wait(stop <-chan struct{}) {
	defer func() {
		if v := recover(); v != nil {
			log.Errorw("channel of an observer was closed: observers are not told any more", "panic", v)
			l.observed.traceCh, l.observed.failureCh = nil, nil
		}
	}()
	// Only an observer for whom there is something has a channel here.
	traceCh, trace := l.observed.nextTrace()
	failureCh, failure := l.observed.nextFailure()
	select {
	case <-stop:
	case <-l.gate.wake:
	case traceCh <- trace:
		l.observed.traceTaken()
	case failureCh <- failure:
		l.observed.failureTaken()
	}
}

// shutDown answers everybody who waits. From here on, requests are refused, and
// outcomes matter only in so far as they are worth recording.
func (l *loop) shutDown() *time.Timer {
	l.closing = true
	for t, c := range l.callers {
		delete(l.callers, t)
		l.deliver(c, ShardResult{Key: c.key, Error: ErrClosed})
	}
	l.handle(l.gate.take())
	return time.AfterFunc(closeGrace, func() { close(l.giveUp) })
}

func (l *loop) handle(batch []message) {
	var events []message
	for _, m := range batch {
		switch {
		case m.idle != nil:
			l.retire(m.idle)
		case m.suspect:
			l.check(m)
		case m.mend:
			l.mend()
		case m.audit != nil:
			l.audit(m.audit)
		case m.gc != nil:
			l.apply(events)
			events = nil
			l.collect(m.gc)
		default:
			if l.receive(&m) {
				events = append(events, m)
			}
		}
	}
	l.apply(events)
}

// receive does the bookkeeping of a message, and says whether it is an event
// for its shard.
func (l *loop) receive(m *message) bool {
	if m.job {
		l.inflight--
		l.ended(m)
	}
	if m.then != nil {
		m.then()
	}
	if m.kind == noEvent {
		l.dropBeside(ShardResult{Accessor: m.accessor})
		return false
	}
	if l.closing && m.kind != evIndexed {
		l.discard(m)
		return false
	}
	if m.caller == nil {
		return true
	}
	if err := l.resolve(m); err != nil {
		l.deliver(m.caller, ShardResult{Key: m.key, Error: err})
		return false
	}
	l.tickets++
	m.ticket = l.tickets
	l.callers[m.ticket] = m.caller
	if m.kind == evAcquire {
		l.watch(m)
	}
	return true
}

// resolve finds the shard of a request that was made before Start.
func (l *loop) resolve(m *message) error {
	sh := l.gate.lookup(m.key)
	if m.kind == evRegister && sh != m.shard {
		return ErrShardExists
	}
	if m.shard == nil {
		if sh == nil {
			return ErrShardUnknown
		}
		m.shard = sh
	}
	return nil
}

// watch lets the machine know when an acquirer gives up, so that nothing is
// kept for it while its shard is being indexed.
func (l *loop) watch(m *message) {
	ctx, sh, t := m.caller.ctx, m.shard, m.ticket
	if ctx.Done() == nil {
		return
	}
	m.caller.stop = context.AfterFunc(ctx, func() {
		l.gate.post(message{shard: sh, event: event{kind: evGaveUp, ticket: t, err: ctx.Err()}})
	})
}

// ended notes the end of an index job.
func (l *loop) ended(m *message) {
	if m.kind == evIndexed || m.kind == evIndexFailed {
		l.indexing[m.shard]()
		delete(l.indexing, m.shard)
	}
}

// discard drops a message that comes too late, and what it holds.
func (l *loop) discard(m *message) {
	l.dropBeside(ShardResult{Accessor: m.accessor})
	if m.caller != nil {
		l.deliver(m.caller, ShardResult{Key: m.key, Error: ErrClosed})
	}
}

// A move is one event and what came of it.
type move struct {
	msg  message
	next lifecycle
	ready
}

// apply takes events through the machine and honours what that asks for. All
// records are written together; when that fails, the events are taken one by
// one, so that only those fail whose own records cannot be written.
func (l *loop) apply(events []message) {
	moves := make([]move, 0, len(events))
	pending := make(map[*Shard]lifecycle, len(events))
	for _, m := range events {
		from, ok := pending[m.shard]
		if !ok {
			from = m.shard.lifecycle
		}
		if mv, ok := l.decide(from, m); ok {
			pending[m.shard] = mv.next
			moves = append(moves, mv)
		}
	}
	if err := l.commit(moves); err == nil {
		l.perform(moves)
		return
	}
	for _, m := range events {
		l.applyAlone(m)
	}
}

func (l *loop) applyAlone(m message) {
	mv, ok := l.decide(m.shard.lifecycle, m)
	if !ok {
		return
	}
	if err := l.commit([]move{mv}); err != nil {
		log.Errorw("record of shard not written", "shard", m.shard.key, "event", m.kind, "error", err)
		if kind, ok := unrecorded[m.kind]; ok {
			m.event = event{kind: kind, ticket: m.ticket, err: err}
			if mv, ok = l.decide(m.shard.lifecycle, m); !ok {
				return
			}
			if l.commit([]move{mv}) != nil && mv.forget {
				l.undead[m.shard.key] = true
			} // of all else, a restart meets the cause again
		}
	}
	l.perform([]move{mv})
}

func (l *loop) decide(from lifecycle, m message) (move, bool) {
	next, rd, err := step(from, m.event)
	if err != nil {
		log.Errorw("event dropped", "shard", m.shard.key, "error", err)
		impossible(err)
		l.discard(&message{key: m.shard.key, accessor: m.accessor})
		return move{}, false
	}
	return move{m, next, rd}, true
}

// impossible is told of events that cannot happen. Tests make it fail them.
var impossible = func(error) {}

// commit makes the records of these moves durable, of several moves of one
// shard only the last.
func (l *loop) commit(moves []move) error {
	last := make(map[*Shard]int, len(moves))
	var changes []catalogue.Change
	for _, mv := range moves {
		if !mv.save && !mv.forget {
			continue
		}
		sh := mv.msg.shard
		value, err := sh.record(mv.next, mv.forget)
		if err != nil {
			return err
		}
		change := catalogue.Change{Key: sh.key.String(), Value: value}
		if i, ok := last[sh]; ok {
			changes[i] = change
			continue
		}
		last[sh] = len(changes)
		changes = append(changes, change)
	}
	changes = l.bury(changes)
	// Records are written also while the store is closing.
	err := l.catalogue.Commit(context.WithoutCancel(l.ctx), changes)
	if err == nil && len(changes) > 0 {
		clear(l.undead)
	}
	return err
}

// bury adds the removal of undead records to changes, if there are any.
func (l *loop) bury(changes []catalogue.Change) []catalogue.Change {
	if len(changes) == 0 || len(l.undead) == 0 {
		return changes
	}
	for _, ch := range changes {
		delete(l.undead, shard.KeyFromString(ch.Key)) // registered anew
	}
	for key := range l.undead {
		changes = append(changes, catalogue.Change{Key: key.String()})
	}
	return changes
}

// perform does what moves ask for whose records are durable: everything is
// visible before work starts, and before anybody is told.
func (l *loop) perform(moves []move) {
	if len(moves) == 0 {
		return
	}
	for _, mv := range moves {
		mv.msg.shard.lifecycle = mv.next
	}
	l.gate.publish(moves)
	for _, mv := range moves {
		sh := mv.msg.shard
		if cancel := l.indexing[sh]; mv.cancel && cancel != nil { // else it has just ended
			cancel()
		}
		for _, j := range mv.jobs {
			l.begin(sh, j)
		}
		for _, r := range mv.replies {
			l.answer(sh, r, mv.msg.accessor)
		}
		l.observed.note(sh.key, mv.ready)
	}
}

// begin starts a job in a goroutine of its own. Every job posts one message,
// and the loop goes on until it has them all.
func (l *loop) begin(sh *Shard, j job) {
	l.inflight++
	ctx := l.ctx
	switch j.kind {
	case jobOpen, jobReopen:
		if c := l.callers[j.ticket]; c != nil {
			ctx = c.ctx
		}
	case jobIndex, jobReindex, jobRefetch:
		var cancel context.CancelFunc
		ctx, cancel = context.WithCancel(ctx)
		l.indexing[sh] = cancel
	case jobErase:
	}
	go func() {
		m := sh.broken(j)
		defer func() { l.gate.post(m) }() // also when user code ends the goroutine
		m = sh.work(ctx, j)
	}()
}

// beside runs work that is no event for any shard in a goroutine that Close waits
// for. The loop calls then, which may be nil, when the work has ended.
func (l *loop) beside(work, then func()) {
	l.inflight++
	go func() {
		defer l.gate.post(message{job: true, then: then, event: event{kind: noEvent}}) // also when user code ends the goroutine
		work()
	}()
}
