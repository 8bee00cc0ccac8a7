package indexbuild

import (
	"context"
	"encoding/binary"

	"github.com/multiformats/go-multicodec"
)

// A heading appends what is written before the records of a shape.
type heading func(head []byte, s shape, count int64) ([]byte, error)

// codes goes through the codes of an index in ascending order.
type codes interface {
	// next returns the number of shapes that have the next code, and 0 after
	// the last one.
	next() (int, error)
}

// indexHead returns the beginning of an index with as many codes as there are.
func (b *Builder) indexHead(ctx context.Context, c codes) ([]byte, error) {
	n, all := 0, 0
	for {
		shapes, err := c.next()
		if err != nil {
			return nil, err
		}
		if shapes == 0 {
			break
		}
		n++
		if all += shapes; all > b.limits.shapes {
			return nil, ErrTooManyShapes
		}
		if n%(1<<10) == 0 && ctx.Err() != nil {
			return nil, ctx.Err()
		}
	}
	head := binary.AppendUvarint(nil, uint64(multicodec.CarMultihashIndexSorted))
	return binary.LittleEndian.AppendUint32(head, uint32(n)), nil
}

// indexed is the heading of shapes in an index.
func indexed(c codes) heading {
	left := 0 // shapes of the present code
	return func(head []byte, s shape, count int64) ([]byte, error) {
		if left == 0 {
			n, err := c.next()
			if err != nil {
				return nil, err
			}
			left = n
			head = binary.LittleEndian.AppendUint64(head, s.code)
			head = binary.LittleEndian.AppendUint32(head, uint32(n))
		}
		left--
		head = binary.LittleEndian.AppendUint32(head, uint32(s.width()))
		return binary.LittleEndian.AppendUint64(head, uint64(count)*uint64(s.width())), nil
	}
}

// bucketCodes are the codes of sorted buckets.
type bucketCodes struct{ buckets []*bucket }

func (c *bucketCodes) next() (int, error) {
	n := 0
	for n < len(c.buckets) && c.buckets[n].code == c.buckets[0].code {
		n++
	}
	c.buckets = c.buckets[n:]
	return n, nil
}

// runCodes are the codes of runs.
type runCodes struct {
	groups groups
	first  []*reader
}

func (c *runCodes) next() (int, error) {
	n := 0
	for code := uint64(0); len(c.groups) > 0; n++ {
		if n == 0 {
			code = c.groups[0].shape.code
		}
		if c.groups[0].shape.code != code {
			break
		}
		c.first, _ = c.groups.take(c.first[:0])
		for _, r := range c.first {
			r.skip()
			if err := c.groups.add(r); err != nil {
				return 0, err
			}
		}
	}
	return n, nil
}
