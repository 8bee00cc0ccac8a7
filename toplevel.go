package dagstore

import (
	"context"
	"fmt"
	"sync"

	carindex "github.com/ipld/go-car/v2/index"
	mh "github.com/multiformats/go-multihash"

	"github.com/filecoin-project/dagstore/index"
	"github.com/filecoin-project/dagstore/internal/guard"
	"github.com/filecoin-project/dagstore/shard"
)

// A topLevel is the top-level index as the store's jobs see it: what is done to
// the entries of one shard is done one after the other.
type topLevel struct {
	inverted index.Inverted
	own      *index.FSInverted // inverted, if the store has made it

	mu       sync.Mutex // guards what follows; jobs of different shards do not wait for each other
	busy     map[shard.Key]chan struct{}
	lacking  map[shard.Key]*Shard // available shards that are still to be added
	renewing bool                 // own is damaged, and about to be made anew
}

// openTopLevel opens the index that the configuration asks for.
func openTopLevel(cfg Config) (*topLevel, error) {
	t := &topLevel{inverted: cfg.TopLevelIndex, busy: map[shard.Key]chan struct{}{}, lacking: map[shard.Key]*Shard{}}
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
	}
	t.inverted = t.own
	return t, nil
}

// close closes the index, if the store has made it.
func (t *topLevel) close() {
	if t.own == nil {
		return
	}
	if err := t.own.Close(); err != nil {
		log.Warnw("top-level index not closed cleanly", "error", err)
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

// add adds the entries of a shard.
func (t *topLevel) add(ctx context.Context, key shard.Key, idx carindex.IterableIndex) error {
	return t.do(ctx, key, func() error { return t.feed(ctx, key, indexMultihashes{idx}) })
}

// replace adds the entries of a shard in the place of those it had, which are
// old as far as that is known.
func (t *topLevel) replace(ctx context.Context, key shard.Key, old, mhs index.MultihashIterator) error {
	return t.do(ctx, key, func() error {
		if r, ok := t.inverted.(index.ShardRemover); ok {
			if err := r.RemoveShard(ctx, key, old); err != nil {
				return fmt.Errorf("top-level index: %w", err)
			}
		}
		return t.feed(ctx, key, mhs)
	})
}

func (t *topLevel) feed(ctx context.Context, key shard.Key, mhs index.MultihashIterator) error {
	if err := t.inverted.AddMultihashesForShard(ctx, mhs, key); err != nil {
		return fmt.Errorf("top-level index: %w", err)
	}
	t.filled(key)
	return nil
}

// remove removes the entries of a shard, if the index can. Answers that still
// name the shard are filtered.
func (t *topLevel) remove(ctx context.Context, key shard.Key, mhs index.MultihashIterator) error {
	t.filled(key)
	r, ok := t.inverted.(index.ShardRemover)
	if !ok {
		return nil
	}
	return t.do(ctx, key, func() error { return r.RemoveShard(ctx, key, mhs) })
}

// held returns the shards that the index holds, and false if it cannot tell.
func (t *topLevel) held(ctx context.Context) (held map[shard.Key]bool, known bool, err error) {
	defer guard.Recover(&err)
	lister, ok := t.inverted.(index.ShardLister)
	if !ok {
		return nil, false, nil
	}
	keys, err := lister.Shards(ctx)
	if err != nil {
		return nil, false, fmt.Errorf("top-level index: %w", err)
	}
	held = make(map[shard.Key]bool, len(keys))
	for _, k := range keys {
		held[k] = true
	}
	return held, true, nil
}

// indexMultihashes are the multihashes of a full index.
type indexMultihashes struct{ carindex.IterableIndex }

func (i indexMultihashes) ForEach(f func(mh.Multihash) error) error {
	return i.IterableIndex.ForEach(func(h mh.Multihash, _ uint64) error { return f(h) })
}
