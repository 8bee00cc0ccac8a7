package index

import (
	"context"
	"fmt"
	"slices"
	"sync"

	ds "github.com/ipfs/go-datastore"
	"github.com/ipfs/go-datastore/query"
	"github.com/multiformats/go-multihash"

	"github.com/filecoin-project/dagstore/internal/guard"
	"github.com/filecoin-project/dagstore/shard"
)

// A DatastoreInverted is an Inverted index in a datastore, under the prefix
// /inverted/v2. Make it with NewInverted; one at a time may use a datastore.
//
// Shards are numbered. For each multihash and each of its shards there is one
// entry, which is written without reading anything. A shard's number gets its
// name only when all its entries are durable, and loses it before any is
// removed: a shard is in all the answers it belongs to or in none.
type DatastoreInverted struct {
	store ds.Batching
	dict  dictionary
	locks keyLocks
}

var (
	_ Inverted     = (*DatastoreInverted)(nil)
	_ ShardRemover = (*DatastoreInverted)(nil)
	_ ShardLister  = (*DatastoreInverted)(nil)
)

// NewInverted returns the inverted index in a datastore. It reads nothing yet.
func NewInverted(dts ds.Batching) *DatastoreInverted {
	return &DatastoreInverted{store: dts, dict: newDictionary(dts)}
}

// AddMultihashesForShard implements Inverted. After an error s is in the answers
// in which it was before. To add to a shard that is held adds to its
// multihashes.
func (d *DatastoreInverted) AddMultihashesForShard(ctx context.Context, mhIter MultihashIterator, s shard.Key) error {
	if err := d.locks.acquire(ctx, s); err != nil {
		return err
	}
	defer d.locks.release(s)
	if err := d.add(ctx, mhIter, s); err != nil {
		return fmt.Errorf("inverted index: add shard %q: %w", s, err)
	}
	return nil
}

func (d *DatastoreInverted) add(ctx context.Context, mhs MultihashIterator, s shard.Key) error {
	if err := d.dict.load(ctx); err != nil {
		return err
	}
	number, held := d.dict.held(s)
	if !held {
		var err error
		if number, err = d.dict.reserve(ctx); err != nil {
			return err
		}
	}
	put := func(w *batchWriter, mh multihash.Multihash) error { return w.put(entryKey(mh, number), entryValue) }
	if err := d.writeEntries(ctx, mhs, put); err != nil {
		return err
	}
	if held {
		return nil
	}
	return d.dict.name(ctx, number, s)
}

// writeEntries calls write for each multihash and makes it all durable.
func (d *DatastoreInverted) writeEntries(ctx context.Context, mhs MultihashIterator, write func(*batchWriter, multihash.Multihash) error) error {
	w := &batchWriter{ctx: ctx, store: d.store}
	err := guard.Call(func() error {
		return mhs.ForEach(func(mh multihash.Multihash) error { return write(w, mh) })
	})
	if err != nil {
		return err
	}
	if err := w.commit(); err != nil { // also one that the iterator has lost
		return err
	}
	return d.store.Sync(ctx, prefix)
}

// GetShardsForMultihash implements Inverted. The shards are in the order in
// which they were added.
func (d *DatastoreInverted) GetShardsForMultihash(ctx context.Context, h multihash.Multihash) ([]shard.Key, error) {
	keys, err := d.shardsOf(ctx, h)
	if err != nil {
		return nil, fmt.Errorf("inverted index: %w", err)
	}
	if len(keys) == 0 {
		return nil, fmt.Errorf("inverted index: no shard holds multihash %s: %w", h, ds.ErrNotFound)
	}
	return keys, nil
}

func (d *DatastoreInverted) shardsOf(ctx context.Context, h multihash.Multihash) ([]shard.Key, error) {
	if err := d.dict.load(ctx); err != nil {
		return nil, err
	}
	results, err := d.store.Query(ctx, query.Query{Prefix: multihashKey(h).String(), KeysOnly: true})
	if err != nil {
		return nil, err
	}
	entries, err := results.Rest()
	if err != nil {
		return nil, err
	}
	numbers := make([]uint64, 0, len(entries))
	for _, e := range entries {
		if n, ok := entryNumber(h, ds.RawKey(e.Key)); ok {
			numbers = append(numbers, n)
		}
	}
	slices.Sort(numbers)
	return d.dict.names(numbers), nil
}

// RemoveShard implements ShardRemover. What mhs does not yield stays in the
// datastore and is in no answer.
func (d *DatastoreInverted) RemoveShard(ctx context.Context, s shard.Key, mhs MultihashIterator) error {
	if err := d.locks.acquire(ctx, s); err != nil {
		return err
	}
	defer d.locks.release(s)
	if err := d.remove(ctx, s, mhs); err != nil {
		return fmt.Errorf("inverted index: remove shard %q: %w", s, err)
	}
	return nil
}

func (d *DatastoreInverted) remove(ctx context.Context, s shard.Key, mhs MultihashIterator) error {
	if err := d.dict.load(ctx); err != nil {
		return err
	}
	numbers, err := d.dict.unname(ctx, s)
	if err != nil || len(numbers) == 0 {
		return err
	}
	if mhs != nil {
		err = d.writeEntries(ctx, mhs, func(w *batchWriter, mh multihash.Multihash) error {
			for _, n := range numbers {
				if err := w.delete(entryKey(mh, n)); err != nil {
					return err
				}
			}
			return nil
		})
	}
	if err == nil {
		d.dict.forget(s)
	}
	return err
}

// Shards implements ShardLister.
func (d *DatastoreInverted) Shards(ctx context.Context) ([]shard.Key, error) {
	if err := d.dict.load(ctx); err != nil {
		return nil, fmt.Errorf("inverted index: %w", err)
	}
	return d.dict.all(), nil
}

// keyLocks is a lock for each shard, so that what changes a shard happens one
// after the other. Waiting ends with the context.
type keyLocks struct {
	mu   sync.Mutex
	held map[shard.Key]chan struct{}
}

func (l *keyLocks) acquire(ctx context.Context, key shard.Key) error {
	for {
		l.mu.Lock()
		released, taken := l.held[key]
		if !taken {
			if l.held == nil {
				l.held = make(map[shard.Key]chan struct{})
			}
			l.held[key] = make(chan struct{})
			l.mu.Unlock()
			return nil
		}
		l.mu.Unlock()
		select {
		case <-released:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (l *keyLocks) release(key shard.Key) {
	l.mu.Lock()
	defer l.mu.Unlock()
	close(l.held[key])
	delete(l.held, key)
}
