// Package indextest has the tests that every implementation of the interfaces
// of package index has to pass. They need only package testing.
package indextest

import "testing"

// A Harness makes what a suite tests: a T is an index.FullIndexRepo, an
// index.ManifestRepo or an index.Inverted.
type Harness[T any] struct {
	// New returns an empty one. What it needs to clean up it registers with
	// t.Cleanup.
	New func(t *testing.T) T

	// Reopen returns one with what x has kept, as another process would find
	// it; x is not used any more. It is nil if x does not outlive its process.
	Reopen func(t *testing.T, x T) T
}

// reopened returns x after a restart, if it outlives that.
func (h Harness[T]) reopened(t *testing.T, x T) T {
	if h.Reopen == nil {
		return x
	}
	return h.Reopen(t, x)
}
