package mount

import (
	"context"
	"sync/atomic"
)

// Counting wraps a mount and counts its fetches. It is serialized as the mount
// it wraps; a template has to wrap a template.
type Counting struct {
	Mount

	fetches atomic.Int64
}

var _ Mount = (*Counting)(nil)

// Fetch counts the call and fetches from the wrapped mount.
func (c *Counting) Fetch(ctx context.Context) (Reader, error) {
	c.fetches.Add(1)
	return c.Mount.Fetch(ctx)
}

// Count returns how often Fetch was called.
func (c *Counting) Count() int { return int(c.fetches.Load()) }
