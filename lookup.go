package dagstore

import (
	"context"
	"errors"
	"fmt"

	ds "github.com/ipfs/go-datastore"
	mh "github.com/multiformats/go-multihash"

	"github.com/filecoin-project/dagstore/index"
	"github.com/filecoin-project/dagstore/internal/guard"
	"github.com/filecoin-project/dagstore/shard"
)

// ShardsContainingMultihash returns the shards that have a block with this
// multihash. If there is none, the error is the top-level index's own, for the
// indices of this module datastore.ErrNotFound. Available shards that the index
// lacks, because it was lost or a crash came between, are found in their full
// indices, and come last.
func (d *DAGStore) ShardsContainingMultihash(ctx context.Context, h mh.Multihash) ([]shard.Key, error) {
	found, err := d.find(ctx, h)
	if err != nil {
		return nil, fmt.Errorf("shards that contain multihash %s: %w", h.B58String(), err)
	}
	keys := d.gate.known(found)
	if len(keys) == 0 {
		return nil, fmt.Errorf("shards that contain multihash %s: %w", h.B58String(), ds.ErrNotFound)
	}
	return keys, nil
}

// ShardsContainingMultihashes does that for many multihashes at once. The answers
// stand at the places of the multihashes; nil if no shard has one, which is no
// error. It is faster than one by one if the top-level index is an
// index.BatchInverted.
func (d *DAGStore) ShardsContainingMultihashes(ctx context.Context, hs []mh.Multihash) (all [][]shard.Key, err error) {
	if all, err = d.findMany(ctx, hs); err != nil {
		return nil, fmt.Errorf("shards that contain %d multihashes: %w", len(hs), err)
	}
	return all, nil
}

func (d *DAGStore) findMany(ctx context.Context, hs []mh.Multihash) (all [][]shard.Key, err error) {
	defer guard.Recover(&err)
	batch, ok := d.topLevel.inverted.(index.BatchInverted)
	if ok && len(d.topLevel.lacks()) == 0 {
		all, err = batch.GetShardsForMultihashes(ctx, hs)
		if err == nil && len(all) != len(hs) {
			return nil, fmt.Errorf("top-level index: %d answers to %d questions", len(all), len(hs))
		}
		if err == nil {
			for i, keys := range all {
				all[i] = d.gate.known(keys)
			}
			return all, nil
		}
		if !errors.Is(err, index.ErrDamaged) {
			return nil, err
		}
	}
	all = make([][]shard.Key, len(hs))
	for i, h := range hs {
		found, err := d.find(ctx, h)
		if err != nil && !errors.Is(err, ds.ErrNotFound) {
			return nil, err
		}
		all[i] = d.gate.known(found)
	}
	return all, nil
}
