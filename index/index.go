// Package index keeps the indices of a store: the full index of each shard,
// which tells where its blocks lie, and the inverted index, which tells which
// shards hold a multihash.
//
// Full indices are kept by a FullIndexRepo: in memory (NewMemoryRepo) or in a
// folder (NewFSRepo). The inverted index is kept in a datastore (NewInverted).
// All three interfaces can be implemented elsewhere; package indextest has the
// tests for that.
package index

import (
	"errors"
	"fmt"
	"io/fs"

	carindex "github.com/ipld/go-car/v2/index"

	"github.com/filecoin-project/dagstore/shard"
)

var (
	// ErrNotFound is wrapped by the error of a look-up of a full index or of a
	// manifest that is not there, and so is fs.ErrNotExist.
	ErrNotFound = errors.New("index not found")

	// ErrDamaged is wrapped by the error of a look-up of a full index or of a
	// manifest whose file is not what was added. Adding it anew repairs it,
	// which the store does by itself when it next needs the index.
	ErrDamaged = errors.New("index damaged")
	// ErrIncomplete is returned to readers of a top-level index that its writer is
	// filling: an answer might lack a shard. Ask again later.
	ErrIncomplete = errors.New("top-level index is being filled")
)

// Stat tells about a full index without reading it.
type Stat struct {
	Exists bool
	Size   uint64 // in bytes, as stored
}

// A FullIndexRepo keeps the full indices of shards. Shard keys can have any
// bytes and any length; an implementation keeps apart what differs. It is safe
// for concurrent use.
type FullIndexRepo interface {
	// Len returns the number of indices.
	Len() (int, error)

	// ForEach calls visit with the key of each index, in no particular order,
	// until it returns false or an error, and returns that error. visit may
	// use the repo. Indices that are added or dropped meanwhile may be visited
	// or not.
	ForEach(visit func(key shard.Key) (bool, error)) error

	// Size returns the sum of the sizes of all indices, in bytes.
	Size() (uint64, error)

	// GetFullIndex returns the index of a shard, which may also be a Releaser, a
	// Verifier, a RecordIterator and a RangeIterator. The error wraps
	// ErrNotFound and fs.ErrNotExist if there is none, and ErrDamaged if it
	// cannot be read as an index.
	GetFullIndex(key shard.Key) (carindex.Index, error)

	// AddFullIndex keeps the index of a shard, in the place of another one if
	// there is one. When it returns nil the index is as durable as the repo's
	// medium is; when it returns an error, there is the old index or the new
	// one, whole. The index must not change while it is kept.
	AddFullIndex(key shard.Key, index carindex.Index) error

	// DropFullIndex removes the index of a shard and tells whether there was
	// one. That there is none is not an error.
	DropFullIndex(key shard.Key) (dropped bool, err error)

	// StatFullIndex tells whether there is an index of a shard, whole or
	// damaged. If there is none, it returns the zero Stat and no error.
	StatFullIndex(key shard.Key) (Stat, error)
}

// A Repo keeps full indices and manifests.
type Repo interface {
	FullIndexRepo
	ManifestRepo
}

func indexNotFound(key shard.Key) error {
	return fmt.Errorf("%w: shard %q: %w", ErrNotFound, key, fs.ErrNotExist)
}

func manifestNotFound(key ManifestKey) error {
	return fmt.Errorf("%w: manifest %q of shard %q: %w", ErrNotFound, key.Name, key.Shard, fs.ErrNotExist)
}
