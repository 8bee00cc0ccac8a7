package mapped

// A Gate counts the uses in progress of something that is taken away when the last
// has ended. It is made by NewGate, and for many users at once.
type Gate struct{ gate gate }

// NewGate returns a Gate that is open.
func NewGate() *Gate {
	g := &Gate{}
	g.gate.spread()
	return g
}

// Enter begins a use, which Leave ends. It waits for nobody, and returns false once
// closing has begun.
func (g *Gate) Enter() (Pass, bool) { return g.gate.enter() }

// Leave ends the use that got p from Enter.
func (g *Gate) Leave(p Pass) { g.gate.leave(p) }

// Close makes Enter fail from now on and waits until nobody is in. All calls but
// the first return false at once.
func (g *Gate) Close() bool { return g.gate.close() }
