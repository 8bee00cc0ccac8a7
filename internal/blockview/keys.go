package blockview

import (
	"bytes"
	"context"
	"errors"

	"github.com/ipfs/go-cid"
	logging "github.com/ipfs/go-log/v2"
	carindex "github.com/ipld/go-car/v2/index"
	"github.com/multiformats/go-multicodec"
	"github.com/multiformats/go-multihash"

	"github.com/filecoin-project/dagstore/internal/carfile"
	"github.com/filecoin-project/dagstore/internal/fullindex"
	"github.com/filecoin-project/dagstore/internal/guard"
)

var log = logging.Logger("dagstore/blockview")

// keyBatch is how many multihashes are copied from the index at once, at most.
const keyBatch = 512

// errStopped ends an iteration whose receiver or data is gone.
var errStopped = errors.New("stopped")

// AllKeysChan sends a CIDv1 with the raw codec for each distinct multihash of
// the CAR, in the order of the index if it has one. The channel is closed at
// the end, and early when ctx ends, the data is closed or the index or the CAR
// turns out to be damaged, which is logged. Nothing is held while a key is
// sent: a receiver that stops receiving must cancel ctx, and until then it costs
// a goroutine, but Close does not wait for it. An index that others made is in
// use until the channel is closed.
func (b *Blocks) AllKeysChan(ctx context.Context) (<-chan cid.Cid, error) {
	if err := b.usable(ctx); err != nil {
		return nil, err
	}
	keys := make(chan cid.Cid)
	go func() {
		defer close(keys)
		err := guard.Call(func() error { return b.sendKeys(ctx, keys) })
		if err != nil && b.usable(ctx) == nil {
			log.Warnw("listing of keys ended early", "err", err)
		}
	}()
	return keys, nil
}

func (b *Blocks) sendKeys(ctx context.Context, keys chan<- cid.Cid) error {
	send := func(mh multihash.Multihash) error {
		select {
		case keys <- cid.NewCidV1(cid.Raw, mh):
			return nil
		case <-ctx.Done():
		case <-b.data.Done():
		}
		return errStopped
	}
	once := distinct{sorted: b.codec == multicodec.CarMultihashIndexSorted}
	if b.full != nil && once.sorted {
		return b.sendBatches(&once, send)
	}
	list, ok := b.idx.(carindex.IterableIndex)
	if !ok {
		once.sorted = false
		return carfile.Scan(ctx, b.data, b.data.Size(), carfile.Options{}, func(s *carfile.Section) error {
			return once.visit(s.Multihash(), send)
		})
	}
	return list.ForEach(func(mh multihash.Multihash, _ uint64) error {
		if err := b.usable(ctx); err != nil {
			return err
		}
		if _, err := multihash.Decode(mh); err != nil {
			return err
		}
		return once.visit(mh, send)
	})
}

// sendBatches sends what our own index lists.
func (b *Blocks) sendBatches(once *distinct, send func(multihash.Multihash) error) error {
	for from := int64(0); ; {
		batch, err := b.full.Multihashes(from, keyBatch)
		if errors.Is(err, fullindex.ErrMalformed) {
			b.report(err)
		}
		if err != nil || len(batch) == 0 {
			return err
		}
		for _, mh := range batch {
			if err := once.visit(mh, send); err != nil {
				return err
			}
		}
		from += int64(len(batch))
	}
}

// distinct drops the multihashes that it was given before. Of sorted ones it
// remembers just the last.
type distinct struct {
	sorted bool
	last   multihash.Multihash
	seen   map[string]struct{}
}

func (d *distinct) visit(mh multihash.Multihash, next func(multihash.Multihash) error) error {
	if d.sorted {
		if bytes.Equal(d.last, mh) {
			return nil
		}
		d.last = append(d.last[:0], mh...)
		return next(mh)
	}
	if _, ok := d.seen[string(mh)]; ok {
		return nil
	}
	if d.seen == nil {
		d.seen = map[string]struct{}{}
	}
	d.seen[string(mh)] = struct{}{}
	return next(mh)
}
