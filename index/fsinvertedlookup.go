package index

import (
	"context"
	"fmt"

	ds "github.com/ipfs/go-datastore"
	"github.com/multiformats/go-multihash"

	"github.com/filecoin-project/dagstore/internal/inverted"
	"github.com/filecoin-project/dagstore/shard"
)

// GetShardsForMultihash implements Inverted.
func (x *FSInverted) GetShardsForMultihash(ctx context.Context, h multihash.Multihash) (found []shard.Key, err error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	err = x.with(func(e *inverted.Index) error {
		keys, err := e.Lookup(h)
		found = shardKeys(keys)
		return err
	})
	if err == nil && len(found) == 0 {
		err = noShard(h)
	}
	return found, err
}

// GetShardsForMultihashes implements BatchInverted.
func (x *FSInverted) GetShardsForMultihashes(ctx context.Context, hs []multihash.Multihash) (found [][]shard.Key, err error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	mhs := make([][]byte, len(hs))
	for i, h := range hs {
		mhs[i] = h
	}
	err = x.with(func(e *inverted.Index) error {
		all, err := e.LookupMany(mhs)
		found = shardKeysOfMany(all)
		return err
	})
	if err != nil {
		return nil, err
	}
	return found, nil
}

// GetFirstShardForMultihash implements FirstInverted.
func (x *FSInverted) GetFirstShardForMultihash(ctx context.Context, h multihash.Multihash) (first shard.Key, err error) {
	if err := ctx.Err(); err != nil {
		return first, err
	}
	var found bool
	err = x.with(func(e *inverted.Index) error {
		var key string
		key, found, err = e.First(h)
		first = shard.KeyFromString(key)
		return err
	})
	if err == nil && !found {
		err = noShard(h)
	}
	return first, err
}

func noShard(h multihash.Multihash) error {
	return fmt.Errorf("top-level index: no shard holds multihash %s: %w", h, ds.ErrNotFound)
}

func shardKeys(keys []string) []shard.Key {
	if len(keys) == 0 {
		return nil
	}
	found := make([]shard.Key, len(keys))
	for i, k := range keys {
		found[i] = shard.KeyFromString(k)
	}
	return found
}

// shardKeysOfMany does for many what shardKeys does for one. All lie in one array.
func shardKeysOfMany(all [][]string) [][]shard.Key {
	total := 0
	for _, keys := range all {
		total += len(keys)
	}
	found, room := make([][]shard.Key, len(all)), make([]shard.Key, 0, total)
	for i, keys := range all {
		start := len(room)
		for _, k := range keys {
			room = append(room, shard.KeyFromString(k))
		}
		if end := len(room); end > start {
			found[i] = room[start:end:end]
		}
	}
	return found
}

// RemoveShard implements ShardRemover. It needs no multihashes.
func (x *FSInverted) RemoveShard(ctx context.Context, s shard.Key, _ MultihashIterator) error {
	return x.change(func(e *inverted.Index) error { return e.Remove(ctx, s.String()) })
}

// Shards implements ShardLister.
func (x *FSInverted) Shards(ctx context.Context) (keys []shard.Key, err error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	err = x.with(func(e *inverted.Index) error {
		all, err := e.Shards()
		keys = shardKeys(all)
		return err
	})
	return keys, err
}

// Verify reads all files. The error wraps ErrDamaged if they are not what was
// written.
func (x *FSInverted) Verify(ctx context.Context) error {
	return x.with(func(e *inverted.Index) error { return e.Verify(ctx) })
}
