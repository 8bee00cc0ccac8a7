package inverted

import (
	"context"
	"errors"
	"fmt"
	"math"

	"github.com/filecoin-project/dagstore/internal/guard"
	"github.com/filecoin-project/dagstore/internal/journal"
	"github.com/filecoin-project/dagstore/internal/layer"
)

// maxKey is the length of the longest key of a shard, in bytes. An entry of the
// journal has room for one besides a megabyte of shorter ones and what else it says.
const maxKey = journal.MaxEntry / 2

// stride is how many records are handled between two looks at the context.
const stride = 1024

// Add adds a shard with its multihashes, which the iterator gives one after the
// other to the function that it is called with, from one goroutine; if that returns
// an error, it is to end. The multihashes may be changed after each call. When Add
// returns nil, all of it is durable and found; after an error, none of it is, unless
// it was a journal that failed: then a restart may bring it.
//
// Adding to a shard that is there adds to its multihashes: it takes a place in the
// order of shards only once. Changes of one shard follow each other; those of
// different ones go on side by side. Add takes at most 64 MiB of memory, less for
// fewer multihashes. It waits for merging if that is far behind.
//
// The error is that of ctx, of the iterator, or a *guard.PanicError if it panics;
// fs.ErrClosed, ErrReadOnly, ErrDamaged; or that of a file.
func (x *Index) Add(ctx context.Context, key string, multihashes func(func(mh []byte) error) error) error {
	if len(key) > maxKey {
		return fmt.Errorf("key of a shard has %d bytes, at most %d can be", len(key), maxKey)
	}
	bound, end, err := x.beginChange(ctx, key)
	if err != nil {
		return err
	}
	defer end()
	if err := x.add(bound, key, multihashes); err != nil {
		return fmt.Errorf("add to the inverted index: %w", outcome(bound, err))
	}
	return nil
}

// beginChange begins a change of a shard, which end ends.
func (x *Index) beginChange(ctx context.Context, key string) (bound context.Context, end func(), err error) {
	if x.follow != nil {
		return nil, nil, ErrReadOnly
	}
	if err := x.merger.damage(); err != nil {
		return nil, nil, err
	}
	bound, endCall, err := x.begin(ctx)
	if err != nil {
		return nil, nil, err
	}
	unlock, err := x.keys.lock(bound, key)
	if err != nil {
		endCall()
		return nil, nil, outcome(bound, err)
	}
	x.count(0)
	return bound, func() { unlock(); endCall() }, nil
}

func (x *Index) add(ctx context.Context, key string, multihashes func(func(mh []byte) error) error) error {
	if err := x.awaitRoom(ctx); err != nil {
		return err
	}
	number, err := x.numberOf(key)
	if err != nil {
		return err
	}
	a := addition{index: x, ctx: ctx, number: number, secret: x.view.Load().secret}
	err = guard.Call(func() error { return multihashes(a.take) })
	if err = errors.Join(err, a.err, ctx.Err()); err != nil {
		x.discard(a.layers)
		return err
	}
	c, err := a.change()
	if err != nil {
		x.discard(a.layers)
		return err
	}
	c.shards = []named{{number, key}}
	_, err = x.commit(ctx, c)
	return err
}

// numberOf returns the number of a shard, or a new one. Nobody else changes the
// shard meanwhile.
func (x *Index) numberOf(key string) (uint32, error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if number, ok := x.manifest.numbers[key]; ok {
		return number, nil
	}
	if x.nextShard > math.MaxUint32 {
		return 0, errors.New("all numbers of shards have been used: make the index anew")
	}
	number := uint32(x.nextShard)
	x.nextShard++
	return number, nil
}

func (x *Index) newLayer() uint64 {
	x.mu.Lock()
	defer x.mu.Unlock()
	number := x.nextLayer
	x.nextLayer++
	return number
}

// An addition collects what is added to a shard.
type addition struct {
	index   *Index
	ctx     context.Context
	number  uint32
	secret  secret
	sorted  []layer.Fingerprint // not written yet
	scratch []layer.Fingerprint
	layers  []*table
	err     error // what ended it
}

// take adds a multihash.
func (a *addition) take(mh []byte) error {
	if a.err != nil {
		return a.err
	}
	if len(a.sorted)%stride == 0 {
		a.index.count(0)
		if a.err = a.ctx.Err(); a.err != nil {
			return a.err
		}
	}
	if len(a.sorted) == a.index.sizes.sorted {
		if a.err = a.flush(); a.err != nil {
			return a.err
		}
	}
	a.sorted = append(a.sorted, a.secret.fingerprint(mh))
	return nil
}

// flush makes a layer of what was collected.
func (a *addition) flush() error {
	a.sort()
	x := a.index
	var t *table
	var err error
	if x.log == nil {
		t, err = memoryTable(int64(len(a.sorted)), a.write)
	} else {
		t, err = x.folder.writeLayer(x.newLayer(), a.write)
	}
	if err != nil {
		return err
	}
	t.shares = []share{{a.number, uint32(t.records)}}
	a.layers = append(a.layers, t)
	a.sorted = a.sorted[:0]
	return nil
}

func (a *addition) sort() {
	if cap(a.scratch) < len(a.sorted) {
		a.scratch = make([]layer.Fingerprint, len(a.sorted))
	}
	sortFingerprints(a.sorted, a.scratch)
}

func (a *addition) write(w *layer.Writer) error {
	for i, f := range a.sorted {
		if i%stride == 0 {
			if err := a.ctx.Err(); err != nil {
				return err
			}
		}
		if err := w.Add(layer.Record{Fingerprint: f, Shard: a.number}); err != nil {
			return err
		}
	}
	return nil
}

// change returns the change that adds what was collected.
func (a *addition) change() (*change, error) {
	isSmall := len(a.layers) == 0 && len(a.sorted) <= a.index.sizes.small
	if isSmall && a.index.log != nil {
		return a.small()
	}
	if len(a.sorted) > 0 {
		if err := a.flush(); err != nil {
			return nil, err
		}
	}
	if a.index.log == nil {
		return &change{memory: a.layers}, nil
	}
	return &change{added: a.layers}, nil
}

// small returns the change for few multihashes: the journal has them, and a layer in
// memory.
func (a *addition) small() (*change, error) {
	if len(a.sorted) == 0 {
		return new(change), nil
	}
	a.sort()
	t, err := memoryTable(int64(len(a.sorted)), a.write)
	if err != nil {
		return nil, err
	}
	t.shares = []share{{a.number, uint32(t.records)}}
	t.raw = make([]layer.Record, 0, len(a.sorted))
	for i, f := range a.sorted {
		if i == 0 || f != a.sorted[i-1] {
			t.raw = append(t.raw, layer.Record{Fingerprint: f, Shard: a.number})
		}
	}
	return &change{memory: []*table{t}}, nil
}
