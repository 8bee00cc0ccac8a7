package index

import (
	"cmp"
	"context"
	"fmt"
	"runtime"
	"slices"
	"sort"

	carindex "github.com/ipld/go-car/v2/index"
	"github.com/multiformats/go-multihash"

	"github.com/filecoin-project/dagstore/internal/fullindex"
	"github.com/filecoin-project/dagstore/internal/guard"
)

// CompareMultihashes compares two multihashes in the order of full indices: by the
// code of the hash function, the length of the digest, and the digest. That is not
// the order of their bytes. What is not a multihash comes before all that are.
func CompareMultihashes(a, b multihash.Multihash) int { return fullindex.Compare(a, b) }

// A MultihashRange has the multihashes that come after After, and not after Through,
// in the order of CompareMultihashes. An empty bound is none: the zero range has all
// multihashes. Where one range ends another begins; who has got as far as a multihash
// goes on with it as After.
type MultihashRange struct {
	After, Through multihash.Multihash
}

// check returns an error if a bound is not a multihash.
func (r MultihashRange) check() error {
	for _, bound := range []multihash.Multihash{r.After, r.Through} {
		if _, err := multihash.Decode(bound); len(bound) > 0 && err != nil {
			return fmt.Errorf("the bound %x of a range is not a multihash: %w", []byte(bound), err)
		}
	}
	return nil
}

// A RangeIterator is a full index that goes through a range of its multihashes
// without going through those before. See RangeIteratorOf.
type RangeIterator interface {
	// ForEachInRange calls visit with the multihashes of a range, in the order of
	// CompareMultihashes, and their offsets, until visit returns false. A multihash
	// with several blocks comes several times. It is valid only during the call.
	// The error wraps ErrDamaged if the index is not what was added.
	ForEachInRange(r MultihashRange, visit func(h multihash.Multihash, offset uint64) bool) error
}

// RangeIteratorOf returns an index as a RangeIterator. The indices of this module
// are, or become, one at no cost. Of another index that is not one, the multihashes
// are copied and sorted in memory, unless ctx ends first.
func RangeIteratorOf(ctx context.Context, idx carindex.IterableIndex) (RangeIterator, error) {
	if ranges, ok := idx.(RangeIterator); ok {
		return ranges, nil
	}
	if full, ok := fullindex.Of(idx); ok {
		return fullRanges{full, idx}, nil
	}
	return newSortedEntries(ctx, idx)
}

// fullRanges are the ranges of a full index that another one embeds.
type fullRanges struct {
	full  *fullindex.Index
	owner carindex.Index // may hold full open
}

func (f fullRanges) ForEachInRange(r MultihashRange, visit func(multihash.Multihash, uint64) bool) error {
	defer runtime.KeepAlive(f.owner)
	return damaged(f.full.EachInRange(r.After, r.Through, visit))
}

// sortedEntries are the multihashes and offsets of an index, sorted.
type sortedEntries []sortedEntry

type sortedEntry struct {
	hash   multihash.Multihash
	offset uint64
}

func newSortedEntries(ctx context.Context, idx carindex.IterableIndex) (s sortedEntries, err error) {
	err = guard.Call(func() error {
		return idx.ForEach(func(h multihash.Multihash, offset uint64) error {
			if _, err := multihash.Decode(h); err != nil {
				return fmt.Errorf("the index has %x, which is not a multihash: %w", []byte(h), err)
			}
			s = append(s, sortedEntry{slices.Clone(h), offset})
			return ctx.Err()
		})
	})
	if err == nil {
		err = ctx.Err() // also one that the index has swallowed
	}
	if err != nil {
		return nil, err
	}
	slices.SortFunc(s, func(a, b sortedEntry) int {
		return cmp.Or(CompareMultihashes(a.hash, b.hash), cmp.Compare(a.offset, b.offset))
	})
	return s, nil
}

func (s sortedEntries) ForEachInRange(r MultihashRange, visit func(multihash.Multihash, uint64) bool) error {
	if err := r.check(); err != nil {
		return err
	}
	first := sort.Search(len(s), func(i int) bool { return len(r.After) == 0 || CompareMultihashes(s[i].hash, r.After) > 0 })
	for _, e := range s[first:] {
		if len(r.Through) > 0 && CompareMultihashes(e.hash, r.Through) > 0 || !visit(e.hash, e.offset) {
			return nil
		}
	}
	return nil
}
