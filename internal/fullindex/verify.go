package fullindex

import (
	"bytes"
	"context"
	"fmt"
)

// Verify reads the whole index. Records out of order are an error, and so is one
// without an offset: so looks a file whose end has never reached the disk. The
// error wraps ErrMalformed, or is fs.ErrClosed, that of ctx or that of a read.
func (x *Index) Verify(ctx context.Context) error {
	var last []byte
	return x.pass(func(c chunk) error {
		if err := ctx.Err(); err != nil {
			return err
		}
		if c.first == 0 {
			last = last[:0]
		}
		if err := c.verify(last); err != nil {
			return err
		}
		last = append(last[:0], c.digest(c.count-1)...)
		return nil
	})
}

// verify checks records that come after the digest last.
func (c *chunk) verify(last []byte) error {
	for i := range c.count {
		digest := c.digest(i)
		if bytes.Compare(last, digest) > 0 {
			return fmt.Errorf("%w: record %d of its bucket is out of order", ErrMalformed, c.first+int64(i))
		}
		if c.offset(i) == 0 {
			return fmt.Errorf("%w: record %d of its bucket has no offset", ErrMalformed, c.first+int64(i))
		}
		last = digest
	}
	return nil
}
