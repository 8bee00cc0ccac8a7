package mapped

import (
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"
)

// gates are made in each way.
var gates = map[string]func() *gate{
	"few readers": func() *gate { return &gate{} },
	"spread": func() *gate {
		g := &gate{}
		g.spread()
		return g
	},
}

func TestWhatIsReadStaysUntilTheLastReaderHasLeft(t *testing.T) {
	for name, made := range gates {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				g := made()
				var inside []Pass
				for range 3 {
					p, ok := g.enter()
					require.True(t, ok)
					inside = append(inside, p)
				}
				var closed atomic.Bool
				go func() {
					if !g.close() {
						t.Error("another has closed it")
					}
					closed.Store(true)
				}()
				synctest.Wait()
				<-g.closing()
				for _, p := range inside {
					synctest.Wait()
					require.False(t, closed.Load())
					_, ok := g.enter()
					require.False(t, ok, "closing has begun")
					require.False(t, g.close(), "another is closing it")
					g.leave(p)
				}
				synctest.Wait()
				require.True(t, closed.Load())
			})
		})
	}
}

func TestReadersFromBeforeAGateIsSpreadAreNotForgotten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := &gate{}
		before, ok := g.enter()
		require.True(t, ok)
		g.spread()
		many := g.many.Load()
		g.spread()
		require.Same(t, many, g.many.Load(), "who is counted there would be lost")
		after, ok := g.enter()
		require.True(t, ok)
		require.NotEqual(t, before, after)
		var closed atomic.Bool
		go func() {
			g.close()
			closed.Store(true)
		}()
		synctest.Wait()
		g.leave(after)
		synctest.Wait()
		require.False(t, closed.Load())
		g.leave(before)
		synctest.Wait()
		require.True(t, closed.Load())
	})
}

// Each round closes a gate at another moment of what its readers do. A reader that
// was missed writes to what has been taken away, which the race detector sees, too;
// a wake-up that was missed leaves close waiting for ever.
func TestNoReaderAndNoWakeUpIsMissed(t *testing.T) {
	for name, made := range gates {
		t.Run(name, func(t *testing.T) {
			for round := range 2000 {
				g := made()
				var read [4]int // taken away in the end
				var readers sync.WaitGroup
				for i := range read {
					readers.Go(func() {
						for range round%7 + 1 {
							p, ok := g.enter()
							if !ok {
								return
							}
							read[i]++
							if i == 0 && round%3 == 0 {
								g.spread() // in the middle of it
							}
							g.leave(p)
						}
					})
				}
				for range round % 5 {
					runtime.Gosched()
				}
				g.close()
				for i := range read {
					read[i] = -1
				}
				readers.Wait()
				for _, n := range read {
					require.Equal(t, -1, n)
				}
			}
		})
	}
}

func TestOneOfManyCloses(t *testing.T) {
	for range 200 {
		g := &gate{}
		var first atomic.Int32
		var closers sync.WaitGroup
		for range 4 {
			closers.Go(func() {
				if g.close() {
					first.Add(1)
				}
				if _, ok := g.enter(); ok {
					t.Error("entered after close")
				}
			})
		}
		<-g.closing()
		closers.Wait()
		require.EqualValues(t, 1, first.Load())
		<-g.closing()
	}
}

func TestReadersAreSpreadOverCounters(t *testing.T) {
	g := &gate{}
	g.spread()
	used := map[Pass]bool{}
	var all, inside sync.WaitGroup
	var mu sync.Mutex
	inside.Add(64)
	for range 64 {
		all.Go(func() {
			p, _ := g.enter()
			mu.Lock()
			used[p] = true
			mu.Unlock()
			inside.Done()
			inside.Wait() // so that no stack is used again
			g.leave(p)
		})
	}
	all.Wait()
	require.Greater(t, len(used), stripes/2)
	require.True(t, g.close())
}

func TestEnteringAllocatesNothing(t *testing.T) {
	for name, made := range gates {
		g := made()
		require.Zero(t, testing.AllocsPerRun(100, func() {
			p, _ := g.enter()
			g.leave(p)
		}), name)
	}
}
