package fullindex

import (
	"bytes"
	"encoding/binary"
	"fmt"
)

// A parser goes through the bytes of an index. After its first error it reads
// nothing any more.
type parser struct {
	b   []byte
	at  int
	err error
}

func (p *parser) fail(format string, args ...any) {
	if p.err == nil {
		p.err = fmt.Errorf("%w: offset %d: %s", ErrMalformed, p.at, fmt.Sprintf(format, args...))
	}
}

// take returns the next n bytes, or nil if there are fewer.
func (p *parser) take(n uint64) []byte {
	if p.err != nil {
		return nil
	}
	if n > uint64(len(p.b)-p.at) {
		p.fail("%d bytes wanted, %d left", n, len(p.b)-p.at)
		return nil
	}
	b := p.b[p.at : p.at+int(n)]
	p.at += int(n)
	return b
}

func (p *parser) uint32() uint32 {
	if b := p.take(4); b != nil {
		return binary.LittleEndian.Uint32(b)
	}
	return 0
}

func (p *parser) uint64() uint64 {
	if b := p.take(8); b != nil {
		return binary.LittleEndian.Uint64(b)
	}
	return 0
}

// count reads a number of parts of at least size bytes each. Since no
// allocation is made by it, it needs only be plausible.
func (p *parser) count(size int) int {
	n := p.uint32()
	if uint64(n)*uint64(size) > uint64(len(p.b)-p.at) {
		p.fail("%d parts in %d bytes", n, len(p.b)-p.at)
		return 0
	}
	return int(n)
}

// The least sizes of a bucket and of a code's buckets, in bytes: with one record.
const (
	minBucket = 4 + 8 + offsetSize
	minCode   = 8 + 4 + minBucket
)

// codes reads the codes with their buckets.
func (p *parser) codes() []codeSet {
	var sets []codeSet
	for n := p.count(minCode); n > 0 && p.err == nil; n-- {
		code := p.uint64()
		if k := len(sets); k > 0 && code <= sets[k-1].code {
			p.fail("code 0x%x follows code 0x%x", code, sets[k-1].code)
		}
		set := p.widths()
		if len(set) == 0 {
			p.fail("code 0x%x without records", code)
		}
		sets = append(sets, codeSet{code: code, buckets: set})
	}
	return sets
}

// widths reads the buckets of all widths.
func (p *parser) widths() buckets {
	var set buckets
	for n := p.count(minBucket); n > 0 && p.err == nil; n-- {
		width := p.uint32()
		if width < offsetSize || width > maxWidth {
			p.fail("record of %d bytes", width)
			return nil
		}
		if k := len(set); k > 0 && int(width) <= set[k-1].width {
			p.fail("width %d follows width %d", width, set[k-1].width)
		}
		set = append(set, p.bucket(int(width)))
	}
	return set
}

// bucket reads the records of one width. An empty bucket is refused, which
// nobody writes, and so are records out of order: so looks a file whose end has
// never reached the disk.
func (p *parser) bucket(width int) bucket {
	length := p.uint64()
	if length == 0 || length%uint64(width) != 0 {
		p.fail("%d bytes of records of %d bytes", length, width)
	}
	k := bucket{width: width, records: p.take(length)}
	n := k.count()
	for i := 0; i < n && p.err == nil; i++ {
		if i > 0 && bytes.Compare(k.digest(i-1), k.digest(i)) > 0 {
			p.fail("record %d of %d is out of order", i, n)
		}
		if k.endsInZeros(i) {
			p.fail("record %d of %d ends in zeros", i, n)
		}
	}
	return k
}

// endsInZeros tells whether a record lacks its offset and the end of its digest.
// No section is at offset 0, where a CAR has its header. A digest may end in a
// zero, hence both.
func (k bucket) endsInZeros(i int) bool {
	digest := k.digest(i)
	return len(digest) > 0 && digest[len(digest)-1] == 0 && k.offset(i) == 0
}
