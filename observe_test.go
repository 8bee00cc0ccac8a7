package dagstore

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// Defects 15, 24.
func TestUnreadTracesAndFailuresBlockNobody(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		r := newStoppedRig(t, func(c *Config) {
			c.TraceCh, c.FailureCh = make(chan Trace), make(chan ShardResult)
		})
		for i := range 500 {
			r.plant(fmt.Sprintf("a%03d", i), ShardStateNew, false, "")
		}
		r.sources["b"].err = errBoom
		require.NoError(t, r.Start(t.Context()))
		require.Error(t, r.register("b"))
		synctest.Wait()
		require.Equal(t, map[ShardState]int{ShardStateAvailable: 500, ShardStateErrored: 1}, r.Stats())
		require.Zero(t, r.DroppedTraces())
		require.NoError(t, r.Close())
	})
}

func TestOldestTracesAreDroppedAndCounted(t *testing.T) {
	o := &observed{traceCh: make(chan Trace)}
	var rd ready
	l := &lifecycle{}
	rd.did(OpShardAcquire, l)
	for range maxTraces {
		o.note(key("a"), rd)
	}
	require.Zero(t, o.dropped.Load())
	o.note(key("b"), rd)
	o.note(key("c"), rd)
	require.EqualValues(t, 2, o.dropped.Load())
	require.Len(t, o.traces, maxTraces)
	require.Equal(t, key("c"), o.traces[maxTraces-1].Key)
}

// Defect 29.
func TestTraceReaderMayCallTheStore(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		ch := make(chan Trace)
		r := newRig(t, func(c *Config) { c.TraceCh = ch })
		var seen []ShardState
		go func() {
			for tr := range ch {
				seen = append(seen, r.state(tr.Key.String()))
			}
		}()
		require.NoError(t, r.register("a"))
		require.NoError(t, r.Close())
		close(ch)
		synctest.Wait()
		require.Len(t, seen, 3)
	})
}

func TestFailureReaderMayCallTheStore(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		failures := make(chan ShardResult)
		r := newRig(t, func(c *Config) { c.FailureCh = failures })
		go func() {
			res := <-failures
			_ = r.DestroyShard(context.Background(), res.Key, nil, DestroyOpts{})
		}()
		r.sources["a"].err = errBoom
		require.ErrorIs(t, r.register("a"), errBoom)
		synctest.Wait()
		r.gone("a")
	})
}

func TestFailureIsToldWheneverAShardBecomesErrored(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		failures := make(chan ShardResult, 10)
		r := newRig(t, func(c *Config) { c.FailureCh = failures })
		r.sources["a"].err = errBoom
		require.Error(t, r.register("a"))
		require.Error(t, r.recover("a"))
		_, err := r.acquire("a")
		require.Error(t, err)
		synctest.Wait()
		require.Len(t, failures, 2)
		res := <-failures
		require.Equal(t, key("a"), res.Key)
		require.ErrorIs(t, res.Error, errBoom)
		require.Nil(t, res.Accessor)
	})
}

// Defect 23.
func TestThousandsOfFailuresAreRecovered(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		failures := make(chan ShardResult)
		r := newRig(t, func(c *Config) { c.FailureCh, c.Datastore, c.TraceCh = failures, nil, nil })
		ctx, cancel := context.WithCancel(context.Background())
		done := make(chan struct{})
		go RecoverImmediately(ctx, r.DAGStore, failures, 1, func() { close(done) })
		s := r.sources["a"]
		s.set(func(s *source) { s.err, s.remote = errBoom, false })
		const n = 1000
		for i := range n {
			require.NoError(t, r.ask(context.Background(), fmt.Sprintf("a%d", i), nil))
		}
		synctest.Wait()
		require.Equal(t, 2*n, s.fetched(), "each once, and once more")
		cancel()
		<-done
	})
}

func TestRecoverImmediatelyGivesUpAfterSoManyFailuresInARow(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		failures := make(chan ShardResult)
		r := newRig(t, func(c *Config) { c.FailureCh = failures })
		ctx, cancel := context.WithCancel(context.Background())
		done := make(chan struct{})
		go func() {
			RecoverImmediately(ctx, r.DAGStore, failures, 3, nil)
			close(done)
		}()
		s := r.sources["a"]
		s.err = errBoom
		require.Error(t, r.register("a"))
		synctest.Wait()
		require.Equal(t, 4, s.fetched())
		s.set(func(s *source) { s.err = nil })
		require.NoError(t, r.recover("a"), "by hand")
		collect(t, r)
		require.Equal(t, 5, s.fetched())
		cancel()
		select {
		case <-done:
		case <-time.After(time.Minute):
			t.Error("did not return")
		}
	})
}

func TestRecoverImmediatelyForgetsTheCountOnSuccess(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		failures := make(chan ShardResult)
		r := newRig(t, func(c *Config) { c.FailureCh = failures })
		go RecoverImmediately(t.Context(), r.DAGStore, failures, 1, nil)
		repo := r.config.IndexRepo.(*faultyRepo)
		require.NoError(t, r.register("a"))
		for range 4 {
			repo.fail(errBoom)
			r.sources["a"].set(func(s *source) { s.hold = make(chan struct{}) })
			_, err := r.acquire("a")
			require.ErrorIs(t, err, errBoom)
			synctest.Wait()
			require.Equal(t, ShardStateRecovering, r.state("a"))
			repo.fail(nil)
			r.sources["a"].set(func(s *source) { close(s.hold); s.hold = nil })
			synctest.Wait()
			require.Equal(t, ShardStateAvailable, r.state("a"))
		}
	})
}
