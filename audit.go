package dagstore

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"time"

	ds "github.com/ipfs/go-datastore"
	carindex "github.com/ipld/go-car/v2/index"
	mh "github.com/multiformats/go-multihash"

	"github.com/filecoin-project/dagstore/index"
	"github.com/filecoin-project/dagstore/internal/guard"
	"github.com/filecoin-project/dagstore/shard"
)

// The store's own top-level index tells which keys it holds, and not whether it is as
// old as the shards: a folder that was put back from a copy, or left out for some runs,
// may have what a key stood for before. So after each start the index is asked for some
// multihashes of each shard.

const (
	// auditRest is how many times as long an audit rests as it works.
	auditRest = 20
	// auditSamples is how many multihashes of a shard are asked for.
	auditSamples = 4
)

// audit compares the top-level index with the full indices of the shards that it held
// at the start, beside serving.
func (l *loop) audit(held []shard.Key) {
	if l.closing {
		return
	}
	l.beside(func() {
		next := time.Now().Add(time.Second) // there is more to do at the start
		for _, key := range held {
			if !waitUntil(l.ctx, next) {
				return
			}
			begin := time.Now()
			l.auditShard(key)
			next = time.Now().Add(auditRest * time.Since(begin))
		}
	}, nil)
}

// auditShard puts the entries of a shard in the place of those that the index has of
// its key, if these are others.
func (l *loop) auditShard(key shard.Key) {
	sh := l.gate.lookup(key)
	if sh == nil || !l.gate.serves(sh) {
		return
	}
	generation := sh.trust.generation.Load()
	if !sh.isStrange(l.ctx) || generation != sh.trust.generation.Load() || !l.topLevel.shards.holds(key) {
		return
	}
	log.Errorw("top-level index has other blocks of a shard than its full index: it is older than the shard; adding the shard again", "shard", key)
	if err := sh.adopt(l.ctx); err != nil && l.ctx.Err() == nil {
		log.Errorw("shard could not be added again; another start tries that", "shard", key, "error", err)
	}
}

// isStrange tells whether the top-level index lacks a multihash of the full index.
func (sh *Shard) isStrange(ctx context.Context) (isStrange bool) {
	idx, err := sh.store.iterableIndex(sh.key)
	if err != nil {
		return false // that is noticed elsewhere
	}
	defer sh.store.release(idx)
	top := sh.store.topLevel
	for _, h := range samples(idx) {
		s := top.shards.now.Load()
		keys, err := top.own.GetShardsForMultihash(ctx, h)
		_ = top.unlessDamaged(s, err)
		if errors.Is(err, ds.ErrNotFound) || err == nil && !slices.Contains(keys, sh.key) {
			return true
		}
	}
	return false
}

// samples returns some multihashes of an index, as far as it can be read: the first
// one, and those behind random digests of its kind. Of an index that cannot be searched
// they are the first ones.
func samples(idx carindex.IterableIndex) []mh.Multihash {
	ranges, ok := idx.(index.RangeIterator)
	if !ok {
		return firstOf(idx, auditSamples)
	}
	some := firstOf(idx, 1)
	if len(some) == 0 {
		return nil
	}
	decoded, err := mh.Decode(some[0])
	if err != nil {
		return some
	}
	after := slices.Clone(some[0])
	digest := after[len(after)-decoded.Length:]
	for range auditSamples - 1 {
		for i := range digest {
			digest[i] = byte(rand.Uint32())
		}
		_ = guard.Call(func() error {
			return ranges.ForEachInRange(index.MultihashRange{After: after}, func(h mh.Multihash, _ uint64) bool {
				some = append(some, slices.Clone(h))
				return false
			})
		})
	}
	return some
}

var errEnough = errors.New("enough multihashes")

func firstOf(idx carindex.IterableIndex, n int) (some []mh.Multihash) {
	_ = guard.Call(func() error {
		return idx.ForEach(func(h mh.Multihash, _ uint64) error {
			some = append(some, slices.Clone(h))
			if len(some) < n {
				return nil
			}
			return errEnough
		})
	})
	return some
}
