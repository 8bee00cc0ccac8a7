package inverted

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

func TestMergingLeavesMostOfACoreToCalls(t *testing.T) {
	for _, c := range []struct {
		name   string
		calls  bool
		layers int
		rests  time.Duration
	}{
		{"calls", true, 10, 8 * time.Millisecond},
		{"nobody", false, 10, 0},
		{"too many layers", true, crowded, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				x := newIndex(Options{}, newManifest())
				defer x.cancel()
				x.view.Store(&view{tables: make([]*table, c.layers)})
				p := x.newPace()
				for range 3 {
					if c.calls {
						x.count(3)
					}
					time.Sleep(2 * time.Millisecond) // the work
					began := time.Now()
					p.rest()
					require.Equal(t, c.rests, time.Since(began))
					p.rest()
					require.Equal(t, c.rests, time.Since(began), "it has not worked since")
				}
			})
		})
	}
}

func TestCloseEndsARest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := newIndex(Options{}, newManifest())
		began := time.Now()
		x.cancel()
		x.sleep(time.Hour, nil)
		require.Zero(t, time.Since(began))
	})
}
