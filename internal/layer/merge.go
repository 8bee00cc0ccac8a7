package layer

import (
	"context"
)

// restAfter is how many records are merged between two looks at the context.
const restAfter = 4096

// Merge adds the records of layers to a Writer, which the caller finishes. keep
// says of which shards; nil says all. Every few thousand records it calls rest, if
// that is not nil, with their number; rest may take its time. It ends with the
// context.
func Merge(ctx context.Context, to *Writer, from []*Layer, keep func(shard uint32) bool, rest func(records int)) error {
	heads, err := headsOf(from)
	if err != nil {
		return err
	}
	for n := 1; len(heads) > 0; n++ {
		r := heads[0].record
		if keep == nil || keep(r.Shard) {
			if err := to.Add(r); err != nil {
				return err
			}
		}
		if err := heads.advance(); err != nil {
			return err
		}
		if n%restAfter == 0 {
			if rest != nil {
				rest(restAfter)
			}
			if err := ctx.Err(); err != nil {
				return err
			}
		}
	}
	return ctx.Err()
}

// A head is the next record of a layer.
type head struct {
	record Record
	cursor *Cursor
}

// heads is a heap with the least record at its top.
type heads []head

func headsOf(layers []*Layer) (heads, error) {
	var h heads
	for _, l := range layers {
		c := l.Cursor()
		r, ok, err := c.Next()
		if err != nil {
			return nil, err
		}
		if ok {
			h = append(h, head{r, c})
		}
	}
	for i := len(h)/2 - 1; i >= 0; i-- {
		h.sink(i)
	}
	return h, nil
}

// advance replaces the record at the top by the next of its layer.
func (h *heads) advance() error {
	top := &(*h)[0]
	r, ok, err := top.cursor.Next()
	if err != nil {
		return err
	}
	top.record = r
	if !ok {
		n := len(*h) - 1
		*top = (*h)[n]
		*h = (*h)[:n]
	}
	h.sink(0)
	return nil
}

// sink moves the i-th head to below all that are less.
func (h heads) sink(i int) {
	for {
		least := i
		for child := 2*i + 1; child <= 2*i+2 && child < len(h); child++ {
			if h[child].record.Compare(h[least].record) < 0 {
				least = child
			}
		}
		if least == i {
			return
		}
		h[i], h[least] = h[least], h[i]
		i = least
	}
}
