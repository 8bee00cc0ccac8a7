package indexbuild

const (
	// firstSlab is the size of the smallest slabs.
	firstSlab = 64 << 10
	// lastSlab is how many times as large the largest ones are.
	lastSlab = 64
	// bufferShare is the part of its memory of which a builder has a buffer,
	// to sort into.
	bufferShare = 32
)

// An arena is the memory in which a builder has records. Pieces are cut from its
// slabs, one behind the other, and are all free again at once.
type arena struct {
	share share
	first int // size of the smallest slabs
	slabs [][]byte
	used  int    // slabs from which pieces were cut
	rest  []byte // of the last of these
	size  int    // of all slabs
}

// cut returns n bytes, or nil if memory is refused, which it is not if it must
// be had.
func (a *arena) cut(n int, must bool) []byte {
	for len(a.rest) < n {
		if a.used == len(a.slabs) && !a.grow(n, must) {
			return nil
		}
		a.rest = a.slabs[a.used]
		a.used++
	}
	piece := a.rest[:n:n]
	a.rest = a.rest[n:]
	return piece
}

// grow adds a slab of n bytes or more: one that doubles the arena, or less if the
// budget has not so much.
func (a *arena) grow(n int, must bool) bool {
	least := max(n, a.first)
	size := max(least, min(a.size, a.first*lastSlab))
	for !a.share.take(slabCost(size), must && size == least) {
		if size == least {
			return false
		}
		size = max(size/2, least)
	}
	a.slabs = append(a.slabs, a.share.budget.newSlab(size))
	a.size += size
	return true
}

// slabCost is what a slab takes, with its part of the buffer.
func slabCost(size int) int64 { return int64(size + size/bufferShare) }

// bufferSize is the size of the buffer that is paid for with the slabs.
func (a *arena) bufferSize() int { return a.size / bufferShare }

// empty makes all pieces free. They must not be used any more.
func (a *arena) empty() { a.used, a.rest = 0, nil }

// reserve takes n bytes for something that is not in slabs. If the budget has no
// more, unused slabs are given back for it. It returns false if memory is refused.
func (a *arena) reserve(n int64, must bool) bool {
	for !a.share.take(n, false) {
		if !a.drop() {
			return must && a.share.take(n, true)
		}
	}
	return true
}

// giveBack gives slabs of an empty arena back, until no more than so many bytes
// are held.
func (a *arena) giveBack(keep int64) {
	for a.share.held > keep && a.drop() {
	}
}

// drop gives an unused slab back, and returns false if there is none.
func (a *arena) drop() bool {
	last := len(a.slabs) - 1
	if last < a.used {
		return false
	}
	size := len(a.slabs[last])
	a.share.budget.freeSlab(a.slabs[last])
	a.slabs[last] = nil
	a.slabs = a.slabs[:last]
	a.size -= size
	a.share.give(slabCost(size))
	return true
}
