package fullindex

import (
	"encoding/binary"
	"fmt"

	"github.com/ipfs/go-cid"
	"github.com/multiformats/go-multicodec"
	"github.com/multiformats/go-multihash"
)

// MultihashOf returns the parts of the multihash of a CID, in the CID's own
// memory. It is false for the undefined CID.
func MultihashOf(c cid.Cid) (code uint64, digest, hash string, ok bool) {
	s := c.KeyString()
	if len(s) == 34 && s[0] == multihash.SHA2_256 && s[1] == 32 { // version 0 is a bare multihash
		return multihash.SHA2_256, s[2:], s, true
	}
	if s, ok = afterVarint(s); !ok { // version
		return 0, "", "", false
	}
	if hash, ok = afterVarint(s); !ok { // codec
		return 0, "", "", false
	}
	code, n := uvarint(hash)
	length, m := uvarint(hash[n:])
	if n == 0 || m == 0 || length != uint64(len(hash)-n-m) {
		return 0, "", "", false
	}
	return code, hash[n+m:], hash, true
}

func afterVarint(s string) (string, bool) {
	_, n := uvarint(s)
	return s[n:], n > 0
}

// uvarint reads a varint of at most 63 bits. A length of 0 means that there is
// none.
func uvarint(s string) (value uint64, length int) {
	for i := 0; i < len(s) && i < 9; i++ {
		value |= uint64(s[i]&0x7f) << (7 * i)
		if s[i] < 0x80 {
			return value, i + 1
		}
	}
	return 0, 0
}

// Matches are the records of one multihash, in the order of their offsets.
type Matches struct {
	digest  string
	width   int
	records []byte   // from the first match on, of records that are resident
	offsets []uint64 // of records that were read
	err     error
}

// Find returns the records of a multihash. The caller keeps the index open and
// guards against faults, here and in Next; nothing is allocated if the index is
// in memory or mapped.
func (x *Index) Find(code uint64, digest string) Matches {
	b := x.bucket(code, len(digest)+OffsetSize)
	if b == nil {
		return Matches{}
	}
	resident := x.resident()
	if resident == nil {
		offsets, err := x.findInFile(b, digest)
		return Matches{offsets: offsets, err: err}
	}
	l := list{records: resident[b.at : b.at+b.count*int64(b.width)], width: b.width}
	i := l.search(digest)
	m := Matches{digest: digest, width: b.width, records: l.records[i*b.width:]}
	if !m.matches() && i > 0 && l.offset(i-1) == 0 {
		m.err = errNoOffset
	}
	return m
}

// No record has the offset 0, where a CAR has its header. But if the file was cut,
// the rest of the last page of its mapping reads as zeros: records without digest
// and offset, so that look-ups go wrong there. Any look-up that passes over such a
// record, and then finds nothing, has it just in front of where it ends.
var errNoOffset = fmt.Errorf("%w: a record without an offset", ErrMalformed)

// Next returns the next offset. After the last it returns false, and so it does
// after an error, which Err returns.
func (m *Matches) Next() (offset uint64, ok bool) {
	switch {
	case m.err != nil:
		return 0, false
	case len(m.offsets) > 0:
		offset, m.offsets = m.offsets[0], m.offsets[1:]
	case m.matches():
		offset = binary.LittleEndian.Uint64(m.records[len(m.digest):])
		m.records = m.records[m.width:]
	default:
		return 0, false
	}
	if offset == 0 {
		m.err = errNoOffset
		return 0, false
	}
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
