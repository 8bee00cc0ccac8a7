package layer

import (
	"encoding/binary"
	"math/bits"
)

// near is how many entries around a guess are searched first.
const near = 16

// A list is sorted entries that each begin with a Hi: those of a table, or the
// records of a page.
type list struct {
	bytes []byte
	width int // bytes of an entry
	count int
}

func (l list) hi(i int) uint64 { return binary.LittleEndian.Uint64(l.bytes[i*l.width:]) }

// firstFrom returns the first entry whose Hi is not below hi, and count if there is
// none. It searches around the guess, 0 to count, in a time that grows with the
// logarithm of how far off that is.
func (l list) firstFrom(hi uint64, guess int) int {
	if guess < l.count && l.hi(guess) < hi {
		return l.upFrom(guess+1, hi)
	}
	return l.downFrom(guess, hi)
}

// upFrom is firstFrom where all before the i-th are below hi.
func (l list) upFrom(i int, hi uint64) int {
	for range near {
		if i == l.count || l.hi(i) >= hi {
			return i
		}
		i++
	}
	for leap := near; i+leap < l.count; leap *= 4 {
		if l.hi(i+leap) >= hi {
			return l.within(i, i+leap, hi)
		}
		i += leap + 1
	}
	return l.within(i, l.count, hi)
}

// downFrom is firstFrom where none from the i-th on is below hi.
func (l list) downFrom(i int, hi uint64) int {
	for range near {
		if i == 0 || l.hi(i-1) < hi {
			return i
		}
		i--
	}
	for leap := near; i >= leap; leap *= 4 {
		if l.hi(i-leap) < hi {
			return l.within(i-leap+1, i, hi)
		}
		i -= leap
	}
	return l.within(0, i, hi)
}

// within is firstFrom where it is known to be from lo to end, end included.
func (l list) within(lo, end int, hi uint64) int {
	for lo < end {
		mid := int(uint(lo+end) / 2)
		if l.hi(mid) < hi {
			lo = mid + 1
		} else {
			end = mid
		}
	}
	return lo
}

// guess returns where hi is among count entries that are uniform from first to
// last.
func guess(hi, first, last uint64, count int) int {
	if hi <= first {
		return 0
	}
	if hi >= last {
		return count
	}
	part, whole := hi-first, last-first
	if shift := bits.Len64(whole) - 32; shift > 0 {
		part, whole = part>>shift, whole>>shift
	}
	return int(part * uint64(count) / whole)
}
