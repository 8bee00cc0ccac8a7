package dagstore

import (
	"context"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"
)

func TestProcessOutlivesACallerThatClosesItsChannel(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		r := newRig(t)
		require.NoError(t, r.register("a"))
		before, waiting := make(chan ShardResult), make(chan ShardResult)
		close(before)
		require.NoError(t, r.AcquireShard(context.Background(), key("a"), before, AcquireOpts{}))
		require.NoError(t, r.AcquireShard(context.Background(), key("a"), waiting, AcquireOpts{}))
		synctest.Wait()
		close(waiting)
		synctest.Wait()
		require.Equal(t, ShardStateAvailable, r.state("a"))
		r.use("a")
	})
}

func TestProcessOutlivesAnObserverThatClosesItsChannel(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		traces, failures := make(chan Trace), make(chan ShardResult)
		close(traces)
		close(failures)
		r := newRig(t, func(c *Config) { c.TraceCh, c.FailureCh = traces, failures })
		r.sources["a"].err = errBoom
		require.ErrorIs(t, r.register("a"), errBoom)
		require.NoError(t, r.register("b"))
		r.use("b")
	})
}
