package dagstore

import (
	"context"
	"errors"
	"fmt"

	"github.com/filecoin-project/dagstore/shard"
)

// GCResult is what a garbage collection did.
type GCResult struct {
	// Shards has an entry for every shard that was Available or Errored and had
	// no open accessor. Nil means that no transient of it is left.
	Shards map[shard.Key]error
}

// ShardFailures returns how many transients could not be removed.
func (e *GCResult) ShardFailures() int {
	failures := 0
	for _, err := range e.Shards {
		if err != nil {
			failures++
		}
	}
	return failures
}

// A collection is a request for a garbage collection.
type collection struct {
	ctx    context.Context
	result chan *GCResult // has room, so that the loop never waits; closed if there is none
}

// GC removes the transients of shards that are Available or Errored and have no
// open accessor. The next acquirer of such a shard fetches it again. GC runs in
// the event loop, alone; there it only renames files, which are then deleted
// beside the loop. Files that are not the store's are left alone. When ctx ends,
// GC returns its error; what was begun is completed.
func (d *DAGStore) GC(ctx context.Context) (*GCResult, error) {
	if ctx == nil {
		return nil, errNilContext
	}
	c := &collection{ctx: ctx, result: make(chan *GCResult, 1)}
	if err := d.gate.collect(c); err != nil {
		return nil, fmt.Errorf("gc: %w", err)
	}
	select {
	case res, ok := <-c.result:
		if !ok {
			return nil, fmt.Errorf("gc: %w", ErrClosed)
		}
		return res, nil
	case <-ctx.Done():
		return nil, fmt.Errorf("gc: %w", ctx.Err())
	}
}

// collect runs a collection whose caller is still there.
func (l *loop) collect(c *collection) {
	if l.closing {
		close(c.result)
		return
	}
	if c.ctx.Err() != nil {
		return
	}
	res := &GCResult{Shards: map[shard.Key]error{}}
	retired := map[shard.Key]func() error{}
	for key, sh := range l.gate.all() {
		if !sh.reclaimable() {
			continue
		}
		remove, err := sh.mount.RetireTransient()
		res.Shards[key] = err
		if remove != nil {
			retired[key] = remove
		}
	}
	if len(retired) == 0 {
		c.result <- res
		return
	}
	l.beside(func() {
		for key, remove := range retired {
			res.Shards[key] = errors.Join(res.Shards[key], remove())
		}
		c.result <- res
	}, nil)
}

// reclaimable reports whether nobody uses or awaits the transient. Only the loop
// may ask.
func (sh *Shard) reclaimable() bool {
	return (sh.state == ShardStateAvailable || sh.state == ShardStateErrored) && sh.refs == 0 && sh.mount != nil
}
