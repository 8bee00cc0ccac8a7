package carfile

import (
	"context"
	"errors"
	"io"
	"sync"

	"github.com/ipfs/go-cid"
	"github.com/multiformats/go-varint"

	"github.com/filecoin-project/dagstore/internal/guard"
)

const (
	maxHead = maxVarint + MaxCid // what lies before a block

	// windowSize is read at once while sections are smaller: one read serves
	// many. After a bigger section only probeSize is read, and blocks are skipped.
	windowSize = 256 << 10
	probeSize  = 4 << 10
)

// A Section is one block of a CAR. All positions are relative to the payload,
// as in indices.
type Section struct {
	Offset     int64 // of the length varint
	Cid        cid.Cid
	DataOffset int64 // of the block
	DataSize   int64 // of the block, in bytes
}

// end is where the next section begins.
func (s Section) end() int64 { return s.DataOffset + s.DataSize }

// Sections calls visit for each section of a file of size bytes, in the order
// of the file. A section of length zero ends the payload: pieces are padded so.
// Blocks are not read or verified more than the windows happen to.
//
// It returns the first error of visit as it is, the error of ctx, which it
// looks at before each read, an [*Error], or the reader's own. Sections before
// a damage were visited by then.
func Sections(ctx context.Context, r io.ReaderAt, size int64, visit func(Section) error) (err error) {
	defer guard.Recover(&err)
	if err := ctx.Err(); err != nil {
		return err
	}
	p, err := Locate(r, size)
	if err != nil {
		return err
	}
	w := window{r: r, payload: p}
	for offset := p.Header; offset < p.Size; {
		head, err := w.head(ctx, offset)
		if err != nil {
			return err
		}
		if head[0] == 0 {
			return nil
		}
		s, err := parse(head, p, offset)
		if err != nil {
			return err
		}
		if err := visit(s); err != nil {
			return err
		}
		w.skipping = s.end()-offset > windowSize
		offset = s.end()
	}
	return nil
}

// window is the part of the payload that was read last.
type window struct {
	r        io.ReaderAt
	payload  Payload
	buf      []byte
	start    int64  // of filled, relative to the payload
	filled   []byte // in buf
	skipping bool   // the last section was bigger than a window
}

// head returns the bytes from offset on: maxHead of them or more, if the
// payload has so many. They are valid until the next call.
func (w *window) head(ctx context.Context, offset int64) ([]byte, error) {
	left := w.payload.Size - offset
	if have := w.start + int64(len(w.filled)) - offset; have > 0 && have >= min(maxHead, left) {
		return w.filled[offset-w.start:], nil
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	want := int64(windowSize)
	if w.skipping {
		want = probeSize
	}
	want = min(want, left)
	if int64(len(w.buf)) < want {
		w.buf = make([]byte, want)
	}
	w.start, w.filled = offset, w.buf[:want]
	if err := readSection(w.r, w.filled, w.payload, offset); err != nil {
		return nil, err
	}
	return w.filled, nil
}

// heads are buffers for SectionAt, which would else allocate one per call.
var heads = sync.Pool{New: func() any { return new([maxHead]byte) }}

// SectionAt reads the head of the section at offset in the payload, and checks
// it as [Sections] does. It reads once, and does not read the block. An offset
// at which no section can begin is ErrMalformed: the index it comes from lies.
func SectionAt(r io.ReaderAt, p Payload, offset uint64) (s Section, err error) {
	defer guard.Recover(&err)
	if p.Size < 0 || offset >= uint64(p.Size) || offset < uint64(p.Header) {
		return Section{}, sectionError(ErrMalformed, int64(offset), "outside of sections, which lie in [%d, %d)", p.Header, p.Size)
	}
	at := int64(offset)
	buf := heads.Get().(*[maxHead]byte)
	defer heads.Put(buf)
	head := buf[:min(maxHead, p.Size-at)]
	if err := readSection(r, head, p, at); err != nil {
		return Section{}, err
	}
	return parse(head, p, at)
}

// parse checks the section that begins with head. Head has maxHead bytes or
// all that are left of the payload.
func parse(head []byte, p Payload, offset int64) (Section, error) {
	n, width, err := varint.FromUvarint(head)
	left := p.Size - offset - int64(width)
	switch {
	case errors.Is(err, varint.ErrUnderflow):
		return Section{}, sectionError(ErrTruncated, offset, "the payload ends in its length")
	case err != nil:
		return Section{}, sectionError(ErrMalformed, offset, "length: %v", err)
	case n == 0:
		return Section{}, sectionError(ErrMalformed, offset, "of length zero")
	case n > uint64(left):
		return Section{}, sectionError(ErrTruncated, offset, "%d bytes long, only %d are left", n, left)
	}
	start := head[width:]
	start = start[:min(uint64(len(start)), n, MaxCid)]
	cidSize, c, err := cid.CidFromBytes(start)
	if err != nil {
		return Section{}, sectionError(ErrMalformed, offset, "no CID in its first %d bytes: %v", len(start), err)
	}
	return Section{
		Offset:     offset,
		Cid:        c,
		DataOffset: offset + int64(width) + int64(cidSize),
		DataSize:   int64(n) - int64(cidSize),
	}, nil
}

func readSection(r io.ReaderAt, buf []byte, p Payload, offset int64) error {
	err := readFull(r, buf, p.Offset+offset)
	if errors.Is(err, errShort) {
		return sectionError(ErrTruncated, offset, "%v", err)
	}
	return err
}
