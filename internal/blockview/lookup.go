package blockview

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math"

	"github.com/ipfs/go-cid"
	ipld "github.com/ipfs/go-ipld-format"
	carindex "github.com/ipld/go-car/v2/index"
	"github.com/multiformats/go-multihash"

	"github.com/filecoin-project/dagstore/internal/carfile"
	"github.com/filecoin-project/dagstore/internal/guard"
)

// A location is where the bytes of a block are: in a section of the payload,
// or in the CID itself.
type location struct {
	section  carfile.Section
	inline   []byte
	isInline bool
}

func (l location) size() int {
	if l.isInline {
		return len(l.inline)
	}
	return int(min(l.section.DataSize, math.MaxInt))
}

// find returns where the block of c is. It does not answer from the index
// alone: the section must be there and carry the multihash of c.
func (b *Blocks) find(ctx context.Context, c cid.Cid) (location, error) {
	if err := b.usable(ctx); err != nil {
		return location{}, err
	}
	if !c.Defined() {
		return location{}, errUndefined
	}
	decoded, err := multihash.Decode(c.Hash())
	if err != nil {
		return location{}, b.edge(c, err)
	}
	if decoded.Code == multihash.IDENTITY {
		return location{inline: decoded.Digest, isInline: true}, nil
	}

	s := search{blocks: b, ctx: ctx, hash: c.Hash()}
	err = guard.Call(func() error { return b.idx.GetAll(c, s.visit) })
	switch {
	case s.found:
		return location{section: s.section}, nil
	case s.err != nil:
		return location{}, b.edge(c, s.err)
	case err != nil && !errors.Is(err, carindex.ErrNotFound):
		return location{}, b.edge(c, err)
	case s.damage != nil:
		return location{}, b.edge(c, malformed(s.damage))
	}
	if err := b.usable(ctx); err != nil {
		return location{}, err
	}
	return location{}, ipld.ErrNotFound{Cid: c}
}

// A search goes through the offsets that the index gives for a multihash.
type search struct {
	blocks *Blocks
	ctx    context.Context
	hash   multihash.Multihash

	found   bool
	section carfile.Section // what was found
	err     error           // ended the search
	damage  error           // the first offset that points at no section
}

// visit looks at one offset and tells whether to go on.
func (s *search) visit(offset uint64) bool {
	if s.found || s.err != nil {
		return false
	}
	if s.err = s.blocks.usable(s.ctx); s.err != nil {
		return false
	}
	section, err := carfile.SectionAt(s.blocks.data, s.blocks.payload, offset)
	switch {
	case isDamage(err):
		if s.damage == nil {
			s.damage = err
		}
	case err != nil:
		s.err = err
	case bytes.Equal(section.Cid.Hash(), s.hash):
		s.section, s.found = section, true
	}
	return !s.found && s.err == nil
}

// isDamage tells the errors of wrong bytes from those of reading them.
func isDamage(err error) bool {
	return errors.Is(err, carfile.ErrMalformed) || errors.Is(err, carfile.ErrTruncated)
}

// malformed makes carfile.ErrMalformed part of an error of damage.
func malformed(err error) error {
	if errors.Is(err, carfile.ErrMalformed) {
		return err
	}
	return fmt.Errorf("%w: %w", carfile.ErrMalformed, err)
}
