// Package indexer makes full indices of CARs. It gives what the scanner finds
// (internal/carfile) to what sorts and writes it (internal/indexbuild).
package indexer

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math"

	"github.com/ipfs/go-cid"
	carindex "github.com/ipld/go-car/v2/index"

	"github.com/filecoin-project/dagstore/internal/carfile"
	"github.com/filecoin-project/dagstore/internal/files"
	"github.com/filecoin-project/dagstore/internal/fullindex"
	"github.com/filecoin-project/dagstore/internal/guard"
	"github.com/filecoin-project/dagstore/internal/indexbuild"
	"github.com/filecoin-project/dagstore/internal/mapped"
)

// Options say how indices are made. The zero value keeps all in memory.
type Options struct {
	// FS and Dir are where records are put aside that do not fit into Budget.
	FS     files.FS
	Dir    string
	Budget *indexbuild.Budget // nil: no bound, and nothing is put aside

	Verify   int                    // goroutines that compare blocks with their hashes; 0: no comparing
	Progress func(carfile.Progress) // may be nil
}

// An Indexer makes one index. It is fed with one CAR, by Scan or through Stream,
// or record by record; then the index is had from WriteTo or InMemory. It is used
// by one goroutine at a time, and closed in the end.
type Indexer struct {
	builder *indexbuild.Builder
	options Options
}

// New returns an Indexer that has no records yet.
func New(o Options) *Indexer {
	if o.Budget == nil {
		o.Budget = indexbuild.NewBudget(math.MaxInt64)
	}
	return &Indexer{builder: indexbuild.New(o.FS, o.Dir, o.Budget), options: o}
}

// Scan adds the sections of a file of size bytes, identity CIDs too. An index
// inside a CARv2 is never read: anyone can write anything there. The errors are
// those of [carfile.Scan].
func (x *Indexer) Scan(ctx context.Context, r io.ReaderAt, size int64) error {
	return x.scan(ctx, r, size, carfile.Options{})
}

// ScanMapped is Scan for data that comes from r, and which it may map. That is
// less work for blocks of some kilobytes.
func (x *Indexer) ScanMapped(ctx context.Context, r io.ReaderAt, data *mapped.Data) error {
	if err := data.Map(); err != nil {
		return err
	}
	var o carfile.Options
	if data.Mapping() != nil {
		o.Mapped = data
	}
	return x.scan(ctx, r, data.Size(), o)
}

func (x *Indexer) scan(ctx context.Context, r io.ReaderAt, size int64, o carfile.Options) error {
	x.builder.Bind(ctx)
	o.Verify, o.Progress = x.options.Verify, x.options.Progress
	return carfile.Scan(ctx, r, size, o, x.addSection)
}

// Stream returns what adds the sections of the file that is written to it. No
// block is verified. When ctx ends, so does a Write that takes long.
func (x *Indexer) Stream(ctx context.Context) *carfile.Stream {
	x.builder.Bind(ctx)
	return carfile.NewStream(x.options.Progress, x.addSection)
}

func (x *Indexer) addSection(s *carfile.Section) error {
	if err := x.builder.Add(s.Code, s.Digest, uint64(s.Offset)); err != nil {
		return malformed(err)
	}
	return nil
}

// malformed makes the error of too many shapes one of a malformed CAR.
func malformed(err error) error {
	if errors.Is(err, indexbuild.ErrTooManyShapes) {
		return fmt.Errorf("%w: %w", carfile.ErrMalformed, err)
	}
	return err
}

// ScanIndexed adds those sections of a file of size bytes that idx finds: for
// whose CIDs it gives their offsets.
func (x *Indexer) ScanIndexed(ctx context.Context, r io.ReaderAt, size int64, idx carindex.Index) error {
	x.builder.Bind(ctx)
	o := carfile.Options{Progress: x.options.Progress}
	return carfile.Scan(ctx, r, size, o, func(s *carfile.Section) error {
		_, c, err := cid.CidFromBytes(s.Cid)
		if err != nil {
			return err
		}
		found := false
		err = idx.GetAll(c, func(offset uint64) bool {
			found = found || offset == uint64(s.Offset)
			return !found
		})
		if found {
			return x.addSection(s)
		}
		if err != nil && !errors.Is(err, carindex.ErrNotFound) {
			return fmt.Errorf("index: %w", err)
		}
		return nil
	})
}

// WriteTo writes the index as go-car's index.WriteTo does: codec 0x0401, in the
// order of code, digest length, digest, offset.
func (x *Indexer) WriteTo(ctx context.Context, w io.Writer) error {
	return malformed(x.builder.WriteTo(ctx, w))
}

// InMemory returns the index. It stays usable after Close.
func (x *Indexer) InMemory(ctx context.Context) (_ *fullindex.Index, err error) {
	defer guard.Recover(&err) // bytes.Buffer panics when it is too large
	var b bytes.Buffer
	b.Grow(int(40*x.builder.Len()) + 64) // what sha2-256 needs
	if err := x.WriteTo(ctx, &b); err != nil {
		return nil, err
	}
	index := b.Bytes()
	if cap(index) > len(index)+len(index)/8 {
		index = bytes.Clone(index)
	}
	return fullindex.FromBytes(index)
}

// Close gives back what the Indexer holds.
func (x *Indexer) Close() error { return x.builder.Close() }

// Memory returns the index of a file of size bytes, made and kept in memory: 40
// bytes for each block with a sha2-256 CID.
func Memory(ctx context.Context, r io.ReaderAt, size int64) (*fullindex.Index, error) {
	x := New(Options{})
	defer func() { _ = x.Close() }() // it has no files
	if err := x.Scan(ctx, r, size); err != nil {
		return nil, err
	}
	return x.InMemory(ctx)
}
