package blockview

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/ipfs/go-cid"
	carindex "github.com/ipld/go-car/v2/index"
	"github.com/multiformats/go-multicodec"
	"github.com/multiformats/go-multihash"

	"github.com/filecoin-project/dagstore/internal/carfile"
	"github.com/filecoin-project/dagstore/internal/fullindex"
	"github.com/filecoin-project/dagstore/internal/guard"
	"github.com/filecoin-project/dagstore/internal/mapped"
)

var (
	errUndefined    = errors.New("undefined cid")
	errNoMultihash  = errors.New("cid without a multihash")
	errAbsent       = errors.New("absent") // becomes ipld.ErrNotFound at the edge
	errAnotherBlock = errors.New("the index points at another block")
)

// How many bytes of a section are read at once from data that is not mapped.
const (
	headReach  = 128     // the length and all usual CIDs
	blockReach = 4 << 10 // a small block as well
)

// buffers are for sections that are read from data that is not mapped.
var buffers = sync.Pool{New: func() any { return new([blockReach]byte) }}

// A query is what is asked of look.
type query struct {
	cid   cid.Cid
	first uint64 // an offset to look at before the index is asked; 0 for none, since a CAR begins with its header
	reach int    // headReach or blockReach
}

// A place is where a block is: in the data, or in its CID.
type place struct {
	size   int64
	inline string // the block, if its CID holds it
	offset int64  // in the data, if not
	have   []byte // first bytes of the block: all if the data is mapped; valid only in the visit of look
	mapped bool
}

// look finds the block and calls use, once, with where it is. Meanwhile the
// data stays open, and memory faults in it become errors. Other errors are that
// of use, ctx, fs.ErrClosed, errAbsent, errUndefined, and what is wrong with
// the CID, the data or the index.
//
// It does not answer from the index alone: the section must be there and carry
// the multihash of the CID. With an index of ours nothing is allocated, unless
// it fails or the index is neither in memory nor mapped.
func (b *Blocks) look(ctx context.Context, q query, use func(place) error) error {
	s := search{blocks: b, ctx: ctx, query: q}
	err := s.run(use)
	if s.misled != nil {
		b.report(s.misled)
	}
	return err
}

// A search looks for one block.
type search struct {
	query
	blocks  *Blocks
	ctx     context.Context
	code    uint64 // of the multihash
	digest  string
	mapping []byte // the data, or nil
	buffer  []byte // where sections are read to if it is nil

	asking  bool            // the index is being read
	looks   int             // at sections
	section carfile.Section // that was looked at last
	have    []byte          // first bytes of its block, if it was read
	found   bool            // it has the multihash
	misled  error           // the first proof that the index is wrong
	err     error           // ended the search
}

func (s *search) run(use func(place) error) error {
	b := s.blocks
	pass, err := b.data.Enter()
	if err != nil {
		return err
	}
	defer b.data.Leave(pass)
	if err := s.ctx.Err(); err != nil {
		return err
	}
	if err := s.parse(); err != nil {
		return err
	}
	if s.code == multihash.IDENTITY {
		return use(place{size: int64(len(s.digest)), inline: s.digest})
	}

	s.mapping = b.data.Mapping()
	if s.mapping == nil {
		buf := buffers.Get().(*[blockReach]byte)
		defer buffers.Put(buf)
		s.buffer = buf[:]
	}
	fault := mapped.Faultless(func() error {
		if err = s.find(); err == nil {
			err = use(s.place())
		}
		return nil
	}, s.mapping, b.indexMapping())
	switch {
	case fault == nil:
		return err
	case s.asking:
		s.mislead(fmt.Errorf("%w: %w", fullindex.ErrMalformed, fault))
		return malformed(s.misled)
	}
	return truncated(fault)
}

// parse takes the CID apart.
func (s *search) parse() error {
	if !s.cid.Defined() {
		return errUndefined
	}
	var ok bool
	if s.code, s.digest, _, ok = fullindex.MultihashOf(s.cid); !ok {
		return errNoMultihash
	}
	return nil
}

// place returns where the block of the section is.
func (s *search) place() place {
	p := place{
		size:   s.section.DataSize,
		offset: s.blocks.payload.Offset + s.section.DataOffset,
		have:   s.have,
		mapped: s.mapping != nil,
	}
	if p.mapped {
		end := p.offset + p.size
		p.have = s.mapping[p.offset:end:end]
	}
	return p
}

// find looks at the sections that the index gives until one has the multihash.
func (s *search) find() error {
	var err error
	if s.first == 0 || s.visit(s.first) {
		if s.blocks.full != nil {
			err = s.ask(s.blocks.full)
		} else {
			err = s.askOther()
		}
	}
	switch {
	case s.found:
		return nil
	case s.err != nil:
		return s.err
	case err != nil:
		return err
	case s.misled != nil:
		return malformed(s.misled)
	}
	return errAbsent
}

// ask goes through the offsets of our own index.
func (s *search) ask(full *fullindex.Index) error {
	s.asking = true
	matches := full.Find(s.code, s.digest)
	for {
		offset, ok := matches.Next()
		if !ok {
			break
		}
		s.asking = false
		if !s.visit(offset) {
			return nil
		}
		s.asking = true
	}
	s.asking = false
	err := matches.Err()
	if errors.Is(err, fullindex.ErrMalformed) {
		s.mislead(err)
		return nil
	}
	return err
}

// askOther goes through the offsets of an index that others made. What it calls
// back it may keep, and call after all is closed: so it gets a copy of the
// search, which neither uses the mapping nor lends a buffer. And so the searches
// in our own index need not be allocated.
func (s *search) askOther() error {
	own := *s
	own.mapping = nil
	own.buffer = make([]byte, carfile.MaxHead)
	own.reach = headReach
	err := guard.Call(func() error { return own.blocks.idx.GetAll(own.cid, own.visit) })
	s.section, s.have, s.found, s.misled, s.err = own.section, nil, own.found, own.misled, own.err
	if errors.Is(err, carindex.ErrNotFound) {
		return nil
	}
	return err
}

// visit looks at the section at offset and tells whether to go on.
func (s *search) visit(offset uint64) bool {
	if s.found || s.err != nil {
		return false
	}
	if s.looks++; s.looks > 1 {
		if s.err = s.blocks.usable(s.ctx); s.err != nil {
			return false
		}
	}
	err := s.read(offset)
	sameDigest := err == nil && string(s.section.Digest) == s.digest
	switch {
	case isDamage(err):
		s.doubt(err)
	case err != nil:
		s.err = truncated(err)
	case sameDigest && s.section.Code == s.code:
		s.found = true
	case s.blocks.promises(sameDigest):
		s.doubt(fmt.Errorf("%w at offset %d", errAnotherBlock, offset))
	}
	return !s.found && s.err == nil
}

// promises tells whether the index must not point at a section of another
// multihash, which has the same digest or not. Format 0x0400 knows digests only,
// not by which function; of other formats nothing is known.
func (b *Blocks) promises(sameDigest bool) bool {
	return b.codec == multicodec.CarMultihashIndexSorted ||
		b.codec == multicodec.CarIndexSorted && !sameDigest
}

// doubt notes that the index does not fit the data, unless the data is to
// blame: what was cut off a mapped file may read as zeros.
func (s *search) doubt(proof error) {
	if s.mapping != nil {
		if err := s.blocks.data.Reaches(s.blocks.data.Size()); err != nil {
			s.err = truncated(err)
			return
		}
	}
	s.mislead(proof)
}

func (s *search) mislead(proof error) {
	if s.misled == nil {
		s.misled = proof
	}
}

// indexMapping returns nil for an index that is not mapped.
func (b *Blocks) indexMapping() []byte {
	if b.full == nil {
		return nil
	}
	return b.full.Mapping()
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

// truncated makes the two sentinels of a CAR that was cut part of the error of
// a read that met the cut. Other errors stay as they are.
func truncated(err error) error {
	if !errors.Is(err, io.ErrUnexpectedEOF) {
		return err
	}
	return malformed(fmt.Errorf("%w: %w", carfile.ErrTruncated, err))
}
