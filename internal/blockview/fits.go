package blockview

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	carindex "github.com/ipld/go-car/v2/index"
	"github.com/multiformats/go-multihash"

	"github.com/filecoin-project/dagstore/internal/carfile"
	"github.com/filecoin-project/dagstore/internal/guard"
	"github.com/filecoin-project/dagstore/internal/mapped"
)

// ErrMismatch is the error of an index that is not one of the data.
var ErrMismatch = errors.New("index does not fit the data")

// Fits returns nil if the entries of idx that it looks at point at sections of
// data with their multihash. It looks at up to samples entries, evenly spaced
// with the first and the last among them. Of an index that cannot list its
// entries it believes everything, if only data is a CAR. The error wraps
// ErrMismatch if they do not fit, and is that of the read if data cannot be
// read, or of ctx.
func Fits(ctx context.Context, data *mapped.Data, idx carindex.Index, samples int) error {
	payload, err := carfile.Locate(data, data.Size())
	if err != nil {
		return mismatch(err)
	}
	list, ok := idx.(carindex.IterableIndex)
	if !ok || samples <= 0 {
		return ctx.Err()
	}
	return guard.Call(func() error {
		entries, err := count(ctx, list, payload)
		if err != nil || entries == 0 {
			return err
		}
		return sample(ctx, list, min(entries, int64(samples)), entries, func(mh multihash.Multihash, offset uint64) error {
			section, err := carfile.SectionAt(data, payload, offset)
			if err != nil {
				return mismatch(err)
			}
			if !bytes.Equal(section.Cid.Hash(), mh) {
				return fmt.Errorf("%w: another block lies at offset %d", ErrMismatch, offset)
			}
			return nil
		})
	})
}

// count returns the number of entries, which are no more than the payload has
// bytes.
func count(ctx context.Context, idx carindex.IterableIndex, payload carfile.Payload) (int64, error) {
	var entries int64
	err := idx.ForEach(func(multihash.Multihash, uint64) error {
		entries++
		if entries > payload.Size {
			return fmt.Errorf("%w: more entries than the data has bytes", ErrMismatch)
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
		wanted := picked < picks && at == picked*(entries-1)/max(picks-1, 1)
		at++
		if !wanted {
			return nil
		}
		picked++
		return visit(mh, offset)
	})
}

// mismatch adds ErrMismatch to the errors of wrong bytes, and leaves those of
// reading them alone.
func mismatch(err error) error {
	if isDamage(err) {
		return fmt.Errorf("%w: %w", ErrMismatch, err)
	}
	return err
}
