package fullindex

import (
	"encoding/binary"
	"math/bits"
)

// A list is records of one width in memory, sorted by digest.
type list struct {
	records []byte
	width   int
}

func (l list) count() int { return len(l.records) / l.width }

func (l list) digest(i int) []byte { return l.records[i*l.width : (i+1)*l.width-OffsetSize] }

func (l list) offset(i int) uint64 {
	return binary.LittleEndian.Uint64(l.records[(i+1)*l.width-OffsetSize:])
}

// key returns the first eight bytes of the i-th digest, as a number that orders
// as they do.
func (l list) key(i int) uint64 {
	if l.width >= 8+OffsetSize {
		return binary.BigEndian.Uint64(l.records[i*l.width:])
	}
	return keyOf(string(l.digest(i)))
}

// keyOf returns the first eight bytes of a digest as list.key does. A shorter one
// is filled up with zeros.
func keyOf(digest string) uint64 {
	if len(digest) >= 8 {
		return uint64(digest[7]) | uint64(digest[6])<<8 | uint64(digest[5])<<16 | uint64(digest[4])<<24 |
			uint64(digest[3])<<32 | uint64(digest[2])<<40 | uint64(digest[1])<<48 | uint64(digest[0])<<56
	}
	var key uint64
	for i := range len(digest) {
		key |= uint64(digest[i]) << (56 - 8*i)
	}
	return key
}

// less tells whether the i-th digest is less than digest, which has that key.
func (l list) less(i int, key uint64, digest string) bool {
	if k := l.key(i); k != key {
		return k < key
	}
	return string(l.digest(i)) < digest
}

// search returns the first record whose digest is not less than digest.
//
// Digests are near uniform, so the place of one can be guessed, and the guess
// corrected by the distance in values. That touches three places where a binary
// search touches ten. From the guess the search gallops, in steps that grow
// fourfold, so that it takes a logarithmic time also on digests that somebody
// chose.
func (l list) search(digest string) int {
	key := keyOf(digest)
	lo, hi := 0, l.count() // all records before lo are less, none from hi on is
	if hi > 32 {
		lo, hi = l.gallop(l.guess(key), key, digest)
	}
	for lo < hi {
		mid := int(uint(lo+hi) / 2)
		if l.less(mid, key, digest) {
			lo = mid + 1
		} else {
			hi = mid
		}
	}
	return lo
}

// guess returns a place near that of the key, if keys are uniform.
func (l list) guess(key uint64) int {
	n := l.count()
	at, _ := bits.Mul64(key, uint64(n))
	guess := int(at)
	for range 3 {
		k := l.key(guess)
		if k < key {
			d, _ := bits.Mul64(key-k, uint64(n))
			if d == 0 {
				break
			}
			guess = min(guess+int(d), n-1)
		} else {
			d, _ := bits.Mul64(k-key, uint64(n))
			if d == 0 {
				break
			}
			guess = max(guess-int(d), 0)
		}
	}
	return guess
}

// gallop returns bounds of the place of a digest, going out from a guess.
func (l list) gallop(guess int, key uint64, digest string) (lo, hi int) {
	n := l.count()
	if l.less(guess, key, digest) {
		lo = guess + 1
		for step := 4; guess+step < n; step *= 4 {
			if !l.less(guess+step, key, digest) {
				return lo, guess + step
			}
			lo = guess + step + 1
		}
		return lo, n
	}
	hi = guess
	for step := 4; guess-step >= 0; step *= 4 {
		if l.less(guess-step, key, digest) {
			return guess - step + 1, hi
		}
		hi = guess - step
	}
	return 0, hi
}
