package indexbuild

import "slices"

// A shelf is memory for buckets.
type shelf [64]bucket

// memory is where a builder has records. All of it is used again after the
// records were spilled.
type memory struct {
	arena arena

	last    *bucket // to which the last record was added
	byShape map[shape]*bucket
	shelves []*shelf
	used    int       // buckets, of all shelves
	order   []*bucket // what sorted returned
	parts   int64     // buckets with partitions
	widest  int       // record that there ever was
}

// largest is the size of the largest chunks, if no record is wider.
func (m *memory) largest() int { return m.arena.first / 2 }

// room returns the bucket of a shape with room for another record, which becomes
// the last one used. It returns nil if memory is refused, which it is not if it
// must be had.
func (m *memory) room(s shape, must bool) *bucket {
	k := m.byShape[s]
	if k == nil {
		if k = m.newBucket(s, must); k == nil {
			return nil
		}
	}
	if !k.hasRoom(s.width()) && !m.grow(k, must) {
		return nil
	}
	m.last = k
	return k
}

func (m *memory) newBucket(s shape, must bool) *bucket {
	if m.used == len(shelf{})*len(m.shelves) {
		if !m.arena.reserve(int64(len(shelf{}))*bucketCost, must) {
			return nil
		}
		m.shelves = append(m.shelves, new(shelf))
	}
	k := m.bucket(m.used)
	m.used++
	*k = bucket{shape: s}
	m.byShape[s] = k
	m.widest = max(m.widest, s.width())
	return k
}

// bucket returns the i-th bucket, in no order.
func (m *memory) bucket(i int) *bucket { return &m.shelves[i/len(shelf{})][i%len(shelf{})] }

// grow makes room for another record in the open chunk of a bucket. It returns
// false if memory is refused; then the bucket has all records it had.
func (m *memory) grow(k *bucket, must bool) bool {
	w := k.width()
	size := max(w, firstBytes/w*w, 2*cap(k.open))
	if len(k.open) > 0 && size > m.largest() {
		return m.pour(k, must)
	}
	place := m.arena.cut(size, must)
	if place == nil {
		return false
	}
	k.open = append(place[:0], k.open...)
	return true
}

// pour moves the records of the open chunk to the parts. This is a loop of its
// own, so that the processor fetches the memory of many records at once. When
// memory is refused some are moved, and the others are first in the open chunk.
func (m *memory) pour(k *bucket, must bool) bool {
	if k.parts == nil {
		if !m.arena.reserve(partsCost, must) {
			return false
		}
		k.parts = new([partitions]partition)
		m.parts++
	}
	w := k.width()
	for records := k.open; len(records) > 0; records = records[w:] {
		p := k.part(records)
		if !p.hasRoom(w) && !m.growPartition(p, w, must) {
			k.open = append(k.open[:0], records...)
			return false
		}
		n := len(p.open)
		p.open = p.open[:n+w]
		copyRecord(p.open[n:], records, w)
	}
	k.open = k.open[:0]
	return true
}

// growPartition adds a chunk of half the size of all those before, or a small one
// if memory is refused and must be had.
func (m *memory) growPartition(p *partition, width int, must bool) bool {
	small := max(width, firstChunk/width*width)
	size := max(small, min(p.size()/2, m.largest())/width*width)
	chunk := m.arena.cut(size, false)
	if chunk == nil && must {
		chunk = m.arena.cut(small, true)
	}
	if chunk == nil {
		return false
	}
	p.addChunk(chunk)
	return true
}

// sorted returns the buckets with records, in the order of an index. The open chunk
// of a large one is empty.
func (m *memory) sorted() []*bucket {
	order := slices.Grow(m.order[:0], m.used)
	for i := range m.used {
		k := m.bucket(i)
		if k.count > 0 {
			order = append(order, k)
		}
		if k.parts != nil {
			m.pour(k, true)
		}
	}
	slices.SortFunc(order, func(a, b *bucket) int { return compareShapes(a.shape, b.shape) })
	m.order = order
	return order
}

// buffers returns n buffers in memory without records, which gets none until it is
// emptied again. Each has room for the widest record and for at least so many bytes.
func (m *memory) buffers(n, least int) [][]byte {
	size := max(min(m.arena.size/(2*n), m.arena.first*lastSlab), m.widest, least)
	buffers := make([][]byte, n)
	for i := range buffers {
		buffers[i] = m.arena.cut(size, true)
	}
	m.arena.empty()
	return buffers
}

// empty forgets the records.
func (m *memory) empty() {
	for i := range m.used {
		*m.bucket(i) = bucket{}
	}
	clear(m.byShape)
	clear(m.order)
	m.last, m.used = nil, 0
	m.arena.empty()
	m.arena.share.give(m.parts * partsCost)
	m.parts = 0
}

// close gives everything back.
func (m *memory) close() {
	m.empty()
	m.arena.giveBack(0)
	m.arena.share.give(m.arena.share.held)
	*m = memory{arena: arena{share: m.arena.share}}
}
