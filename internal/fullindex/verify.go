package fullindex

import (
	"bytes"
	"context"
	"fmt"
)

// Verify reads the whole index. Records out of order are an error, and so is a
// record that ends in zeros: so looks a file whose end has never reached the
// disk. The error wraps ErrMalformed, or is that of ctx or of a read.
func (x *Index) Verify(ctx context.Context) error {
	return x.guarded(func() error {
		for i := range x.buckets {
			var last []byte
			at := int64(0)
			err := x.chunks(&x.buckets[i], func(l list) error {
				if err := ctx.Err(); err != nil {
					return err
				}
				if err := l.verify(last, at); err != nil {
					return err
				}
				last = append(last[:0], l.digest(l.count()-1)...)
				at += int64(l.count())
				return nil
			})
			if err != nil {
				return err
			}
		}
		return nil
	})
}

// verify checks records of which the first is the at-th of its bucket, and comes
// after the digest last, if there is one.
func (l list) verify(last []byte, at int64) error {
	for i := range l.count() {
		digest := l.digest(i)
		if bytes.Compare(last, digest) > 0 {
			return fmt.Errorf("%w: record %d of its bucket is out of order", ErrMalformed, at+int64(i))
		}
		if l.endsInZeros(i) {
			return fmt.Errorf("%w: record %d of its bucket ends in zeros", ErrMalformed, at+int64(i))
		}
		last = digest
	}
	return nil
}

// endsInZeros tells whether a record lacks its offset and the end of its digest.
// A digest may end in a zero, hence both.
func (l list) endsInZeros(i int) bool {
	digest := l.digest(i)
	return l.offset(i) == 0 && len(digest) > 0 && digest[len(digest)-1] == 0
}
