package indexbuild

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"

	"github.com/filecoin-project/dagstore/internal/files"
)

// MaxDigest is the length of the longest digest that a record of an index can
// have: go-car reads records of up to 32 MiB.
const MaxDigest = 32<<20 - offsetSize

// MaxShapes is how many pairs of multihash code and digest length an index may
// have.
const MaxShapes = 1 << 16

var (
	// ErrDigestTooLong is returned for records with a digest longer than [MaxDigest].
	ErrDigestTooLong = errors.New("digest too long for an index")
	// ErrTooManyShapes is returned when records have more than [MaxShapes] pairs
	// of multihash code and digest length. Only hostile data has so many: whoever
	// opens the index has to hold something for each.
	ErrTooManyShapes = errors.New("too many pairs of hash function and digest length for an index")
)

// limits are what tests set lower.
type limits struct {
	minimum int64 // bytes of memory that a builder may use whatever others do
	slab    int   // bytes of the smallest slabs
	buffer  int   // bytes of an emitter's buffer, at least
	read    int   // bytes of a buffer for reading a run, about
	shapes  int   // of an index
}

var usualLimits = limits{minimum: 1 << 20, slab: firstSlab, buffer: minBuffer, read: 8 << 10, shapes: MaxShapes}

// A Builder collects records and writes them as an index. One goroutine uses
// it at a time. It must be closed.
//
// An error of the temporary file is final: it is returned from then on.
type Builder struct {
	limits  limits
	ctx     context.Context // of Add
	total   int64           // records added
	memory  memory          // with records that are not in a run
	spill   spill
	emitter emitter
	err     error // final
}

// New returns an empty builder. Records for which the budget has no room are
// kept in a temporary file in dir, which is made when it is first needed.
// Without a file system all are kept in memory, whatever the budget is.
func New(fsys files.FS, dir string, budget *Budget) *Builder {
	return newBuilder(fsys, dir, budget, usualLimits)
}

func newBuilder(fsys files.FS, dir string, budget *Budget, l limits) *Builder {
	budget.builders.Add(1)
	return &Builder{
		limits: l,
		ctx:    context.Background(),
		memory: memory{
			arena:   arena{share: share{budget: budget, minimum: l.minimum, held: int64(l.buffer)}, first: l.slab},
			byShape: make(map[shape]*bucket),
		},
		spill: spill{fsys: fsys, dir: dir},
	}
}

// Bind makes Add end early when ctx ends: it may have to write hundreds of
// megabytes. Add then returns the error of ctx and has not added the record.
func (b *Builder) Bind(ctx context.Context) { b.ctx = ctx }

// Len returns the number of records added.
func (b *Builder) Len() int64 { return b.total }

// Add adds a record. The digest is copied. When the budget has no more memory,
// Add first writes the records so far to the temporary file.
func (b *Builder) Add(code uint64, digest []byte, offset uint64) error {
	k, w := b.memory.last, len(digest)+offsetSize
	if k == nil || k.code != code || k.length != len(digest) || !k.hasRoom(w) {
		var err error
		if k, err = b.room(shape{code, len(digest)}); err != nil {
			return err
		}
	}
	n := len(k.open)
	k.open = k.open[:n+w]
	record := k.open[n:]
	binary.LittleEndian.PutUint64(record[copy(record, digest):], offset)
	k.count++
	b.total++
	return nil
}

// room returns the bucket of a shape with room for another record.
func (b *Builder) room(s shape) (*bucket, error) {
	switch {
	case b.err != nil:
		return nil, b.err
	case s.length > MaxDigest:
		return nil, fmt.Errorf("%w: %d bytes", ErrDigestTooLong, s.length)
	case b.memory.used >= b.limits.shapes && b.memory.byShape[s] == nil:
		return nil, ErrTooManyShapes
	}
	if k := b.memory.room(s, b.spill.fsys == nil); k != nil {
		return k, nil
	}
	if err := b.spillRecords(b.ctx); err != nil {
		return nil, err
	}
	return b.memory.room(s, true), nil
}

// fail makes an error final.
func (b *Builder) fail(err error) error {
	b.err, b.memory.last = err, nil
	return err
}

// errClosed is the final error of a closed builder.
var errClosed = fmt.Errorf("index builder: %w", fs.ErrClosed)

// Close gives the memory back and removes the temporary file. It may be called
// at any time, and often. Afterwards the other methods return [fs.ErrClosed].
func (b *Builder) Close() error {
	if b.err == errClosed { //nolint:errorlint // this very value
		return nil
	}
	_ = b.fail(errClosed)
	b.memory.close()
	b.memory.arena.share.budget.builders.Add(-1)
	b.emitter = emitter{}
	return b.spill.close()
}
