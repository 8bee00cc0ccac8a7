package throttle

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

func TestFixedNeverExceedsItsBound(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		th := Fixed(3)
		var running, most, done atomic.Int32
		for range 20 {
			go func() {
				_ = th.Do(t.Context(), func(context.Context) error {
					most.Store(max(most.Load(), running.Add(1)))
					time.Sleep(time.Second)
					running.Add(-1)
					done.Add(1)
					return nil
				})
			}()
		}
		time.Sleep(time.Minute)
		require.EqualValues(t, 3, most.Load())
		require.EqualValues(t, 20, done.Load())
	})
}

func TestWaitingActionEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		th := Fixed(1)
		go func() {
			_ = th.Do(t.Context(), func(context.Context) error { time.Sleep(time.Hour); return nil })
		}()
		synctest.Wait()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		err := th.Do(ctx, func(context.Context) error { t.Error("ran"); return nil })
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.ErrorIs(t, th.Do(ctx, nil), context.DeadlineExceeded)
		time.Sleep(time.Hour)
	})
}

func TestPanickingActionGivesItsPlaceBack(t *testing.T) {
	th := Fixed(1)
	require.Panics(t, func() { _ = th.Do(t.Context(), func(context.Context) error { panic("boom") }) })
	boom := errors.New("boom")
	require.ErrorIs(t, th.Do(t.Context(), func(context.Context) error { return boom }), boom)
}

func TestNoBoundAdmitsEverything(t *testing.T) {
	for _, th := range []Throttler{Noop(), Fixed(0), Fixed(-1)} {
		err := th.Do(t.Context(), func(ctx context.Context) error {
			return th.Do(ctx, func(context.Context) error { return nil })
		})
		require.NoError(t, err)
	}
}
