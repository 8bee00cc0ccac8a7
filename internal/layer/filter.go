package layer

import (
	"math/bits"

	"github.com/FastFilter/xorfilter"
)

const (
	// unfiltered is how many Hi need no filter: looking for one of them costs
	// little more than asking a filter.
	unfiltered = 2 * pageRecords

	maxSegment = 1 << 18
)

// A shape is what a filter is besides its bytes. The zero value is that of a
// partition without a filter.
type shape struct {
	seed     uint64
	segment  uint32
	segments uint32
}

func shapeOf(f *xorfilter.BinaryFuse[uint8]) shape {
	return shape{seed: f.Seed, segment: f.SegmentLength, segments: f.SegmentCount}
}

func (s shape) exists() bool { return s != shape{} }

// isValid tells whether a filter of this shape reads only its own bytes.
func (s shape) isValid() bool {
	return !s.exists() || s.segments > 0 && s.segment <= maxSegment && bits.OnesCount32(s.segment) == 1 &&
		s.size() <= 1<<32
}

// size is the number of bytes.
func (s shape) size() int64 {
	if !s.exists() {
		return 0
	}
	return (int64(s.segments) + 2) * int64(s.segment)
}

// over returns the filter of a valid shape that has these bytes.
func (s shape) over(b []byte) filter {
	return filter{
		bytes:   b,
		seed:    s.seed,
		length:  uint64(s.segments) * uint64(s.segment),
		segment: uint64(s.segment),
		mask:    uint64(s.segment) - 1,
	}
}

// A filter tells of most numbers that are not in it that they are not. It is what
// xorfilter.BinaryFuse[uint8] is, whose Contains takes longer.
type filter struct {
	bytes   []byte // none if there is no filter
	seed    uint64
	length  uint64 // of all segments but two
	segment uint64 // length of a segment
	mask    uint64
}

// mayHave returns false for nearly all numbers that are not in the filter, and true
// for all others.
func (f *filter) mayHave(key uint64) bool { return f.agrees(f.spot(key)) }

// A spot is what to look at in a filter for one number.
type spot struct {
	first, second, third uint64 // places of bytes
	sum                  byte   // of these bytes by xor, if the filter has the number
}

// spot returns the spot of a number. It does not touch the bytes.
func (f *filter) spot(key uint64) spot {
	h := mix(key + f.seed)
	at, _ := bits.Mul64(h, f.length)
	return spot{
		first:  at,
		second: (at + f.segment) ^ (h >> 18 & f.mask),
		third:  (at + 2*f.segment) ^ (h & f.mask),
		sum:    byte(h ^ h>>32),
	}
}

// agrees does what mayHave does for the number of a spot.
func (f *filter) agrees(s spot) bool {
	b := f.bytes
	return len(b) == 0 || s.sum == b[s.first]^b[s.second]^b[s.third]
}

// mix is the finalizer of MurmurHash3.
func mix(h uint64) uint64 {
	h ^= h >> 33
	h *= 0xff51afd7ed558ccd
	h ^= h >> 33
	h *= 0xc4ceb9fe1a85ec53
	return h ^ h>>33
}
