package carfile

import (
	"errors"
	"io"

	"github.com/multiformats/go-multihash"
	"github.com/multiformats/go-varint"

	"github.com/filecoin-project/dagstore/internal/guard"
)

// A Section is one block of a CAR. All positions are relative to the payload,
// as in indices. The slices are those of the buffer that was read: they are valid
// as long as its owner says.
type Section struct {
	Offset     int64  // of the length varint
	DataOffset int64  // of the block
	DataSize   int64  // of the block, in bytes
	Cid        []byte // in its binary form
	Code       uint64 // of the hash function
	Digest     []byte // the end of Cid

	multihash int // where it begins in Cid
}

// Multihash returns the multihash of the CID: the end of Cid, not a copy.
func (s *Section) Multihash() multihash.Multihash { return s.Cid[s.multihash:] }

// end is where the next section begins.
func (s *Section) end() int64 { return s.DataOffset + s.DataSize }

// size is the length of the section, in bytes.
func (s *Section) size() int64 { return s.end() - s.Offset }

// A Head is a buffer for [SectionAt].
type Head [MaxHead]byte

// SectionAt reads the head of the section at offset in the payload, and checks
// it as [Scan] does. It reads once, into head, which the slices of the section
// point into, and does not read the block. An offset at which no section can
// begin is ErrMalformed: the index it comes from lies. Nothing is allocated
// unless it fails.
func SectionAt(r io.ReaderAt, p Payload, offset uint64, head *Head) (s Section, err error) {
	defer guard.Recover(&err)
	if err := p.holds(offset); err != nil {
		return Section{}, err
	}
	at := int64(offset)
	read := head[:min(MaxHead, p.Size-at)]
	if err := readSection(r, read, p, at, at); err != nil {
		return Section{}, err
	}
	return ParseHead(read, p, at)
}

// ParseHead returns the section at offset in the payload, whose first bytes are
// head: MaxHead of them, or all that are left of the payload, or more. Fewer may
// do; if they do not, the section is ErrTruncated. The slices of the section
// point into head. An offset at which no section can begin is ErrMalformed.
// Nothing is allocated unless it fails.
func ParseHead(head []byte, p Payload, offset int64) (s Section, err error) {
	if err := p.holds(uint64(offset)); err != nil {
		return Section{}, err
	}
	head = head[:min(int64(len(head)), p.Size-offset)]
	var fresh prefix
	err = s.parse(head, p.Size, offset, &fresh)
	if errors.Is(err, errIncomplete) {
		err = sectionError(ErrTruncated, offset, "it ends in its length or its CID")
	}
	if err != nil {
		return Section{}, err
	}
	return s, nil
}

// holds checks that a section may begin at offset.
func (p Payload) holds(offset uint64) error {
	if p.Size < 0 || offset >= uint64(p.Size) || offset < uint64(p.Header) {
		return sectionError(ErrMalformed, int64(offset), "outside of sections, which lie in [%d, %d)", p.Header, p.Size)
	}
	return nil
}

// errIncomplete means that more bytes of the payload are needed.
var errIncomplete = errors.New("incomplete head of a section")

// parse sets s to the section at offset in a payload of size bytes. Its first
// bytes are head, which ends in the payload; if they are too few, parse returns
// errIncomplete. Known is the prefix of the CID before and becomes that of this one.
func (s *Section) parse(head []byte, size, offset int64, known *prefix) error {
	n, width, err := varint.FromUvarint(head)
	left := size - offset - int64(width)
	if err != nil || n == 0 || n > uint64(left) {
		return badLength(err, offset, n, left)
	}
	body := head[width:]
	body = body[:min(uint64(len(body)), n)]
	if !known.begins(body) {
		if err := known.parse(body); err != nil {
			return badCid(err, offset, body, n)
		}
	}
	if known.cid > len(body) {
		return badCid(varint.ErrUnderflow, offset, body, n)
	}
	s.Offset = offset
	s.DataOffset = offset + int64(width+known.cid)
	s.DataSize = int64(n) - int64(known.cid)
	s.Cid = body[:known.cid:known.cid]
	s.Code = known.code
	s.Digest = s.Cid[known.width:]
	s.multihash = known.multihash
	return nil
}

// badLength returns the error of a section of n bytes, or of its varint.
func badLength(err error, offset int64, n uint64, left int64) error {
	switch {
	case errors.Is(err, varint.ErrUnderflow):
		return errIncomplete
	case err != nil:
		return sectionError(ErrMalformed, offset, "length: %v", err)
	case n == 0:
		return sectionError(ErrMalformed, offset, "of length zero")
	}
	return sectionError(ErrTruncated, offset, "%d bytes long, only %d are left", n, left)
}

// badCid returns the error of a section of n bytes that does not begin with a
// CID. Body has all of these bytes that are there.
func badCid(err error, offset int64, body []byte, n uint64) error {
	underflow := errors.Is(err, varint.ErrUnderflow)
	switch {
	case underflow && uint64(len(body)) < n:
		return errIncomplete
	case underflow:
		return sectionError(ErrMalformed, offset, "no CID in its %d bytes: it is shorter than its CID", n)
	}
	return sectionError(ErrMalformed, offset, "no CID: %v", err)
}
