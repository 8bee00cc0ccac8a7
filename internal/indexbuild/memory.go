package indexbuild

import (
	"slices"
	"unsafe"
)

const (
	// bufferShare is the part of its memory of which a builder has a buffer,
	// to sort into.
	bufferShare = 16
	// firstBytes is how much a bucket gets for its first records.
	firstBytes = 64
)

// A slab is memory for buckets.
type slab [64]bucket

// bucketCost is what a bucket takes: itself, its place in the map, in the list
// of sorted buckets and in that of tasks.
const bucketCost = int64(unsafe.Sizeof(bucket{})+unsafe.Sizeof(task{})) + 64 + 8

// memory is where a builder has records. All of it is in blocks and slabs,
// which are used again after the records were spilled.
type memory struct {
	share     share
	blockRoom int // bytes of records in a block

	last    *bucket // to which the last record was added
	byShape map[shape]*bucket
	slabs   []*slab
	used    int       // buckets, of all slabs
	order   []*bucket // what sorted returned

	free   []*block
	blocks int      // owned, free or not
	small  []byte   // the rest of a block that small buckets share
	shared []*block // by small buckets
	wide   int64    // bytes of records that are in no block
	widest int      // record that there ever was
}

// room returns the bucket of a shape with room for a record, which becomes the
// last one used. It returns nil if memory is refused, which it is not if it
// must be had.
func (m *memory) room(s shape, must bool) *bucket {
	k := m.byShape[s]
	if k == nil {
		if k = m.newBucket(s, must); k == nil {
			return nil
		}
	}
	if cap(k.open.records)-len(k.open.records) < s.width() && !m.grow(k, must) {
		return nil
	}
	m.last = k
	return k
}

func (m *memory) newBucket(s shape, must bool) *bucket {
	if m.used == len(slab{})*len(m.slabs) {
		if !m.share.take(int64(len(slab{}))*bucketCost, must) {
			return nil
		}
		m.slabs = append(m.slabs, new(slab))
	}
	k := m.bucket(m.used)
	m.used++
	*k = bucket{shape: s}
	m.byShape[s] = k
	m.widest = max(m.widest, s.width())
	return k
}

// bucket returns the i-th bucket, in no order.
func (m *memory) bucket(i int) *bucket { return &m.slabs[i/len(slab{})][i%len(slab{})] }

// grow makes room for another record in the open chunk of a bucket. It returns
// false if memory is refused.
func (m *memory) grow(k *bucket, must bool) bool {
	w := k.width()
	if w > m.blockRoom {
		return m.growWide(k, must)
	}
	size := max(w, firstBytes/w*w, 2*cap(k.open.records))
	if k.open.block == nil && len(k.full) == 0 && size <= m.blockRoom/2 {
		return m.growSmall(k, size, must)
	}
	next := m.takeBlock(must)
	if next == nil {
		return false
	}
	if k.open.block != nil {
		k.seal(next)
		return true
	}
	k.open = chunk{append(next.records[:0:m.blockRoom], k.open.records...), next}
	return true
}

// growWide adds a chunk for a record that is longer than a block.
func (m *memory) growWide(k *bucket, must bool) bool {
	w := k.width()
	if !m.share.take(int64(w), must) {
		return false
	}
	m.wide += int64(w)
	if len(k.open.records) > 0 {
		k.full = append(k.full, k.open)
	}
	k.open = chunk{records: make([]byte, 0, w)}
	return true
}

// growSmall moves the records of a small bucket to a place of so many bytes.
func (m *memory) growSmall(k *bucket, size int, must bool) bool {
	if len(m.small) < size {
		next := m.takeBlock(must)
		if next == nil {
			return false
		}
		m.shared = append(m.shared, next)
		m.small = next.records[:m.blockRoom]
	}
	k.open.records = append(m.small[:0:size], k.open.records...)
	m.small = m.small[size:]
	return true
}

// blockCost is what a block takes, with its part of the buffer.
func (m *memory) blockCost() int64 {
	return int64(m.blockRoom + m.blockRoom/bufferShare + 2*(partitions+1))
}

// bufferSize is the size of the buffer that is paid for with the blocks.
func (m *memory) bufferSize() int { return m.blocks * m.blockRoom / bufferShare }

// takeBlock returns an empty block, or nil if memory is refused.
func (m *memory) takeBlock(must bool) *block {
	if n := len(m.free); n > 0 {
		k := m.free[n-1]
		m.free = m.free[:n-1]
		return k
	}
	if !m.share.take(m.blockCost(), must) {
		return nil
	}
	m.blocks++
	return m.share.budget.newBlock()
}

// sorted returns the buckets with records, in the order of an index. Those of
// more than large bytes have all their records in partitions, if they can.
func (m *memory) sorted(large int64) []*bucket {
	order := slices.Grow(m.order[:0], m.used)
	var spare *block
	for i := range m.used {
		k := m.bucket(i)
		if k.count > 0 {
			order = append(order, k)
		}
		if k.size() <= large || k.open.block == nil || k.length == 0 {
			continue
		}
		if spare == nil {
			spare = m.takeBlock(true)
		}
		k.seal(spare)
		spare, k.open = k.open.block, chunk{}
	}
	if spare != nil {
		m.free = append(m.free, spare)
	}
	slices.SortFunc(order, func(a, b *bucket) int { return compareShapes(a.shape, b.shape) })
	m.order = order
	return order
}

// buffers returns n buffers in the free memory, which is not to be used for
// something else meanwhile. Each has room for the widest record and for at
// least so many bytes.
func (m *memory) buffers(n, least int) [][]byte {
	if len(m.free) == 0 {
		m.free = append(m.free, m.takeBlock(true))
	}
	perBlock := (n + len(m.free) - 1) / len(m.free)
	size := max(m.blockRoom/perBlock, m.widest, least)
	buffers := make([][]byte, 0, n)
	for _, k := range m.free {
		for rest := k.records[:m.blockRoom]; len(rest) >= size && len(buffers) < n; rest = rest[size:] {
			buffers = append(buffers, rest[:size])
		}
	}
	for len(buffers) < n {
		buffers = append(buffers, make([]byte, size)) // records are wide
	}
	return buffers
}

// empty forgets the records.
func (m *memory) empty() {
	for i := range m.used {
		k := m.bucket(i)
		for j := range k.chunks() {
			if c := k.chunk(j); c.block != nil {
				m.free = append(m.free, c.block)
			}
		}
		*k = bucket{}
	}
	clear(m.byShape)
	m.free = append(m.free, m.shared...)
	m.last, m.used, m.small, m.shared = nil, 0, nil, nil
	m.share.give(m.wide)
	m.wide = 0
}

// giveBack gives free blocks back until no more than so many bytes are held.
func (m *memory) giveBack(keep int64) {
	for len(m.free) > 0 && m.share.held > keep {
		last := len(m.free) - 1
		m.share.budget.blocks.Put(m.free[last])
		m.free[last] = nil
		m.free = m.free[:last]
		m.blocks--
		m.share.give(m.blockCost())
	}
}

// close gives everything back.
func (m *memory) close() {
	m.empty()
	m.giveBack(0)
	m.share.give(m.share.held)
	*m = memory{share: m.share}
}
