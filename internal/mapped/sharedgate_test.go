package mapped

import (
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestAGateIsClosedWhenTheLastHasLeft(t *testing.T) {
	g := NewGate()
	var isGone atomic.Bool
	var users sync.WaitGroup
	for range 8 {
		users.Go(func() {
			for {
				p, ok := g.Enter()
				if !ok {
					return
				}
				if isGone.Load() {
					t.Error("it is taken away while it is in use")
				}
				g.Leave(p)
			}
		})
	}
	require.True(t, g.Close())
	isGone.Store(true)
	require.False(t, g.Close())
	users.Wait()
}
