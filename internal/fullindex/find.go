package fullindex

import (
	"encoding/binary"
	"fmt"

	"github.com/multiformats/go-multicodec"
)

// Matches are the records of one multihash, in the order of the index.
type Matches struct {
	digest  string
	records []byte // from the next match on, as many as are at hand
	rest    *rest  // those after these, which must be read; may be nil
	err     error
}

// Find returns the records of a multihash. The caller keeps the index open and
// guards against faults, here and in Next; nothing is allocated if the index is
// in memory or mapped.
func (x *Index) Find(code uint64, digest string) (m Matches) {
	b := x.bucket(code, len(digest)+OffsetSize)
	if b == nil {
		return m
	}
	resident := x.resident()
	if resident == nil {
		return x.findInFile(b, digest)
	}
	var l list
	l.records = resident[b.at : b.at+b.count*int64(b.width)]
	l.width, l.count = b.width, int(b.count)
	i := b.place(&l, digest)
	m.digest, m.records = digest, l.records[i*l.width:]
	if !m.matches() && i > 0 && l.offset(i-1) == 0 {
		m.err = errNoOffset
	}
	return m
}

// place returns the first record of l, the records of b, whose digest is not less
// than digest.
func (b *bucket) place(l *list, digest string) int {
	key, ok := keyOf(digest)
	if !ok || l.count <= few {
		return l.search(0, l.count, digest)
	}
	g := b.guess(key)
	i := l.searchFrom(int(g.at), key, digest)
	g.learn(int64(i))
	return i
}

// No record has the offset 0, where a CAR has its header. But if a file was cut,
// the rest of the last page of its mapping reads as zeros, and so does what a crash
// kept from the disk: records without digest and offset, so that look-ups go wrong
// there. A look-up that passes over such a record, and then finds nothing, has one
// just in front of where it ends; and matches that go on in one end at it. Only a
// record that is whole at its end, behind zeros, is missed until Verify looks.
var errNoOffset = fmt.Errorf("%w: a record without an offset", ErrMalformed)

// Next returns the next offset. After the last it returns false, and so it does
// after an error, which Err returns.
func (m *Matches) Next() (offset uint64, ok bool) {
	if m.err == nil && len(m.records) == 0 && m.rest != nil {
		m.next()
	}
	if m.err != nil || len(m.records) == 0 {
		return 0, false
	}
	offset = binary.LittleEndian.Uint64(m.records[len(m.digest):])
	if offset == 0 {
		m.err = errNoOffset
		return 0, false
	}
	if !m.matches() {
		m.records, m.rest = nil, nil
		return 0, false
	}
	m.records = m.records[len(m.digest)+OffsetSize:]
	return offset, true
}

func (m *Matches) matches() bool {
	return len(m.records) > 0 && string(m.records[:len(m.digest)]) == m.digest
}

// Err returns what ended the matches early: damage, or an error of reading.
func (m *Matches) Err() error { return m.err }

// bucket returns the bucket of a code and a width, nil if there is none.
func (x *Index) bucket(code uint64, width int) *bucket {
	if x.codec == multicodec.CarIndexSorted {
		code = 0
	}
	lo, hi := 0, len(x.buckets)
	for lo < hi {
		mid := int(uint(lo+hi) / 2)
		b := &x.buckets[mid]
		switch {
		case b.code == code && b.width == width:
			return b
		case b.code < code || b.code == code && b.width < width:
			lo = mid + 1
		default:
			hi = mid
		}
	}
	return nil
}
