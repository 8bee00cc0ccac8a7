package dagstore

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"sync"

	carindex "github.com/ipld/go-car/v2/index"

	"github.com/filecoin-project/dagstore/index"
	"github.com/filecoin-project/dagstore/internal/guard"
	"github.com/filecoin-project/dagstore/shard"
)

// A topLevel is the top-level index as the store's jobs see it: what is done to
// the entries of one shard is done one after the other. When the store's own index
// turns out to be damaged, whoever meets that has it made anew, and goes on: changes
// succeed, and full indices answer until then.
type topLevel struct {
	inverted index.Inverted
	own      *index.FSInverted // inverted, if the store has made it
	dir      string            // of own; "" in memory
	gate     *gate
	shards   *membership

	mu   sync.Mutex // guards busy; jobs of different shards do not wait for each other
	busy map[shard.Key]chan struct{}
}

// errTopLevel is the error when the top-level index does not take a change.
var errTopLevel = errors.New("top-level index")

// openTopLevel opens the index that the configuration of a store asks for.
func openTopLevel(d *DAGStore) (*topLevel, error) {
	cfg := d.config
	t := &topLevel{
		inverted: cfg.TopLevelIndex,
		gate:     d.gate,
		shards:   newMembership(&lackingIndices{d, make(slots, keptIndices)}),
		busy:     map[shard.Key]chan struct{}{},
	}
	switch {
	case cfg.TopLevelIndex != nil:
		return t, nil
	case cfg.TopLevelDir == "":
		t.own = index.NewMemoryInverted()
	default:
		var err error
		t.own, err = index.OpenFSInverted(context.Background(), cfg.TopLevelDir, index.FSInvertedOptions{Anew: true})
		if err != nil {
			return nil, err
		}
		t.dir = cfg.TopLevelDir
	}
	t.inverted = t.own
	return t, nil
}

// close closes the index, if the store has made it.
func (t *topLevel) close() {
	t.shards.close()
	if t.own == nil {
		return
	}
	if err := t.own.Close(); err != nil {
		log.Warnw("top-level index not closed cleanly", "error", err)
	}
}

// tellReaders tells the readers of the store's own index in other processes, who have
// no full indices to ask, whether it has all shards.
func (t *topLevel) tellReaders() {
	if t.own == nil {
		return
	}
	if err := t.own.SetComplete(t.shards.isWhole()); err != nil && !errors.Is(err, fs.ErrClosed) {
		log.Errorw("readers of the top-level index in other processes cannot be told whether it is complete; another start tries again", "folder", t.dir, "error", err)
	}
}

// do runs f while nothing else is done to the entries of key.
func (t *topLevel) do(ctx context.Context, key shard.Key, f func() error) error {
	mine := make(chan struct{})
	for {
		t.mu.Lock()
		theirs := t.busy[key]
		if theirs == nil {
			t.busy[key] = mine
		}
		t.mu.Unlock()
		if theirs == nil {
			break
		}
		select {
		case <-theirs:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	defer func() {
		t.mu.Lock()
		delete(t.busy, key)
		t.mu.Unlock()
		close(mine)
	}()
	return guard.Call(f)
}

// replace adds the entries of a shard that was indexed anew, in the place of those it
// had, which are old as far as that is known.
func (t *topLevel) replace(ctx context.Context, key shard.Key, old index.MultihashIterator, idx carindex.IterableIndex) error {
	return t.do(ctx, key, func() error { return t.exchange(ctx, key, old, idx) })
}

// exchange does what replace does. The caller is in do.
func (t *topLevel) exchange(ctx context.Context, key shard.Key, old index.MultihashIterator, idx carindex.IterableIndex) error {
	t.shards.reindexed(key)
	if s := t.shards.now.Load(); !s.damaged {
		if err := t.takeOut(ctx, s, key, old); err != nil {
			return fmt.Errorf("%w: %w", errTopLevel, err)
		}
	}
	return t.feed(ctx, key, idx)
}

// remove removes the entries of a shard, if the index can. Answers that still name
// the shard are filtered.
func (t *topLevel) remove(ctx context.Context, key shard.Key, mhs index.MultihashIterator) error {
	return t.do(ctx, key, func() error {
		return t.alter(key, false, func(s *standing) error { return t.takeOut(ctx, s, key, mhs) })
	})
}

func (t *topLevel) takeOut(ctx context.Context, s *standing, key shard.Key, mhs index.MultihashIterator) error {
	r, ok := t.inverted.(index.ShardRemover)
	if !ok {
		return nil
	}
	return t.unlessDamaged(s, r.RemoveShard(ctx, key, mhs))
}

// feed adds the entries of a shard. The error is errTopLevel unless the full index is
// at fault. The caller is in do.
func (t *topLevel) feed(ctx context.Context, key shard.Key, idx carindex.IterableIndex) error {
	return t.alter(key, true, func(s *standing) error {
		mhs := &fullMultihashes{index: idx}
		err := t.inverted.AddMultihashesForShard(ctx, mhs.iterator(), key)
		if mhs.failed.Load() {
			return err // also damage is not of this index
		}
		if err = t.unlessDamaged(s, err); err != nil {
			err = fmt.Errorf("%w: %w", errTopLevel, err)
		}
		return err
	})
}

// alter has the index changed by change, so that it holds a shard or no longer: again,
// if it was made anew meanwhile, and not at all while it is damaged. Making it anew
// adds the shards that it is to hold, and leaves out the others.
func (t *topLevel) alter(key shard.Key, isMember bool, change func(*standing) error) error {
	for {
		s := t.shards.now.Load()
		if !s.damaged {
			if err := change(s); err != nil {
				return err
			}
		}
		if t.shards.settle(s, key, isMember) {
			return nil
		}
	}
}

// call calls ask, which asks the index. The error of the store's own index says also
// that the store was closed, if it was.
func (t *topLevel) call(ask func() error) error {
	err := guard.Call(ask)
	if t.own != nil && errors.Is(err, fs.ErrClosed) {
		err = fmt.Errorf("%w: %w", ErrClosed, err)
	}
	return err
}

// unlessDamaged returns the error of a call of the index by who went by s, but nil if
// it says that the store's own index is damaged. Then that index is made anew, and an
// era has begun.
func (t *topLevel) unlessDamaged(s *standing, err error) error {
	if t.own == nil || !errors.Is(err, index.ErrDamaged) {
		return err
	}
	isFirst, known := t.shards.spoil(s)
	if !known {
		return err
	}
	if isFirst {
		log.Errorw("top-level index is damaged: it is made anew, and full indices answer until then", "folder", t.dir, "error", err)
		t.gate.post(message{mend: true})
	}
	return nil
}

// holds returns the shards that the index holds, and false if it cannot tell.
func (t *topLevel) holds(ctx context.Context) (held map[shard.Key]bool, known bool, err error) {
	defer guard.Recover(&err)
	lister, ok := t.inverted.(index.ShardLister)
	if !ok {
		return nil, false, nil
	}
	keys, err := lister.Shards(ctx)
	if err != nil {
		return nil, false, fmt.Errorf("%w: %w", errTopLevel, err)
	}
	held = make(map[shard.Key]bool, len(keys))
	for _, k := range keys {
		held[k] = true
	}
	return held, true, nil
}
