package index

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"

	ds "github.com/ipfs/go-datastore"
	"github.com/ipfs/go-datastore/query"

	"github.com/filecoin-project/dagstore/shard"
)

// A dictionary is the numbers of the shards, in a datastore and in memory. A
// number is used once and never again, whatever becomes of its shard: entries
// of it may be left.
type dictionary struct {
	store ds.Batching

	// busy has one token: who holds it loads or reserves, and nobody else.
	busy     chan struct{}
	next     uint64 // guarded by busy
	reserved uint64 // guarded by busy: numbers below may be used

	mu     sync.RWMutex // never held during I/O
	loaded bool
	keys   map[uint64]shard.Key
	// numbers has those that are in keys, and those that may be in the
	// datastore because naming or unnaming has failed.
	numbers map[shard.Key][]uint64
}

// reservation is how many numbers are reserved with one write.
const reservation = 256

func newDictionary(store ds.Batching) dictionary {
	return dictionary{
		store:   store,
		busy:    make(chan struct{}, 1),
		keys:    make(map[uint64]shard.Key),
		numbers: make(map[shard.Key][]uint64),
	}
}

func (d *dictionary) lock(ctx context.Context) error {
	select {
	case d.busy <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (d *dictionary) unlock() { <-d.busy }

func (d *dictionary) isLoaded() bool {
	d.mu.RLock()
	defer d.mu.RUnlock()
	return d.loaded
}

// load reads the dictionary if that has not been done yet.
func (d *dictionary) load(ctx context.Context) error {
	if d.isLoaded() {
		return ctx.Err()
	}
	if err := d.lock(ctx); err != nil {
		return err
	}
	defer d.unlock()
	if d.isLoaded() {
		return nil
	}
	next, err := d.readNext(ctx)
	if err != nil {
		return err
	}
	keys, err := d.readKeys(ctx)
	if err != nil {
		return err
	}

	d.mu.Lock()
	defer d.mu.Unlock()
	for _, n := range slices.Sorted(maps.Keys(keys)) {
		next = max(next, n+1)
		d.numbers[keys[n]] = append(d.numbers[keys[n]], n)
	}
	d.keys, d.next, d.reserved, d.loaded = keys, next, next, true
	return nil
}

func (d *dictionary) readNext(ctx context.Context) (uint64, error) {
	b, err := d.store.Get(ctx, nextKey)
	if errors.Is(err, ds.ErrNotFound) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	n, ok := parseNumber(string(b))
	if !ok {
		return 0, fmt.Errorf("%w: %s holds %q: delete all keys under %s to index anew", ErrDamaged, nextKey, b, prefix)
	}
	return n, nil
}

func (d *dictionary) readKeys(ctx context.Context) (map[uint64]shard.Key, error) {
	results, err := d.store.Query(ctx, query.Query{Prefix: shardPrefix.String()})
	if err != nil {
		return nil, err
	}
	entries, err := results.Rest()
	if err != nil {
		return nil, err
	}
	keys := make(map[uint64]shard.Key, len(entries))
	for _, e := range entries {
		n, ok := parseNumber(ds.RawKey(e.Key).BaseNamespace())
		if !ok {
			logger.Warnw("entry is not a shard's", "key", e.Key)
			continue
		}
		keys[n] = shard.KeyFromString(string(e.Value))
	}
	return keys, nil
}

// reserve returns a number that no crash lets be returned again.
func (d *dictionary) reserve(ctx context.Context) (uint64, error) {
	if err := d.lock(ctx); err != nil {
		return 0, err
	}
	defer d.unlock()
	if d.next == d.reserved {
		reserved := d.next + reservation
		if reserved >= numberLimit {
			return 0, errExhausted
		}
		if err := d.write(ctx, nextKey, []byte(formatNumber(reserved))); err != nil {
			return 0, err
		}
		d.reserved = reserved
	}
	n := d.next
	d.next++
	return n, nil
}

func (d *dictionary) write(ctx context.Context, key ds.Key, value []byte) error {
	if err := d.store.Put(ctx, key, value); err != nil {
		return err
	}
	return d.store.Sync(ctx, key)
}

// held returns the number of a shard that is held.
func (d *dictionary) held(s shard.Key) (uint64, bool) {
	d.mu.RLock()
	defer d.mu.RUnlock()
	for _, n := range d.numbers[s] {
		if _, ok := d.keys[n]; ok {
			return n, true
		}
	}
	return 0, false
}

// name makes a shard held, under a number whose entries are durable. The caller
// has the lock of the shard, here and in unname and forget.
func (d *dictionary) name(ctx context.Context, n uint64, s shard.Key) error {
	d.mu.Lock()
	d.numbers[s] = append(d.numbers[s], n)
	d.mu.Unlock()

	if err := d.write(ctx, shardPrefix.ChildString(formatNumber(n)), []byte(s.String())); err != nil {
		return err
	}

	d.mu.Lock()
	defer d.mu.Unlock()
	d.keys[n] = s
	return nil
}

// unname makes a shard no longer held, durably, and returns the numbers that it
// had. They are returned again until the shard is forgotten.
func (d *dictionary) unname(ctx context.Context, s shard.Key) ([]uint64, error) {
	d.mu.Lock()
	numbers := slices.Clone(d.numbers[s])
	for _, n := range numbers {
		delete(d.keys, n)
	}
	d.mu.Unlock()
	if len(numbers) == 0 {
		return nil, nil
	}

	for _, n := range numbers {
		if err := d.store.Delete(ctx, shardPrefix.ChildString(formatNumber(n))); err != nil {
			return nil, err
		}
	}
	return numbers, d.store.Sync(ctx, shardPrefix)
}

func (d *dictionary) forget(s shard.Key) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.numbers, s)
}

// names returns the shards with these numbers that are held, each once.
func (d *dictionary) names(numbers []uint64) []shard.Key {
	d.mu.RLock()
	defer d.mu.RUnlock()
	keys := make([]shard.Key, 0, len(numbers))
	seen := make(map[shard.Key]bool, len(numbers))
	for _, n := range numbers {
		if s, ok := d.keys[n]; ok && !seen[s] {
			seen[s] = true
			keys = append(keys, s)
		}
	}
	return keys
}

// all returns the shards that are held.
func (d *dictionary) all() []shard.Key {
	d.mu.RLock()
	numbers := slices.Sorted(maps.Keys(d.keys))
	d.mu.RUnlock()
	return d.names(numbers)
}
