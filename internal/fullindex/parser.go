package fullindex

import (
	"errors"
	"fmt"
	"io"
	"math"

	"github.com/multiformats/go-multicodec"
)

// maxWidth is the width of a record with the longest digest that go-multihash
// and go-cid accept.
const maxWidth = 32<<20 + OffsetSize

// The least sizes of a bucket and of a code's buckets, in bytes: with one record.
const (
	minBucket = 4 + 8 + OffsetSize
	minCode   = 8 + 4 + minBucket
)

// maxCode is the greatest number that multihashes and CIDs can have, as varints.
const maxCode = math.MaxInt64

// maxBuckets is how many buckets an index may have. More are made by hostile data
// only, and would have whoever opens the index hold megabytes for them.
const maxBuckets = 1 << 16

// codecSize is how many bytes the varint of both codecs has.
const codecSize = 2

// A bucket is where the records of one code and one width are.
type bucket struct {
	code  uint64
	width int    // of a record, in bytes
	at    int64  // of the first record, in the file
	count int64  // records
	first int64  // how many records are in the buckets before
	drift *drift // nil in a small bucket
}

// parse reads the headers of the index at the beginning of a file of size bytes.
func parse(r io.ReaderAt, size int64) (*Index, error) {
	p := &parser{r: r, size: size, x: &Index{}}
	switch p.x.codec = p.codec(); p.x.codec {
	case multicodec.CarIndexSorted:
		p.widths(0)
	case multicodec.CarMultihashIndexSorted:
		p.codes()
	default:
		p.fail("codec 0x%x is not one of an index that can be looked up in", uint64(p.x.codec))
	}
	if p.err != nil {
		return nil, p.err
	}
	p.x.size = p.at
	return p.x, nil
}

// A parser goes through the headers of an index. After its first error it reads
// nothing any more.
type parser struct {
	r    io.ReaderAt
	size int64
	at   int64
	err  error
	x    *Index

	buf  [64]byte // room for all headers of most indices
	have []byte   // bytes from at on
}

func (p *parser) fail(format string, args ...any) {
	if p.err == nil {
		p.err = fmt.Errorf("%w: offset %d: %s", ErrMalformed, p.at, fmt.Sprintf(format, args...))
	}
}

// uint reads the next n bytes, at most 8, as a number. It is 0 after an error.
func (p *parser) uint(n int) (value uint64) {
	if p.err == nil && int64(n) > p.size-p.at {
		p.fail("%d bytes wanted, %d left", n, p.size-p.at)
	}
	if p.err == nil && len(p.have) < n {
		p.fill(n)
	}
	if p.err != nil {
		return 0
	}
	for i, b := range p.have[:n] {
		value |= uint64(b) << (8 * i)
	}
	p.skip(int64(n))
	return value
}

// skip passes over the next n bytes.
func (p *parser) skip(n int64) {
	p.at += n
	p.have = p.have[min(n, int64(len(p.have))):]
}

// fill reads the next n bytes, which the file should have, and some more.
func (p *parser) fill(n int) {
	got, err := p.r.ReadAt(p.buf[:min(int64(len(p.buf)), p.size-p.at)], p.at)
	switch {
	case got >= n:
		p.have = p.buf[:got]
	case err == nil || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF):
		p.err = fmt.Errorf("%w: offset %d: %w", ErrMalformed, p.at, io.ErrUnexpectedEOF)
	default:
		p.err = err
	}
}

// codec reads the codec in front. Both that are known are varints of two bytes.
func (p *parser) codec() multicodec.Code {
	v := p.uint(codecSize)
	if v&0x8080 != 0x0080 {
		p.fail("no codec of an index")
	}
	return multicodec.Code(v>>8<<7 | v&0x7f)
}

// parts reads a number of parts of at least size bytes each. Since no
// allocation is made by it, it needs only be plausible.
func (p *parser) parts(size int64) int64 {
	n := int64(p.uint(4))
	if n*size > p.size-p.at {
		p.fail("%d parts in %d bytes", n, p.size-p.at)
		return 0
	}
	return n
}

// codes reads the codes with their buckets.
func (p *parser) codes() {
	for n, last := p.parts(minCode), uint64(0); n > 0 && p.err == nil; n-- {
		code := p.uint(8)
		if len(p.x.buckets) > 0 && code <= last {
			p.fail("code 0x%x follows code 0x%x", code, last)
		}
		if code > maxCode {
			p.fail("code 0x%x cannot be in a multihash", code)
		}
		last = code
		if p.widths(code) == 0 {
			p.fail("code 0x%x without records", code)
		}
	}
}

// widths reads the buckets of a code and returns how many there are.
func (p *parser) widths(code uint64) int64 {
	buckets := p.parts(minBucket)
	for n, last := buckets, 0; n > 0 && p.err == nil; n-- {
		width := p.uint(4)
		if width < OffsetSize || width > maxWidth {
			p.fail("record of %d bytes", width)
			break
		}
		if int(width) <= last {
			p.fail("width %d follows width %d", width, last)
		}
		last = int(width)
		p.bucket(code, last)
	}
	return buckets
}

// bucket passes over the records of one width. An empty bucket is refused, which
// nobody writes.
func (p *parser) bucket(code uint64, width int) {
	length := p.uint(8)
	if length == 0 || length%uint64(width) != 0 || length > uint64(p.size-p.at) {
		p.fail("%d bytes of records of %d bytes, where %d are left", length, width, p.size-p.at)
	}
	if len(p.x.buckets) == maxBuckets {
		p.fail("more than %d buckets", maxBuckets)
	}
	if p.err != nil {
		return
	}
	b := bucket{code: code, width: width, at: p.at, count: int64(length) / int64(width), first: p.x.records}
	if b.count >= driftLeast {
		b.drift = &drift{}
	}
	p.x.buckets = append(p.x.buckets, b)
	p.x.records += b.count
	p.skip(int64(length))
}
