package index

import (
	"context"

	"github.com/multiformats/go-multihash"

	"github.com/filecoin-project/dagstore/shard"
)

// A MultihashIterator yields the multihashes of a shard.
type MultihashIterator interface {
	// ForEach calls f with each multihash, until it returns an error, and
	// returns that error. A multihash may come more than once.
	ForEach(f func(mh multihash.Multihash) error) error
}

// An Inverted index tells which shards hold a multihash. It is safe for
// concurrent use.
type Inverted interface {
	// AddMultihashesForShard adds s to the answers for all multihashes of
	// mhIter. When it returns nil they are durable. After an error s may be in
	// some answers or in none, as the implementation says; adding again repairs it.
	AddMultihashesForShard(ctx context.Context, mhIter MultihashIterator, s shard.Key) error

	// GetShardsForMultihash returns the shards that hold a multihash, each
	// once. The error is datastore.ErrNotFound, by errors.Is, if none does.
	GetShardsForMultihash(ctx context.Context, h multihash.Multihash) ([]shard.Key, error)
}

// A ShardRemover is an Inverted index from which shards can be removed.
type ShardRemover interface {
	// RemoveShard removes a shard; when it returns nil no answer names s, now
	// and after a restart. mhs yields the multihashes with which s was added and
	// lets the space be reclaimed; it may be nil. Removing a shard that is not
	// there is not an error. After an error RemoveShard is to be called again.
	RemoveShard(ctx context.Context, s shard.Key, mhs MultihashIterator) error
}

// A ShardLister is an Inverted index that knows which shards it holds.
type ShardLister interface {
	// Shards returns the shards whose multihashes have all been added, in the
	// order in which they first were.
	Shards(ctx context.Context) ([]shard.Key, error)
}

// A BatchInverted is an Inverted index that answers for many multihashes at once.
type BatchInverted interface {
	// GetShardsForMultihashes returns, at the place of each multihash, what
	// GetShardsForMultihash does; nil if no shard holds it, which is no error.
	GetShardsForMultihashes(ctx context.Context, hs []multihash.Multihash) ([][]shard.Key, error)
}

// A FirstInverted is an Inverted index that can be asked for one shard only.
type FirstInverted interface {
	// GetFirstShardForMultihash returns the shard that was added first of those
	// that hold a multihash. The error is datastore.ErrNotFound, by errors.Is, if
	// none does.
	GetFirstShardForMultihash(ctx context.Context, h multihash.Multihash) (shard.Key, error)
}
