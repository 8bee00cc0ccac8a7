package dagstore

import (
	"errors"
	"fmt"
	"io/fs"

	carindex "github.com/ipld/go-car/v2/index"

	"github.com/filecoin-project/dagstore/index"
	"github.com/filecoin-project/dagstore/internal/guard"
	"github.com/filecoin-project/dagstore/shard"
)

var errNotIterable = errors.New("index is not iterable")

// fullIndex returns the full index of a shard from the repository. It is to be
// released.
func (d *DAGStore) fullIndex(key shard.Key) (idx carindex.Index, err error) {
	defer guard.Recover(&err)
	idx, err = d.indices.GetFullIndex(key)
	if err == nil && idx == nil {
		err = index.ErrNotFound
	}
	return idx, err
}

// iterableIndex returns the full index of a shard if it tells its multihashes.
func (d *DAGStore) iterableIndex(key shard.Key) (carindex.IterableIndex, error) {
	idx, err := d.fullIndex(key)
	if err != nil {
		return nil, err
	}
	iterable, ok := idx.(carindex.IterableIndex)
	if !ok {
		releaseIndex(idx)
		return nil, fmt.Errorf("%w: codec %s", errNotIterable, idx.Codec())
	}
	return iterable, nil
}

// releaseIndex lets go of an index that holds something open.
func releaseIndex(idx carindex.Index) {
	if r, ok := idx.(index.Releaser); ok {
		r.Release()
	}
}

// isLost reports whether an error of the index repository says that the index is
// not there, or not whole.
func isLost(err error) bool {
	lost := errors.Is(err, index.ErrNotFound) || errors.Is(err, index.ErrDamaged) || errors.Is(err, fs.ErrNotExist)
	return lost && !isPassing(err)
}

// A storedIndex is the full index that a shard has, as far as it can be read.
type storedIndex struct{ carindex.IterableIndex }

// storedIndex returns what there is of the full index of a shard. It is to be
// released.
func (d *DAGStore) storedIndex(key shard.Key) storedIndex {
	idx, err := d.iterableIndex(key)
	if err != nil {
		return storedIndex{}
	}
	return storedIndex{idx}
}

func (s storedIndex) release() {
	if s.IterableIndex != nil {
		releaseIndex(s.IterableIndex)
	}
}

// multihashes returns nil if the index cannot be read.
func (s storedIndex) multihashes() index.MultihashIterator {
	if s.IterableIndex == nil {
		return nil
	}
	return indexMultihashes(s)
}
