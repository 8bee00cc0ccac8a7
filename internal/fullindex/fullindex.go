// Package fullindex reads a shard's full index in place: the bytes that go-car
// writes for its two sorted formats, car-index-sorted (0x0400) and
// car-multihash-index-sorted (0x0401). Unlike go-car's reader it trusts
// nothing: bytes that are torn, corrupt or hostile give an error, never a
// panic, a large allocation or an index in which look-ups silently miss.
package fullindex

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"sort"

	"github.com/ipfs/go-cid"
	carindex "github.com/ipld/go-car/v2/index"
	"github.com/multiformats/go-multicodec"
	"github.com/multiformats/go-multihash"
	"github.com/multiformats/go-varint"
)

// ErrMalformed is wrapped by all errors of Open.
var ErrMalformed = errors.New("malformed index")

var errReadOnly = errors.New("the index is read-only: make a new one with go-car's index.New")

// offsetSize is the size of the section offset that ends each record.
const offsetSize = 8

// maxWidth is the width of a record with the longest digest that go-multihash
// and go-cid accept.
const maxWidth = 32<<20 + offsetSize

// Index is an index over bytes. It is immutable and safe for concurrent use.
// The index of format 0x0401 is a carindex.IterableIndex as well; that of 0x0400
// cannot be, since it does not hold the codes of the multihashes.
type Index interface {
	carindex.Index
	// Len returns how many of the bytes given to Open the index consists of.
	Len() int
}

// Open returns the index at the beginning of b; bytes behind it are ignored.
// The index refers to b, which must not change as long as the index is in use.
// Open reads all of the index once, and allocates only a few words for each
// bucket that is there.
func Open(b []byte) (Index, error) {
	code, n, err := varint.FromUvarint(b)
	if err != nil {
		return nil, fmt.Errorf("%w: codec: %w", ErrMalformed, err)
	}
	p := &parser{b: b, at: n}
	switch multicodec.Code(code) {
	case multicodec.CarIndexSorted:
		set := p.widths()
		if p.err != nil {
			return nil, p.err
		}
		return &sorted{raw: b[:p.at], head: n, buckets: set}, nil
	case multicodec.CarMultihashIndexSorted:
		sets := p.codes()
		if p.err != nil {
			return nil, p.err
		}
		return &multihashSorted{raw: b[:p.at], head: n, sets: sets}, nil
	default:
		return nil, fmt.Errorf("%w: codec 0x%x is not an index that can be looked up in", ErrMalformed, code)
	}
}

// sorted is an index of format 0x0400.
type sorted struct {
	raw     []byte
	head    int // length of the codec
	buckets buckets
}

var _ Index = (*sorted)(nil)

func (s *sorted) Codec() multicodec.Code              { return multicodec.CarIndexSorted }
func (s *sorted) Len() int                            { return len(s.raw) }
func (s *sorted) Marshal(w io.Writer) (uint64, error) { return write(w, s.raw[s.head:]) }
func (s *sorted) Unmarshal(io.Reader) error           { return errReadOnly }
func (s *sorted) Load([]carindex.Record) error        { return errReadOnly }

func (s *sorted) GetAll(c cid.Cid, visit func(uint64) bool) error {
	mh, err := decode(c)
	if err != nil {
		return err
	}
	return s.buckets.getAll(mh.Digest, visit)
}

// multihashSorted is an index of format 0x0401.
type multihashSorted struct {
	raw  []byte
	head int
	sets []codeSet
}

// A codeSet has the buckets of one multihash code.
type codeSet struct {
	code    uint64
	buckets buckets
}

var (
	_ Index                  = (*multihashSorted)(nil)
	_ carindex.IterableIndex = (*multihashSorted)(nil)
)

func (m *multihashSorted) Codec() multicodec.Code              { return multicodec.CarMultihashIndexSorted }
func (m *multihashSorted) Len() int                            { return len(m.raw) }
func (m *multihashSorted) Marshal(w io.Writer) (uint64, error) { return write(w, m.raw[m.head:]) }
func (m *multihashSorted) Unmarshal(io.Reader) error           { return errReadOnly }
func (m *multihashSorted) Load([]carindex.Record) error        { return errReadOnly }

func (m *multihashSorted) GetAll(c cid.Cid, visit func(uint64) bool) error {
	mh, err := decode(c)
	if err != nil {
		return err
	}
	i := sort.Search(len(m.sets), func(i int) bool { return m.sets[i].code >= mh.Code })
	if i == len(m.sets) || m.sets[i].code != mh.Code {
		return carindex.ErrNotFound
	}
	return m.sets[i].buckets.getAll(mh.Digest, visit)
}

// ForEach visits the records by code, digest length and digest. The visitor may
// keep the multihashes.
func (m *multihashSorted) ForEach(visit func(multihash.Multihash, uint64) error) error {
	for _, set := range m.sets {
		for _, k := range set.buckets {
			for i := range k.count() {
				mh, err := multihash.Encode(k.digest(i), set.code)
				if err != nil {
					return err
				}
				if err := visit(mh, k.offset(i)); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

func decode(c cid.Cid) (*multihash.DecodedMultihash, error) {
	if !c.Defined() {
		return nil, carindex.ErrNotFound
	}
	return multihash.Decode(c.Hash())
}

func write(w io.Writer, b []byte) (uint64, error) {
	n, err := w.Write(b)
	return uint64(max(n, 0)), err
}

// buckets are sorted by width; no two have the same.
type buckets []bucket

func (s buckets) getAll(digest []byte, visit func(uint64) bool) error {
	width := len(digest) + offsetSize
	i := sort.Search(len(s), func(i int) bool { return s[i].width >= width })
	if i == len(s) || s[i].width != width {
		return carindex.ErrNotFound
	}
	return s[i].getAll(digest, visit)
}

// A bucket has records of one width, sorted by digest.
type bucket struct {
	width   int
	records []byte
}

func (k bucket) count() int { return len(k.records) / k.width }

func (k bucket) digest(i int) []byte {
	return k.records[i*k.width : (i+1)*k.width-offsetSize]
}

func (k bucket) offset(i int) uint64 {
	return binary.LittleEndian.Uint64(k.records[(i+1)*k.width-offsetSize:])
}

func (k bucket) getAll(digest []byte, visit func(uint64) bool) error {
	n := k.count()
	i := sort.Search(n, func(i int) bool { return bytes.Compare(k.digest(i), digest) >= 0 })
	if i == n || !bytes.Equal(k.digest(i), digest) {
		return carindex.ErrNotFound
	}
	for ; i < n && bytes.Equal(k.digest(i), digest); i++ {
		if !visit(k.offset(i)) {
			break
		}
	}
	return nil
}
