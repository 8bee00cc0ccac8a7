package mapped

import (
	"sync"
	"sync/atomic"
	"unsafe"
)

// stripes is how many counters a spread gate has. A power of two.
const stripes = 8

// A gate counts the reads in progress, so that what they read is taken away only
// when the last has ended. Entering waits for nobody. The zero gate is open.
type gate struct {
	closed atomic.Bool
	few    atomic.Int64                    // counts as long as the gate is not spread
	many   atomic.Pointer[[stripes]stripe] // counts from then on
	left   chan struct{}                   // has room for one: somebody left after closing began; made just before

	mu   sync.Mutex    // guards done, which is made when somebody asks for it
	done chan struct{} // closed when closing begins
}

// A stripe is a counter on a cache line of its own, so that cores that count on
// different ones do not wait for each other.
type stripe struct {
	n atomic.Int64
	_ [56]byte
}

// A Pass is a read in progress: the counter that has it. -1 is few.
type Pass int8

// spread prepares the gate for many readers at once.
func (g *gate) spread() {
	if g.many.Load() == nil {
		g.many.CompareAndSwap(nil, new([stripes]stripe))
	}
}

// enter begins a read, which leave ends. It returns false once closing has begun.
func (g *gate) enter() (Pass, bool) {
	p := Pass(-1)
	n := &g.few
	if many := g.many.Load(); many != nil {
		p = ownStripe()
		n = &many[p].n
	}
	n.Add(1)
	if g.closed.Load() {
		g.leave(p)
		return 0, false
	}
	return p, true
}

// ownStripe returns a stripe that most other goroutines do not have: it is chosen
// by where the stack is.
func ownStripe() Pass {
	var here byte
	at := uint64(uintptr(unsafe.Pointer(&here)) >> 11)
	return Pass((at * 0x9e3779b97f4a7c15) >> 32 & (stripes - 1))
}

func (g *gate) leave(p Pass) {
	if p < 0 {
		g.few.Add(-1)
	} else {
		g.many.Load()[p].n.Add(-1)
	}
	if g.closed.Load() {
		select {
		case g.left <- struct{}{}:
		default: // who waits will look anyway
		}
	}
}

// close makes entering fail from now on and waits until nobody is in. All calls
// but the first return false at once.
//
// No reader is missed. It counts itself before it looks at closed, and closed is
// set before the counters are read: so either it sees that the gate is closed, or
// its count is seen here. Its counter stays above zero as long as it is in, since
// no counter is ever below zero. And when it leaves it sees that the gate is
// closed, and wakes the wait.
func (g *gate) close() bool {
	if !g.shut() {
		return false
	}
	for !g.empty() {
		<-g.left
	}
	return true
}

// shut sets closed, once, and tells who waits for that.
func (g *gate) shut() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closed.Load() {
		return false
	}
	g.left = make(chan struct{}, 1)
	g.closed.Store(true)
	if g.done != nil {
		close(g.done)
	}
	return true
}

// closing returns a channel that is closed when closing begins.
func (g *gate) closing() <-chan struct{} {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.done == nil {
		g.done = make(chan struct{})
		if g.closed.Load() {
			close(g.done)
		}
	}
	return g.done
}

func (g *gate) empty() bool {
	if g.few.Load() != 0 {
		return false
	}
	if many := g.many.Load(); many != nil {
		for i := range many {
			if many[i].n.Load() != 0 {
				return false
			}
		}
	}
	return true
}
