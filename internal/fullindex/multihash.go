package fullindex

import (
	"encoding/binary"

	"github.com/ipfs/go-cid"
	"github.com/multiformats/go-multihash"
	"github.com/multiformats/go-varint"
)

// MultihashOf returns the parts of the multihash of a CID, in the CID's own
// memory. It is false for the undefined CID, and for one without a sound
// multihash.
func MultihashOf(c cid.Cid) (code uint64, digest, hash string, ok bool) {
	s := c.KeyString()
	if len(s) == 34 && s[0] == multihash.SHA2_256 && s[1] == 32 { // version 0 is a bare multihash
		return multihash.SHA2_256, s[2:], s, true
	}
	_, version := uvarint(s)
	_, codec := uvarint(s[version:])
	if version == 0 || codec == 0 {
		return 0, "", "", false
	}
	hash = s[version+codec:]
	if code, digest, ok = split(hash); !ok {
		return 0, "", "", false
	}
	return code, digest, hash, true
}

// split returns the parts of a multihash. It is false for what is not a sound one.
func split[B ~string | ~[]byte](hash B) (code uint64, digest B, ok bool) {
	code, n := uvarint(hash)
	length, m := uvarint(hash[n:])
	if n == 0 || m == 0 || length != uint64(len(hash)-n-m) {
		return 0, digest, false
	}
	return code, hash[n+m:], true
}

// uvarint reads a varint as go-varint does: of at most 63 bits, and no longer than
// it must be. A length of 0 means that there is none.
func uvarint[B ~string | ~[]byte](s B) (value uint64, length int) {
	for i := 0; i < len(s) && i < varint.MaxLenUvarint63; i++ {
		b := s[i]
		value |= uint64(b&0x7f) << (7 * i)
		if b < 0x80 {
			if b == 0 && i > 0 {
				return 0, 0
			}
			return value, i + 1
		}
	}
	return 0, 0
}

// AppendMultihash appends a multihash to b.
func AppendMultihash(b []byte, code uint64, digest []byte) []byte {
	b = binary.AppendUvarint(b, code)
	b = binary.AppendUvarint(b, uint64(len(digest)))
	return append(b, digest...)
}

// multihashSize returns how many bytes AppendMultihash appends.
func multihashSize(code uint64, length int) int {
	return varint.UvarintSize(code) + varint.UvarintSize(uint64(length)) + length
}
