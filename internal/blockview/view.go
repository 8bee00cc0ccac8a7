package blockview

import (
	"context"
	"sync"

	"github.com/ipfs/go-cid"
)

// keptSize is the greatest block that Bitswap carries. Buffers for greater ones
// are not kept for the next View.
const keptSize = 2 << 20

// kept are buffers of View for blocks that it has to read.
var kept = sync.Pool{New: func() any { return new([keptSize]byte) }}

// View calls use with the block, or returns ipld.ErrNotFound. The bytes are not
// a copy but part of the mapping of the data, or of a buffer if it has none:
// they must not be changed, and are valid only until use returns. The error of
// use is returned as it is, and its panic goes on.
//
// Close waits until use has returned, so that use must not close the data; all
// methods of b work in it. A memory fault in the bytes, which is what a file
// that is truncated meanwhile gives, ends use and is an error, if use reads them
// in the goroutine that it is called in.
func (b *Blocks) View(ctx context.Context, c cid.Cid, use func([]byte) error) error {
	var answer error // of use
	err := b.look(ctx, query{cid: c, reach: blockReach}, func(p place) error {
		return b.show(p, func(data []byte) error {
			if b.verify.Load() {
				if err := checkHash(c, data); err != nil {
					return err
				}
			}
			answer = use(data)
			return nil
		})
	})
	if err != nil {
		return b.edge(c, err)
	}
	return answer
}

// show calls use with the block at p, which is copied only if it must be.
func (b *Blocks) show(p place, use func([]byte) error) (err error) {
	if p.inline == "" && int64(len(p.have)) == p.size {
		if err := b.believe(p.have, p); err != nil {
			return err
		}
		return use(p.have)
	}
	var data []byte
	if p.size <= keptSize {
		buf := kept.Get().(*[keptSize]byte)
		defer kept.Put(buf)
		data = buf[:p.size:p.size]
	} else if data, err = allocate(p.size); err != nil {
		return err
	}
	if err := b.fill(data, p); err != nil {
		return err
	}
	return use(data)
}
