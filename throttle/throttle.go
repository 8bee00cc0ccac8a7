// Package throttle bounds how many costly operations run at once. The store
// throttles indexing and fetching with it, and a mount may throttle what is
// costly to it.
package throttle

import "context"

// A Throttler admits actions. Implementations are safe for concurrent use.
type Throttler interface {
	// Do waits to be admitted and runs the action, in the caller's goroutine
	// and with the caller's context, and returns what the action returns. When
	// ctx ends before the action is admitted, Do returns the context's error
	// and the action does not run. An action that panics gives its place back.
	Do(ctx context.Context, action func(ctx context.Context) error) error
}

// Fixed returns a Throttler that runs at most maxConcurrency actions at once;
// the others wait. A maxConcurrency below one means no bound, as Noop.
func Fixed(maxConcurrency int) Throttler {
	if maxConcurrency < 1 {
		return Noop()
	}
	return fixed(make(chan struct{}, maxConcurrency))
}

// fixed holds an element for every action that is running.
type fixed chan struct{}

func (f fixed) Do(ctx context.Context, action func(context.Context) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	select {
	case f <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	defer func() { <-f }()
	return action(ctx)
}

// Noop returns a Throttler that admits every action at once.
func Noop() Throttler { return noop{} }

type noop struct{}

func (noop) Do(ctx context.Context, action func(context.Context) error) error { return action(ctx) }
