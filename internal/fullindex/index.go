// Package fullindex reads a shard's full index in place: the bytes that go-car
// writes for its two sorted formats, car-index-sorted (0x0400) and
// car-multihash-index-sorted (0x0401), in memory or in a mapped file. Opening
// looks at headers only. Unlike go-car's reader it trusts nothing: bytes that are
// torn, corrupt or hostile give an error, never a panic or a large allocation.
// What opening does not see, Verify does.
package fullindex

import (
	"bytes"
	"errors"
	"fmt"
	"io"

	"github.com/ipfs/go-cid"
	carindex "github.com/ipld/go-car/v2/index"
	"github.com/multiformats/go-multicodec"
	"github.com/multiformats/go-multihash"

	"github.com/filecoin-project/dagstore/internal/mapped"
)

// ErrMalformed is wrapped by all errors of bytes that are no sound index.
var ErrMalformed = errors.New("malformed index")

var errReadOnly = errors.New("the index is read-only: make a new one with go-car's index.New")

// OffsetSize is the size of the section offset that ends each record.
const OffsetSize = 8

// A Record is an entry of an index.
type Record struct {
	Code   uint64 // of the hash function; 0 in the format 0x0400, which does not tell it
	Digest []byte
	Offset uint64 // of a section, in the CARv1 payload
}

// An Index is an index over bytes that do not change. It is safe for concurrent
// use. Calls after Close, and calls that Close meets halfway through a large index,
// return fs.ErrClosed. Bytes that cannot be read from a mapping, because the file
// was truncated, give an error that wraps ErrMalformed and io.ErrUnexpectedEOF.
type Index struct {
	codec   multicodec.Code
	size    int64
	buckets []bucket // by code, then width
	records int64

	bytes  []byte       // the index, if it is in memory
	data   *mapped.Data // else where it is
	passes passes
}

var _ carindex.Index = (*Index)(nil)

// FromBytes returns the index at the beginning of b, which must not change.
func FromBytes(b []byte) (*Index, error) {
	x, err := parse(bytes.NewReader(b), int64(len(b)))
	if err != nil {
		return nil, err
	}
	x.bytes = b[:x.size:x.size]
	return x, nil
}

// FromData returns the index at the beginning of data, which it maps if that is
// possible. If it succeeds, the data belongs to the index.
func FromData(data *mapped.Data) (*Index, error) {
	if err := data.Map(); err != nil {
		return nil, err
	}
	pass, err := data.Enter()
	if err != nil {
		return nil, err
	}
	defer data.Leave(pass)
	mapped.Random(data.Mapping()) // see passes
	x, err := parse(data, data.Size())
	if err != nil {
		return nil, err
	}
	x.data = data
	return x, nil
}

// Size returns how many bytes the index has. What follows them is ignored.
func (x *Index) Size() int64 { return x.size }

// Len returns the number of records.
func (x *Index) Len() int64 { return x.records }

// Codec implements carindex.Index.
func (x *Index) Codec() multicodec.Code { return x.codec }

// Marshal implements carindex.Index.
func (x *Index) Marshal(w io.Writer) (uint64, error) {
	n, err := io.Copy(w, io.NewSectionReader(body{x}, codecSize, x.size-codecSize))
	return uint64(max(n, 0)), err
}

// Unmarshal implements carindex.Index: it is an error.
func (x *Index) Unmarshal(io.Reader) error { return errReadOnly }

// Load implements carindex.Index: it is an error.
func (x *Index) Load([]carindex.Record) error { return errReadOnly }

// GetAll implements carindex.Index. It allocates nothing if the index is in memory
// or mapped. Close waits for it, so that visit must not close the index.
func (x *Index) GetAll(c cid.Cid, visit func(uint64) bool) error {
	code, digest, _, ok := MultihashOf(c)
	if !ok {
		return carindex.ErrNotFound
	}
	found := false
	err := x.guarded(func() error {
		m := x.Find(code, digest)
		for {
			offset, ok := m.Next()
			if !ok {
				return m.Err()
			}
			found = true
			if !visit(offset) {
				return nil
			}
		}
	})
	if err == nil && !found {
		return carindex.ErrNotFound
	}
	return err
}

// Mapping returns the mapped bytes of the file, nil if it is not mapped. See
// mapped.Data.Mapping.
func (x *Index) Mapping() []byte {
	if x.data == nil {
		return nil
	}
	return x.data.Mapping()
}

// Close ends the use of the index. It waits for calls in progress, but not for
// what goes through the results of Find.
func (x *Index) Close() error {
	if x.data == nil {
		return nil
	}
	return x.data.Close()
}

// Full returns x. Types that embed an Index have it, too; see Of.
func (x *Index) Full() *Index { return x }

// Of returns the Index that another type embeds.
func Of(idx carindex.Index) (*Index, bool) {
	f, ok := idx.(interface{ Full() *Index })
	if !ok {
		return nil, false
	}
	return f.Full(), true
}

// An iterable is an index that tells its multihashes.
type iterable struct{ *Index }

var _ carindex.IterableIndex = iterable{}

func (i iterable) ForEach(visit func(multihash.Multihash, uint64) error) error { return i.Each(visit) }

// CarIndex returns the index as go-car's interface. In the format 0x0401 it is a
// carindex.IterableIndex; in 0x0400 it cannot be.
func (x *Index) CarIndex() carindex.Index {
	if x.codec == multicodec.CarMultihashIndexSorted {
		return iterable{x}
	}
	return x
}

// guarded calls use between Enter and Leave, safe from faults.
func (x *Index) guarded(use func() error) error {
	if x.data == nil {
		return use()
	}
	pass, err := x.data.Enter()
	if err != nil {
		return err
	}
	defer x.data.Leave(pass)
	fault := mapped.Faultless(func() error {
		err = use()
		return nil
	}, x.data.Mapping())
	if fault != nil {
		return unsound(fault)
	}
	return err
}

// unsound makes the error of missing bytes one of a malformed index.
func unsound(err error) error {
	if errors.Is(err, io.ErrUnexpectedEOF) {
		return fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	return err
}

// closed tells whether Close has begun.
func (x *Index) closed() bool { return x.data != nil && x.data.Closed() }

// resident returns all bytes of the index if they can be had without reading.
func (x *Index) resident() []byte {
	if x.data == nil {
		return x.bytes
	}
	return x.data.Mapping()
}

// A body reads the bytes of an index, safe from faults.
type body struct{ *Index }

func (b body) ReadAt(p []byte, at int64) (int, error) {
	if b.data == nil {
		return bytes.NewReader(b.bytes).ReadAt(p, at)
	}
	n, err := b.data.ReadAt(p, at)
	return n, unsound(err)
}

// read fills p with bytes of the index.
func (x *Index) read(p []byte, at int64) error {
	if n, err := (body{x}).ReadAt(p, at); n < len(p) {
		return err
	}
	return nil
}
