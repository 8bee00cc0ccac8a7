package layer

import "encoding/binary"

// A Fingerprint stands for a multihash: a hash of it under a secret key, so that
// fingerprints are uniform, whatever the multihashes are. It is ordered as the
// number of 128 bits that it is.
type Fingerprint struct{ Hi, Lo uint64 }

// Compare returns a number below, of or above zero, as f is below, g or above g.
func (f Fingerprint) Compare(g Fingerprint) int {
	switch {
	case f.Hi < g.Hi:
		return -1
	case f.Hi > g.Hi:
		return 1
	case f.Lo < g.Lo:
		return -1
	case f.Lo > g.Lo:
		return 1
	}
	return 0
}

// A Record says that a shard has a multihash.
type Record struct {
	Fingerprint
	Shard uint32 // the number of the shard
}

// Compare orders records by fingerprint, and those of one fingerprint by shard.
func (r Record) Compare(s Record) int {
	if c := r.Fingerprint.Compare(s.Fingerprint); c != 0 {
		return c
	}
	switch {
	case r.Shard < s.Shard:
		return -1
	case r.Shard > s.Shard:
		return 1
	}
	return 0
}

// encode writes r to the start of b.
func (r Record) encode(b []byte) {
	_ = b[recordSize-1]
	binary.LittleEndian.PutUint64(b, r.Hi)
	binary.LittleEndian.PutUint64(b[8:], r.Lo)
	binary.LittleEndian.PutUint32(b[16:], r.Shard)
}

// decode reads the record at the start of b.
func decode(b []byte) (r Record) {
	_ = b[recordSize-1]
	r.Hi = binary.LittleEndian.Uint64(b)
	r.Lo = binary.LittleEndian.Uint64(b[8:])
	r.Shard = binary.LittleEndian.Uint32(b[16:])
	return r
}
