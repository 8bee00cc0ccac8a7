package carfile

import (
	"encoding/binary"
	"fmt"
	"math"

	"github.com/multiformats/go-multihash"
	"github.com/multiformats/go-varint"
)

// A prefix is what comes before the digest in a CID: version, codec, hash
// function, digest length. Nearly all blocks of a CAR have the same few bytes
// there. So the prefix that was parsed last is kept, and the first eight bytes of
// the next CID are compared with it at once, instead of parsing four varints
// again. This is safe because no prefix is the beginning of another.
//
// The zero value knows no prefix.
type prefix struct {
	first uint64 // the first eight bytes of the CID, little-endian
	mask  uint64 // has the bits of first that belong to the prefix; 0 if it is longer than first

	width     int    // of the prefix, in bytes
	multihash int    // where the multihash begins: behind version and codec
	cid       int    // length of the CID
	code      uint64 // of the hash function
}

// begins tells whether a CID surely begins with this prefix.
func (p *prefix) begins(cid []byte) bool {
	return p.mask != 0 && len(cid) >= 8 && (binary.LittleEndian.Uint64(cid)^p.first)&p.mask == 0
}

// parse sets p to the prefix at the start of cid, or leaves it alone. It returns
// varint.ErrUnderflow if cid ends in the prefix.
func (p *prefix) parse(cid []byte) error {
	q := prefix{width: 2, cid: 2 + 32, code: multihash.SHA2_256}
	if !isV0(cid) {
		if err := q.parseV1(cid); err != nil {
			return err
		}
	}
	if q.width <= 8 && len(cid) >= 8 {
		q.first = binary.LittleEndian.Uint64(cid)
		q.mask = math.MaxUint64 >> (64 - 8*q.width)
	}
	*p = q
	return nil
}

// isV0 tells whether a CID has the version 0: it is a sha2-256 multihash.
func isV0(cid []byte) bool {
	return len(cid) >= 2 && cid[0] == multihash.SHA2_256 && cid[1] == 32
}

// parseV1 fills in the prefix of a CID of version 1, but not what begins needs.
func (p *prefix) parseV1(cid []byte) error {
	var fields [4]uint64 // version, codec, hash function, digest length
	p.width = 0
	for i := range fields {
		if i == 2 {
			p.multihash = p.width
		}
		n, width, err := varint.FromUvarint(cid[p.width:])
		if err != nil {
			return err
		}
		fields[i] = n
		p.width += width
	}
	version, digest := fields[0], fields[3]
	switch {
	case version != 1:
		return fmt.Errorf("version %d where 1 is expected", version)
	case digest > uint64(MaxCid-p.width):
		return fmt.Errorf("it is longer than %d bytes", MaxCid)
	}
	p.code = fields[2]
	p.cid = p.width + int(digest)
	return nil
}
