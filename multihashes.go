package dagstore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strings"

	mh "github.com/multiformats/go-multihash"

	"github.com/filecoin-project/dagstore/index"
	"github.com/filecoin-project/dagstore/internal/guard"
	"github.com/filecoin-project/dagstore/shard"
)

// ShardMultihashes yields a range of the multihashes of a shard, for example to
// announce them: from its full index, in the order of index.CompareMultihashes, each
// once. It begins with a search, not with a pass over what comes before; only of the
// indices of other repositories all multihashes may have to be sorted first, see
// index.RangeIteratorOf. A multihash is valid until the next one is yielded; clone
// those that you keep.
//
// An error comes last, together with the last multihash that was yielded: a range
// After that one goes on. It is an error as GetIterableIndex gives, ErrClosed, or
// that of ctx, which ends the iteration before the next multihash. The index stays
// open during the iteration, and is not closed by destroying the shard.
func (d *DAGStore) ShardMultihashes(ctx context.Context, key shard.Key, r index.MultihashRange) iter.Seq2[mh.Multihash, error] {
	return func(yield func(mh.Multihash, error) bool) {
		ctx, end, err := d.beginIteration(ctx)
		if err != nil {
			yield(r.After, fmt.Errorf("full index of shard %q: %w", key, err))
			return
		}
		defer end()
		d.eachMultihash(ctx, key, r, yield)
	}
}

// A ShardMultihash is a multihash of a shard.
type ShardMultihash struct {
	Shard     shard.Key
	Multihash mh.Multihash
}

// AllMultihashes yields a range of the multihashes of every available shard, as
// ShardMultihashes does, shard by shard in the order of their keys. It begins behind
// a multihash of a shard, so that the last that was yielded resumes it; the zero
// value begins at the start. One index is open at a time, and of all shards only the
// keys are in memory.
//
// An error comes together with the shard, and the last multihash that was yielded of
// it. Who goes on after it gets the next shard, unless ctx or the store has ended.
// Shards that are registered or destroyed meanwhile are yielded or not.
func (d *DAGStore) AllMultihashes(ctx context.Context, r index.MultihashRange, after ShardMultihash) iter.Seq2[ShardMultihash, error] {
	return func(yield func(ShardMultihash, error) bool) {
		ctx, end, err := d.beginIteration(ctx)
		if err != nil {
			yield(after, fmt.Errorf("multihashes of all shards: %w", err))
			return
		}
		defer end()
		for _, sh := range d.indexedFrom(after.Shard) {
			rest := r
			if sh.key == after.Shard && len(after.Multihash) > 0 && index.CompareMultihashes(after.Multihash, r.After) > 0 {
				rest.After = after.Multihash
			}
			stopped := false
			d.eachMultihash(ctx, sh.key, rest, func(h mh.Multihash, err error) bool {
				if err != nil && ctx.Err() == nil && !d.gate.serves(sh) {
					return false // it was destroyed meanwhile
				}
				stopped = !yield(ShardMultihash{sh.key, h}, err)
				return !stopped
			})
			if stopped || ctx.Err() != nil {
				return
			}
		}
	}
}

// beginIteration returns the context of an iteration, which ends with ctx and with
// the store, and what ends it for good.
func (d *DAGStore) beginIteration(ctx context.Context) (_ context.Context, end func(), err error) {
	if ctx == nil {
		return nil, nil, errNilContext
	}
	if d.ctx.Err() != nil {
		return nil, nil, ErrClosed
	}
	ctx, cancel := context.WithCancelCause(ctx)
	stop := context.AfterFunc(d.ctx, func() { cancel(ErrClosed) })
	return ctx, func() { stop(); cancel(nil) }, nil
}

// indexedFrom returns the shards that are indexed, from a key on, in the order of
// their keys.
func (d *DAGStore) indexedFrom(key shard.Key) []*Shard {
	before := func(sh *Shard) bool { return sh.key.String() < key.String() }
	shards := slices.DeleteFunc(d.gate.indexed(), before)
	slices.SortFunc(shards, func(a, b *Shard) int { return strings.Compare(a.key.String(), b.key.String()) })
	return shards
}

// eachMultihash yields the multihashes of a shard in a range, and at last the error
// that ended it, if one did.
func (d *DAGStore) eachMultihash(ctx context.Context, key shard.Key, r index.MultihashRange, yield func(mh.Multihash, error) bool) {
	last, err := d.readMultihashes(ctx, key, r, func(h mh.Multihash) bool { return yield(h, nil) })
	if err == nil {
		return
	}
	if ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	yield(last, fmt.Errorf("full index of shard %q: %w", key, err))
}

// readMultihashes yields the multihashes of a shard in a range, until yield returns
// false. An error comes with the last that was yielded. An index that turns out to be
// damaged is made again.
func (d *DAGStore) readMultihashes(
	ctx context.Context, key shard.Key, r index.MultihashRange, yield func(mh.Multihash) bool,
) (last mh.Multihash, err error) {
	last = r.After
	if ctx.Err() != nil {
		return last, ctx.Err()
	}
	idx, err := d.verifiedIndex(ctx, key)
	if err != nil {
		return last, err
	}
	defer d.release(idx)
	ranges, err := index.RangeIteratorOf(ctx, idx)
	if err == nil {
		last, err = yieldRange(ctx, ranges, r, yield)
	}
	if sh := d.gate.lookup(key); sh != nil && isLost(err) {
		sh.indexLost(err)
	}
	return last, err
}

// yieldRange yields a range page by page, as readMultihashes does.
func yieldRange(
	ctx context.Context, ranges index.RangeIterator, r index.MultihashRange, yield func(mh.Multihash) bool,
) (last mh.Multihash, err error) {
	for p := newPage(); ; {
		last = r.After
		if err := p.fill(ranges, r); err != nil || len(p.ends) == 0 {
			return last, err
		}
		r.After = slices.Clone(p.bytes[p.last:]) // which the next page does not overwrite
		start := 0
		for _, end := range p.ends {
			if ctx.Err() != nil {
				return last, ctx.Err()
			}
			last = p.bytes[start:end:end]
			if !yield(last) {
				return last, nil
			}
			start = end
		}
	}
}

// A page is some multihashes that follow each other. They are yielded while no index
// is being read: whoever gets them may take as long as they want, and panic.
type page struct {
	bytes []byte // of all multihashes
	ends  []int  // of each
	last  int    // where the last begins
}

const (
	pageHashes = 1024
	pageBytes  = 1 << 20
)

var errOutOfOrder = errors.New("ranges of the index are out of order")

func newPage() *page {
	const each = 40 // bytes of a multihash, or less
	return &page{bytes: make([]byte, 0, pageHashes*each), ends: make([]int, 0, pageHashes)}
}

func (p *page) full() bool { return len(p.ends) == pageHashes || len(p.bytes) >= pageBytes }

// fill takes the first multihashes of a range, each once; none if there are none.
func (p *page) fill(ranges index.RangeIterator, r index.MultihashRange) error {
	p.bytes, p.ends, p.last = p.bytes[:0], p.ends[:0], 0
	err := guard.Call(func() error {
		return ranges.ForEachInRange(r, func(h mh.Multihash, _ uint64) bool {
			if !p.full() && !bytes.Equal(h, p.bytes[p.last:]) {
				p.last = len(p.bytes)
				p.bytes = append(p.bytes, h...)
				p.ends = append(p.ends, len(p.bytes))
			}
			return !p.full()
		})
	})
	if err == nil && len(p.ends) > 0 && len(r.After) > 0 && index.CompareMultihashes(p.bytes[p.last:], r.After) <= 0 {
		err = errOutOfOrder // or it might never end
	}
	return err
}
