package blockview

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	carindex "github.com/ipld/go-car/v2/index"
	"github.com/multiformats/go-multicodec"
	"github.com/multiformats/go-multihash"

	"github.com/filecoin-project/dagstore/internal/carfile"
	"github.com/filecoin-project/dagstore/internal/fullindex"
	"github.com/filecoin-project/dagstore/internal/guard"
	"github.com/filecoin-project/dagstore/internal/mapped"
)

// ErrMismatch is the error of an index that is not one of the data.
var ErrMismatch = errors.New("index does not fit the data")

// Fits returns nil if data is a CAR, and the entries of idx that it looks at
// point at sections of data with their multihash. It looks at up to samples
// entries, evenly spaced with the first and the last among them. An index of
// ours costs no more than these; another is gone through as a whole, or
// believed if it cannot list its entries. The error wraps ErrMismatch if they
// do not fit, and is that of the read if data cannot be read, or of ctx.
func Fits(ctx context.Context, data *mapped.Data, idx carindex.Index, samples int) error {
	payload, err := carfile.Locate(data, data.Size())
	if err != nil {
		return mismatch(err)
	}
	if samples <= 0 {
		return ctx.Err()
	}
	check := checker{data: data, payload: payload}
	if full, ok := fullindex.Of(idx); ok {
		return check.full(ctx, full, samples)
	}
	list, ok := idx.(carindex.IterableIndex)
	if !ok {
		return ctx.Err()
	}
	return guard.Call(func() error {
		entries, err := count(ctx, list, payload)
		if err != nil || entries == 0 {
			return err
		}
		return sample(ctx, list, min(entries, int64(samples)), entries, func(mh multihash.Multihash, offset uint64) error {
			return check.section(offset, func(s *carfile.Section) bool { return bytes.Equal(s.Multihash(), mh) })
		})
	})
}

// A checker looks at sections where an index says that they are.
type checker struct {
	data    *mapped.Data
	payload carfile.Payload
	head    carfile.Head
}

// full checks samples of the records, at least one, picked by their position.
func (k *checker) full(ctx context.Context, full *fullindex.Index, samples int) error {
	records := full.Len()
	if records > k.payload.Size {
		return errTooMany
	}
	picks := min(records, int64(samples))
	for i := range picks {
		if err := ctx.Err(); err != nil {
			return err
		}
		r, err := full.Record(nth(i, picks, records))
		if err != nil {
			return mismatch(err)
		}
		err = k.section(r.Offset, func(s *carfile.Section) bool {
			return bytes.Equal(s.Digest, r.Digest) &&
				(s.Code == r.Code || full.Codec() == multicodec.CarIndexSorted)
		})
		if err != nil {
			return err
		}
	}
	return ctx.Err()
}

func (k *checker) section(offset uint64, is func(*carfile.Section) bool) error {
	section, err := carfile.SectionAt(k.data, k.payload, offset, &k.head)
	if err != nil {
		return mismatch(err)
	}
	if !is(&section) {
		return fmt.Errorf("%w: another block lies at offset %d", ErrMismatch, offset)
	}
	return nil
}

var errTooMany = fmt.Errorf("%w: more entries than the data has bytes", ErrMismatch)

// count returns the number of entries, which are no more than the payload has
// bytes.
func count(ctx context.Context, idx carindex.IterableIndex, payload carfile.Payload) (int64, error) {
	var entries int64
	err := idx.ForEach(func(multihash.Multihash, uint64) error {
		entries++
		if entries > payload.Size {
			return errTooMany
		}
		return ctx.Err()
	})
	return entries, err
}

// sample visits picks of the entries of idx, at least one, evenly spaced.
func sample(ctx context.Context, idx carindex.IterableIndex, picks, entries int64, visit func(multihash.Multihash, uint64) error) error {
	var at, picked int64
	return idx.ForEach(func(mh multihash.Multihash, offset uint64) error {
		if err := ctx.Err(); err != nil {
			return err
		}
		wanted := picked < picks && at == nth(picked, picks, entries)
		at++
		if !wanted {
			return nil
		}
		picked++
		return visit(mh, offset)
	})
}

// nth is the position of pick i of picks among entries.
func nth(i, picks, entries int64) int64 { return i * (entries - 1) / max(picks-1, 1) }

// mismatch adds ErrMismatch to the errors of wrong bytes, and leaves those of
// reading them alone.
func mismatch(err error) error {
	if isDamage(err) || errors.Is(err, fullindex.ErrMalformed) {
		return fmt.Errorf("%w: %w", ErrMismatch, err)
	}
	return err
}
