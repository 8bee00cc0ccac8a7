package indexbuild

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"unsafe"

	"github.com/filecoin-project/dagstore/internal/files"
)

// MaxDigest is the length of the longest digest that a record of an index can
// have: go-car reads records of up to 32 MiB.
const MaxDigest = 32<<20 - offsetSize

// ErrDigestTooLong is returned for records with a digest longer than [MaxDigest].
var ErrDigestTooLong = errors.New("digest too long for an index")

// limits are what tests set lower.
type limits struct {
	minimum int64 // bytes of memory that a builder may use whatever others do
	block   int   // bytes of records in a block
	buffer  int   // bytes of an emitter's buffer, at least
	runs    int   // that are merged at once, at least
}

var usualLimits = limits{minimum: 1 << 20, block: blockSize, buffer: minBuffer, runs: 16}

// A Builder collects records and writes them as an index. One goroutine uses
// it at a time. It must be closed.
//
// An error of the temporary file is final: it is returned from then on.
type Builder struct {
	limits limits
	share  share
	total  int64 // records added
	err    error // final
	closed bool

	// The records in memory.
	last    *bucket // to which the last record was added
	byShape map[shape]*bucket
	slabs   []*slab
	buckets int       // used, of all slabs
	order   []*bucket // those with records, while they are written
	small   []byte    // the rest of a block that small buckets share
	shared  []*block  // by small buckets
	free    []*block
	blocks  int   // owned, free or not
	wide    int64 // bytes of records that are in no block
	emitter emitter

	// The records that were spilled.
	spill  spill
	runs   []run
	widest int // record
}

// A slab is memory for buckets.
type slab [64]bucket

// bucketCost is what a bucket takes: itself, its place in the map, and its
// places in the lists of buckets that are sorted and of tasks.
const bucketCost = int64(unsafe.Sizeof(bucket{})) + 64 + 8

// New returns an empty builder. Records for which the budget has no room are
// kept in a temporary file in dir, which is made when it is first needed.
func New(fsys files.FS, dir string, budget *Budget) *Builder {
	return newBuilder(fsys, dir, budget, usualLimits)
}

func newBuilder(fsys files.FS, dir string, budget *Budget, l limits) *Builder {
	budget.builders.Add(1)
	return &Builder{
		limits:  l,
		share:   share{budget: budget, minimum: l.minimum, held: int64(l.buffer)},
		byShape: make(map[shape]*bucket),
		spill:   spill{fsys: fsys, dir: dir},
	}
}

// Len returns the number of records added.
func (b *Builder) Len() int64 { return b.total }

// Add adds a record. The digest is copied. When the memory of the budget is
// used up, Add writes the records so far to the temporary file first.
func (b *Builder) Add(code uint64, digest []byte, offset uint64) error {
	k := b.last
	if k == nil || k.code != code || k.length != len(digest) {
		var err error
		if k, err = b.bucket(shape{code, len(digest)}); err != nil {
			return err
		}
	}
	n := len(k.open.records)
	w := len(digest) + offsetSize
	if cap(k.open.records)-n < w {
		var err error
		if k, err = b.extend(k); err != nil {
			return err
		}
		n = len(k.open.records)
	}
	record := k.open.records[n : n+w]
	binary.LittleEndian.PutUint64(record[copy(record, digest):], offset)
	k.open.records = k.open.records[:n+w]
	k.count++
	b.total++
	return nil
}

// bucket returns the bucket of a shape, which becomes the last one used.
func (b *Builder) bucket(s shape) (*bucket, error) {
	if b.err != nil {
		return nil, b.err
	}
	if s.length > MaxDigest {
		return nil, fmt.Errorf("%w: %d bytes", ErrDigestTooLong, s.length)
	}
	k := b.byShape[s]
	if k == nil {
		if b.buckets == len(slab{})*len(b.slabs) {
			if err := b.addSlab(); err != nil {
				return nil, err
			}
		}
		k = b.newBucket(s)
	}
	b.last = k
	return k, nil
}

func (b *Builder) newBucket(s shape) *bucket {
	k := b.bucketAt(b.buckets)
	b.buckets++
	*k = bucket{shape: s}
	b.byShape[s] = k
	b.widest = max(b.widest, s.width())
	return k
}

func (b *Builder) bucketAt(i int) *bucket { return &b.slabs[i/len(slab{})][i%len(slab{})] }

// addSlab makes room for another bucket.
func (b *Builder) addSlab() error {
	cost := int64(len(slab{})) * bucketCost
	if !b.share.take(cost) {
		if err := b.spillRecords(context.Background()); err != nil {
			return err
		}
		if len(b.slabs) > 0 {
			return nil
		}
		b.share.force(cost)
	}
	b.slabs = append(b.slabs, new(slab))
	return nil
}

// extend makes room for another record in the open chunk of a bucket. The
// bucket is another one of the same shape if records had to be spilled.
func (b *Builder) extend(k *bucket) (*bucket, error) {
	if b.grow(k, false) {
		return k, nil
	}
	s := k.shape
	if err := b.spillRecords(context.Background()); err != nil {
		return nil, err
	}
	k, err := b.bucket(s)
	if err != nil {
		return nil, err
	}
	b.grow(k, true)
	return k, nil
}

// grow is extend without spilling. It returns false if memory is refused, which
// it is not if it must be had.
func (b *Builder) grow(k *bucket, must bool) bool {
	w := k.width()
	if w > b.limits.block {
		return b.growWide(k, must)
	}
	if size := max(w, 64/w*w, 2*cap(k.open.records)); k.open.block == nil && len(k.full) == 0 && size <= b.limits.block/2 {
		return b.growSmall(k, size, must)
	}
	next := b.takeBlock(must)
	if next == nil {
		return false
	}
	if k.open.block != nil {
		k.seal(next)
		return true
	}
	records := append(next.records[:0:b.limits.block], k.open.records...)
	k.open = chunk{records, next}
	return true
}

// growWide adds a chunk for a record that is longer than a block.
func (b *Builder) growWide(k *bucket, must bool) bool {
	w := k.width()
	if !b.take(int64(w), must) {
		return false
	}
	b.wide += int64(w)
	if len(k.open.records) > 0 {
		k.full = append(k.full, k.open)
	}
	k.open = chunk{records: make([]byte, 0, w)}
	return true
}

// growSmall moves the records of a small bucket to a place of so many bytes.
func (b *Builder) growSmall(k *bucket, size int, must bool) bool {
	if len(b.small) < size {
		next := b.takeBlock(must)
		if next == nil {
			return false
		}
		b.shared = append(b.shared, next)
		b.small = next.records[:b.limits.block]
	}
	k.open.records = append(b.small[:0:size], k.open.records...)
	b.small = b.small[size:]
	return true
}

func (b *Builder) take(n int64, must bool) bool {
	if b.share.take(n) {
		return true
	}
	if must {
		b.share.force(n)
	}
	return must
}

// blockCost is what a block takes, with its part of the buffer in which its
// records are sorted.
func (b *Builder) blockCost() int64 {
	return int64(b.limits.block) + int64(b.limits.block)/bufferShare + 2*(partitions+1)
}

// bufferShare is the part of its memory of which an emitter has a buffer.
const bufferShare = 16

// takeBlock returns an empty block, or nil if memory is refused.
func (b *Builder) takeBlock(must bool) *block {
	if n := len(b.free); n > 0 {
		k := b.free[n-1]
		b.free = b.free[:n-1]
		return k
	}
	if !b.take(b.blockCost(), must) {
		return nil
	}
	b.blocks++
	return b.share.budget.newBlock()
}

// empty forgets the records in memory.
func (b *Builder) empty() {
	for i := range b.buckets {
		k := b.bucketAt(i)
		for i := range k.chunks() {
			if c := k.chunk(i); c.block != nil {
				b.free = append(b.free, c.block)
			}
		}
		*k = bucket{}
	}
	b.free = append(b.free, b.shared...)
	b.last, b.small, b.shared, b.buckets = nil, nil, nil, 0
	clear(b.byShape)
	b.share.give(b.wide)
	b.wide = 0
}

// giveBack gives free blocks to the budget until the builder holds no more
// than so much.
func (b *Builder) giveBack(keep int64) {
	for len(b.free) > 0 && b.share.held > keep {
		last := len(b.free) - 1
		b.share.budget.blocks.Put(b.free[last])
		b.free[last] = nil
		b.free = b.free[:last]
		b.blocks--
		b.share.give(b.blockCost())
	}
}

// fail makes an error final.
func (b *Builder) fail(err error) error {
	b.err, b.last = err, nil
	return err
}

// Close gives the memory back and removes the temporary file. It may be called
// at any time, and often. Afterwards the other methods return [fs.ErrClosed].
func (b *Builder) Close() error {
	if b.closed {
		return nil
	}
	b.closed = true
	_ = b.fail(fmt.Errorf("index builder: %w", fs.ErrClosed))
	b.empty()
	b.giveBack(0)
	b.share.give(b.share.held)
	b.share.budget.builders.Add(-1)
	b.byShape, b.slabs, b.order, b.free, b.runs, b.emitter = nil, nil, nil, nil, nil, emitter{}
	return b.spill.close()
}
