package indexbuild

import (
	"cmp"
	"encoding/binary"
	"unsafe"
)

const (
	// offsetSize is the length of the offset behind the digest in a record.
	offsetSize = 8
	// partitions is the number of parts of a large bucket: one for each first byte
	// of a digest.
	partitions = 256
	// firstBytes is how much a small bucket has for its first records, and
	// firstChunk how much a partition has.
	firstBytes, firstChunk = 64, 256
)

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

// offsetOf returns the offset of a record.
func offsetOf(record []byte) uint64 {
	return binary.LittleEndian.Uint64(record[len(record)-offsetSize:])
}

// A bucket holds the records of one shape. They are added to its open chunk, which
// is copied when it grows. A large bucket has parts as well, to which the records
// go when that chunk is full.
type bucket struct {
	shape
	partition
	count int64                  // records
	parts *[partitions]partition // nil if small
}

// bucketCost is what a bucket takes: itself, its place in the map, in the list
// of sorted buckets and in that of tasks. partsCost is what its partitions and the
// lists of their chunks take.
const (
	bucketCost = int64(unsafe.Sizeof(bucket{})+unsafe.Sizeof(task{})) + 64 + 8
	partsCost  = 2 * int64(unsafe.Sizeof([partitions]partition{}))
)

// size is the number of bytes of all records.
func (k *bucket) size() int64 { return k.count * int64(k.width()) }

// part returns the one that a record belongs to.
func (k *bucket) part(record []byte) *partition {
	if k.length == 0 {
		return &k.parts[0]
	}
	return &k.parts[record[0]]
}

// A partition is a part of a bucket: chunks of memory with records, one behind the
// other.
type partition struct {
	open []byte   // being filled
	full [][]byte // the others
	kept int      // bytes of these
}

// size is the number of bytes of all records.
func (p *partition) size() int { return p.kept + len(p.open) }

// chunks yields them.
func (p *partition) chunks(yield func([]byte) bool) {
	for _, c := range p.full {
		if !yield(c) {
			return
		}
	}
	if len(p.open) > 0 {
		yield(p.open)
	}
}

// hasRoom tells whether the open chunk has room for a record of so many bytes.
func (p *partition) hasRoom(width int) bool { return cap(p.open)-len(p.open) >= width }

// addChunk closes the open chunk and opens another.
func (p *partition) addChunk(memory []byte) {
	if len(p.open) > 0 {
		p.full = append(p.full, p.open)
		p.kept += len(p.open)
	}
	p.open = memory[:0]
}
