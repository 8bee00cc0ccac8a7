package fullindex

import (
	"encoding/binary"
	"math"
	"math/bits"
)

const (
	keySize = 8  // bytes of a digest that are compared first, as one number
	near    = 32 // records that are looked at one by one next to a guess
	few     = 32 // records that are not worth a guess
)

// A list is records of one width in memory, sorted by digest.
type list struct {
	records []byte
	width   int
	count   int
}

func newList(records []byte, width int) list {
	return list{records: records, width: width, count: len(records) / width}
}

func (l *list) digest(i int) []byte { return l.records[i*l.width : (i+1)*l.width-OffsetSize] }

func (l *list) offset(i int) uint64 {
	return binary.LittleEndian.Uint64(l.records[(i+1)*l.width-OffsetSize:])
}

// search returns the first of the records from lo on whose digest is not less than
// digest, and hi if there is none before that.
func (l *list) search(lo, hi int, digest string) int {
	for lo < hi {
		mid := int(uint(lo+hi) / 2)
		if string(l.digest(mid)) < digest {
			lo = mid + 1
		} else {
			hi = mid
		}
	}
	return lo
}

// The key of a digest is its first bytes, as a number that orders as they do. A
// shorter digest has none.

func keyOf(digest string) (key uint64, ok bool) {
	if len(digest) < keySize {
		return 0, false
	}
	return uint64(digest[7]) | uint64(digest[6])<<8 | uint64(digest[5])<<16 | uint64(digest[4])<<24 |
		uint64(digest[3])<<32 | uint64(digest[2])<<40 | uint64(digest[1])<<48 | uint64(digest[0])<<56, true
}

func (l *list) key(i int) uint64 {
	at := i * l.width
	return binary.BigEndian.Uint64(l.records[at : at+keySize : at+keySize])
}

// distance returns how many of count records, if their digests are uniform, have a
// key between two.
func distance(a, b uint64, count int64) int64 {
	d, _ := bits.Mul64(max(a, b)-min(a, b), uint64(count))
	return int64(d)
}

// searchFrom is search among all records, for a digest with a key. It goes from a
// guess to where the keys there say that the place is, and then looks around. That
// touches two or three places of memory, where a binary search touches ten, and
// takes a logarithmic time also on digests that somebody chose.
//
// It is made of short steps whose addresses do not depend on what the steps before
// have read: so the processor reads ahead.
func (l *list) searchFrom(at int, key uint64, digest string) int {
	for range 3 {
		k := l.key(at)
		d := int(distance(k, key, int64(l.count)))
		if d < near/2 {
			break
		}
		if k < key {
			at = min(at+d, l.count-1)
		} else {
			at = max(at-d, 0)
		}
	}
	if l.key(at) < key {
		at = l.up(at+1, key)
	} else {
		at = l.down(at, key)
	}
	if at == l.count || l.key(at) > key || string(l.digest(at)) >= digest {
		return at
	}
	end := l.count // of the records that have the key, too
	if key < math.MaxUint64 {
		end = l.up(at+1, key+1)
	}
	return l.search(at+1, end, digest)
}

// up returns the first record whose key is not less than key. All before the i-th
// are less.
func (l *list) up(i int, key uint64) int {
	for range near {
		if i == l.count || l.key(i) >= key {
			return i
		}
		i++
	}
	for leap := near; leap < l.count-i; leap *= 4 {
		if l.key(i+leap) >= key {
			return l.between(i, i+leap, key)
		}
		i += leap + 1
	}
	return l.between(i, l.count, key)
}

// down is up where none from the i-th on is less.
func (l *list) down(i int, key uint64) int {
	for range near {
		if i == 0 || l.key(i-1) < key {
			return i
		}
		i--
	}
	for leap := near; leap <= i; leap *= 4 {
		if l.key(i-leap) < key {
			return l.between(i-leap+1, i, key)
		}
		i -= leap
	}
	return l.between(0, i, key)
}

// between is up where none from hi on is less.
func (l *list) between(lo, hi int, key uint64) int {
	for lo < hi {
		mid := int(uint(lo+hi) / 2)
		if l.key(mid) < key {
			lo = mid + 1
		} else {
			hi = mid
		}
	}
	return lo
}
