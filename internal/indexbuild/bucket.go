package indexbuild

import (
	"cmp"
	"encoding/binary"
)

const (
	// offsetSize is the length of the offset behind the digest in a record.
	offsetSize = 8
	// partitions is the number of parts of a block: one for each first byte of a digest.
	partitions = 256
	// blockSize is the room for records in a block, so that a block is 64 KiB.
	blockSize = 64<<10 - 2*(partitions+1)
	// whole stands for all partitions.
	whole = -1
)

// A block is the unit in which memory is taken and given back.
type block struct {
	records [blockSize]byte
	// starts has the number of the first record of each partition, and last
	// the number of records, if the block has been partitioned.
	starts [partitions + 1]uint16
}

// A shape is what the records of a bucket have in common.
type shape struct {
	code   uint64
	length int // of the digest
}

// compareShapes gives the order of buckets in an index.
func compareShapes(a, b shape) int {
	return cmp.Or(cmp.Compare(a.code, b.code), cmp.Compare(a.length, b.length))
}

// width is the length of a record.
func (s shape) width() int { return s.length + offsetSize }

// A chunk is a piece of memory with records, one behind the other.
type chunk struct {
	records []byte
	block   *block // which the records are in; nil if they are elsewhere
}

// A bucket holds the records of one shape. A small one has them in an open
// chunk outside of blocks, which is copied when it grows.
type bucket struct {
	shape
	count int64   // records
	full  []chunk // in partitions if partitioned
	open  chunk   // being filled
}

// partitioned tells whether the full chunks are blocks in partitions. Digests
// need a first byte for that, and more than one record must fit in a block.
func (k *bucket) partitioned() bool {
	return k.length > 0 && len(k.full) > 0 && k.full[0].block != nil
}

// size is the number of bytes of all records.
func (k *bucket) size() int64 { return k.count * int64(k.width()) }

// chunks is the number of chunks, the open one included.
func (k *bucket) chunks() int { return len(k.full) + 1 }

func (k *bucket) chunk(i int) *chunk {
	if i == len(k.full) {
		return &k.open
	}
	return &k.full[i]
}

// segment returns the records of one partition in the i-th chunk, or of the
// whole of it. Partitions can be asked for when the open chunk is empty.
func (k *bucket) segment(i, partition int) []byte {
	c := k.chunk(i)
	if partition == whole || len(c.records) == 0 {
		return c.records
	}
	w, s := k.width(), &c.block.starts
	return c.records[int(s[partition])*w : int(s[partition+1])*w]
}

// seal moves the records of the open chunk, which is in a block, among the
// full ones. It needs an empty block and leaves one: the open chunk's.
func (k *bucket) seal(empty *block) {
	if k.length == 0 {
		k.full = append(k.full, k.open)
		k.open = chunk{empty.records[:0:cap(k.open.records)], empty}
		return
	}
	k.full = append(k.full, k.open.partition(k.width(), empty))
	k.open.records = k.open.records[:0]
}

// sizes returns the number of bytes of each partition.
func (k *bucket) sizes() (sizes [partitions]int64) {
	for _, c := range k.full {
		for p := range partitions {
			sizes[p] += int64(c.block.starts[p+1]-c.block.starts[p]) * int64(k.width())
		}
	}
	return sizes
}

// partition copies the records to a block in the order of their first bytes.
func (c chunk) partition(width int, into *block) chunk {
	from := c.records
	var next [partitions]int // where the next record of a partition goes
	for at := 0; at < len(from); at += width {
		next[from[at]]++
	}
	first := 0
	for p, n := range next {
		into.starts[p] = uint16(first)
		next[p] = first * width
		first += n
	}
	into.starts[partitions] = uint16(first)
	to := into.records[:]
	for ; len(from) >= width; from = from[width:] {
		p := from[0]
		copyRecord(to[next[p]:], from, width)
		next[p] += width
	}
	return chunk{to[:len(c.records):len(c.records)], into}
}

// offsetOf returns the offset of a record.
func offsetOf(record []byte) uint64 {
	return binary.LittleEndian.Uint64(record[len(record)-offsetSize:])
}
