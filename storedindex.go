package dagstore

import (
	"errors"
	"fmt"
	"io/fs"

	carindex "github.com/ipld/go-car/v2/index"
	mh "github.com/multiformats/go-multihash"

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
		d.release(idx)
		return nil, fmt.Errorf("%w: codec %s", errNotIterable, idx.Codec())
	}
	return iterable, nil
}

// release lets go of an index that fullIndex returned. Only what the repository
// of this module gave is known to be nobody else's; a repository that wraps it may
// keep what it was given, and then the garbage collector releases it.
func (d *DAGStore) release(idx carindex.Index) {
	if r, ok := idx.(index.Releaser); ok && d.folder != nil {
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
type storedIndex struct {
	store *DAGStore
	index carindex.IterableIndex // nil if it cannot be opened
}

// storedIndex returns what there is of the full index of a shard. It is to be
// released.
func (d *DAGStore) storedIndex(key shard.Key) storedIndex {
	idx, err := d.iterableIndex(key)
	if err != nil {
		return storedIndex{}
	}
	return storedIndex{d, idx}
}

func (s storedIndex) release() {
	if s.index != nil {
		s.store.release(s.index)
	}
}

// multihashes returns the multihashes to be removed from a top-level index, nil if
// they are not known.
func (s storedIndex) multihashes() index.MultihashIterator {
	if s.index == nil {
		return nil
	}
	return readable{s.index}
}

// readable are the multihashes of an index as far as it can be read: that it is
// damaged must not be in the way of its removal.
type readable struct{ carindex.IterableIndex }

func (r readable) ForEach(f func(mh.Multihash) error) error {
	var ended error // by f
	err := guard.Call(func() error {
		return r.IterableIndex.ForEach(func(h mh.Multihash, _ uint64) error {
			ended = f(h)
			return ended
		})
	})
	if err != nil && ended == nil {
		log.Warnw("old full index of a shard cannot be read to its end", "error", err)
	}
	return ended
}
