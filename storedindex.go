package dagstore

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"sync/atomic"

	carindex "github.com/ipld/go-car/v2/index"
	mh "github.com/multiformats/go-multihash"

	"github.com/filecoin-project/dagstore/index"
	"github.com/filecoin-project/dagstore/internal/fullindex"
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

// verifiedIndex is iterableIndex for an index that is to be believed: one that no
// part of this process has read yet is read whole first. It is made again if it is
// damaged.
func (d *DAGStore) verifiedIndex(ctx context.Context, key shard.Key) (carindex.IterableIndex, error) {
	idx, err := d.iterableIndex(key)
	if err != nil {
		return nil, err
	}
	sh := d.gate.lookup(key)
	if sh == nil || sh.trust.known() {
		return idx, nil
	}
	if err := verifyIndex(ctx, idx); err != nil {
		d.release(idx)
		if isLost(err) {
			sh.indexLost(err)
		}
		return nil, err
	}
	sh.trust.whole.Store(true)
	return idx, nil
}

// release lets go of an index that fullIndex returned. Only what the repository
// of this module gave is known to be nobody else's; a repository that wraps it may
// keep what it was given, and then the garbage collector releases it.
func (d *DAGStore) release(idx carindex.Index) {
	if r, ok := idx.(index.Releaser); ok && d.folder != nil {
		r.Release()
	}
}

// adopt adds the shard to the top-level index from the full index that is there, if
// that is whole. It is compared with the data when the shard is first opened. What the
// top-level index holds of the shard is of an older one: a crash came between both.
func (sh *Shard) adopt(ctx context.Context) error {
	d := sh.store
	return d.topLevel.do(ctx, sh.key, func() error {
		if !d.gate.serves(sh) {
			return ErrShardUnknown
		}
		idx, err := d.iterableIndex(sh.key)
		if err != nil {
			return err
		}
		defer d.release(idx)
		if err := verifyIndex(ctx, idx); err != nil {
			return err
		}
		sh.trust.whole.Store(true)
		if d.topLevel.shards.holds(sh.key) {
			return d.topLevel.exchange(ctx, sh.key, nil, idx)
		}
		return d.topLevel.feed(ctx, sh.key, idx)
	})
}

// isLost reports whether an error of the index repository, or of a full index, says
// that the index is not there, or not whole.
func isLost(err error) bool {
	for _, lost := range []error{index.ErrNotFound, index.ErrDamaged, fullindex.ErrMalformed, fs.ErrNotExist} {
		if errors.Is(err, lost) {
			return !isPassing(err)
		}
	}
	return false
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

// fullMultihashes are the multihashes of a full index, to be added to a top-level
// index.
type fullMultihashes struct {
	index  carindex.IterableIndex
	failed atomic.Bool // the last time that they were gone through, the index was at fault
}

// fullRecords are those of an index that can also yield them without allocating.
type fullRecords struct {
	*fullMultihashes
	records index.RecordIterator
}

// iterator returns an index.MultihashIterator that is an index.RecordIterator exactly
// if the full index is.
func (m *fullMultihashes) iterator() index.MultihashIterator {
	if r, ok := m.index.(index.RecordIterator); ok {
		return fullRecords{m, r}
	}
	return m
}

func (m *fullMultihashes) ForEach(visit func(mh.Multihash) error) error {
	return m.watch(func(ended *error) error {
		return m.index.ForEach(func(h mh.Multihash, _ uint64) error {
			*ended = visit(h)
			return *ended
		})
	})
}

func (m fullRecords) ForEachRecord(visit func(code uint64, digest []byte, offset uint64) error) error {
	return m.watch(func(ended *error) error {
		return m.records.ForEachRecord(func(code uint64, digest []byte, offset uint64) error {
			*ended = visit(code, digest, offset)
			return *ended
		})
	})
}

// watch goes through the index, and notes whether it was at fault: also if it panics.
func (m *fullMultihashes) watch(each func(ended *error) error) error {
	var ended error // by the visitor
	m.failed.Store(true)
	err := each(&ended)
	m.failed.Store(err != nil && ended == nil)
	if ended != nil {
		return ended
	}
	return err
}

// readable are the multihashes of an index as far as it can be read: that it is
// damaged must not be in the way of its removal.
type readable struct{ index carindex.IterableIndex }

func (r readable) ForEach(f func(mh.Multihash) error) error {
	mhs := &fullMultihashes{index: r.index}
	err := guard.Call(func() error { return mhs.ForEach(f) })
	if mhs.failed.Load() {
		log.Warnw("old full index of a shard cannot be read to its end", "error", err)
		return nil
	}
	return err
}
