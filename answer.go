package dagstore

import (
	"context"
	"sync"
)

// answer sends the result of a request to the caller behind a ticket. An
// accessor goes to the caller, or is closed.
func (l *loop) answer(sh *Shard, r reply, a *ShardAccessor) {
	res := ShardResult{Key: sh.key, Error: r.err}
	if r.err == nil {
		res.Accessor = a
	}
	c := l.callers[r.ticket]
	delete(l.callers, r.ticket)
	if c == nil {
		l.dropBeside(res)
		return
	}
	l.deliver(c, res)
}

// deliver sends a result without waiting: what cannot be sent now goes to the
// outbox of its channel, in order.
func (l *loop) deliver(c *caller, res ShardResult) {
	if c.stop != nil {
		c.stop()
	}
	if c.out == nil || c.ctx.Err() != nil {
		l.dropBeside(res)
		return
	}
	box := l.outboxes[c.out]
	if box == nil {
		if trySend(c.out, res) {
			return
		}
		box = &outbox{out: c.out, gate: l.gate}
		l.outboxes[c.out] = box
		box.push(c.ctx, res)
		l.serve(box)
		return
	}
	box.push(c.ctx, res)
}

// trySend sends a result if that can be done at once. A channel that its owner
// has closed takes nothing.
func trySend(out chan ShardResult, res ShardResult) (sent bool) {
	defer func() {
		if recover() != nil {
			sent = false
		}
	}()
	select {
	case out <- res:
		return true
	default:
		return false
	}
}

func (l *loop) serve(box *outbox) {
	l.inflight++
	go func() {
		defer l.gate.post(message{idle: box}) // also when user code ends the goroutine
		box.run(l.giveUp)
	}()
}

// retire forgets an outbox whose goroutine has ended, unless results have come
// in since.
func (l *loop) retire(box *outbox) {
	l.inflight--
	if box.empty() {
		delete(l.outboxes, box.out)
		return
	}
	l.serve(box)
}

// dropBeside drops a result beside the loop: closing a reader is up to its
// mount, and may take long.
func (l *loop) dropBeside(res ShardResult) {
	if res.Accessor == nil {
		return
	}
	l.beside(func() { drop(res) }, nil)
}

// drop closes the accessor that nobody gets.
func drop(res ShardResult) {
	if res.Accessor != nil {
		res.Accessor.abandon()
	}
}

// An outbox holds the results for one channel whose reader lags.
type outbox struct {
	out  chan ShardResult
	gate *gate

	mu    sync.Mutex // guards queue: the loop pushes, a goroutine pops, contexts end
	queue []*delivery
}

type delivery struct {
	ctx  context.Context
	res  ShardResult
	stop func() bool // ends the watch over ctx
}

// push queues a result. When ctx ends while the result is still waiting behind
// others, it is dropped at once: it may hold an accessor.
func (b *outbox) push(ctx context.Context, res ShardResult) {
	dl := &delivery{ctx: ctx, res: res}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.queue = append(b.queue, dl)
	dl.stop = context.AfterFunc(ctx, func() {
		if b.remove(dl) && !b.gate.post(message{accessor: dl.res.Accessor, event: event{kind: noEvent}}) {
			drop(dl.res)
		}
	})
}

func (b *outbox) remove(dl *delivery) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	for i, other := range b.queue {
		if other == dl {
			b.queue = append(b.queue[:i], b.queue[i+1:]...)
			return true
		}
	}
	return false
}

func (b *outbox) pop() *delivery {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.queue) == 0 {
		return nil
	}
	dl := b.queue[0]
	b.queue = b.queue[1:]
	return dl
}

func (b *outbox) empty() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.queue) == 0
}

// run sends the results one after the other, each until its context ends. After
// giveUp it sends only what is taken at once.
func (b *outbox) run(giveUp <-chan struct{}) {
	for dl := b.pop(); dl != nil; dl = b.pop() {
		if !b.send(dl, giveUp) {
			drop(dl.res)
		}
	}
}

func (b *outbox) send(dl *delivery, giveUp <-chan struct{}) (sent bool) {
	defer dl.stop()
	defer func() {
		if recover() != nil {
			sent = false // the channel was closed: nobody wants to know
		}
	}()
	if dl.ctx.Err() != nil {
		return false
	}
	if trySend(b.out, dl.res) {
		return true
	}
	select {
	case b.out <- dl.res:
		return true
	case <-dl.ctx.Done():
	case <-giveUp:
	}
	return false
}
