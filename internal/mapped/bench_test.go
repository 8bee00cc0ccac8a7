package mapped

import "testing"

// BenchmarkEnterAndLeave has one reader. Bar: 20 ns.
func BenchmarkEnterAndLeave(b *testing.B) {
	for _, spread := range []bool{false, true} {
		name := "few"
		if spread {
			name = "spread"
		}
		b.Run(name, func(b *testing.B) {
			var g gate
			if spread {
				g.spread()
			}
			for b.Loop() {
				p, _ := g.enter()
				g.leave(p)
			}
		})
	}
}

// BenchmarkFaultless guards a call that does nothing. Bar: 60 ns.
func BenchmarkFaultless(b *testing.B) {
	one, two := make([]byte, 10), make([]byte, 10)
	n := 0
	for b.Loop() {
		_ = Faultless(func() error {
			n++
			return nil
		}, one, two)
	}
}
