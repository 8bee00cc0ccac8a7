package carfile

import (
	"bytes"
	"cmp"
	"context"
	"encoding/binary"
	"io"
	"slices"
	"sort"

	carindex "github.com/ipld/go-car/v2/index"
	"github.com/multiformats/go-multicodec"
	"github.com/multiformats/go-multihash"

	"github.com/filecoin-project/dagstore/internal/fullindex"
	"github.com/filecoin-project/dagstore/internal/guard"
)

// offsetSize is the length of the offset behind the digest in a record.
const offsetSize = 8

// Index scans a file of size bytes and returns its car-multihash-index-sorted,
// codec 0x0401. The result is a [carindex.IterableIndex]. Identity CIDs are in
// it, offsets are those of sections in the payload, and records are in the
// order of code, digest length, digest, offset. Written, it is the file that
// go-car's GenerateIndex makes, which leaves only the order of equal digests open.
//
// An index inside a CARv2 is never read: anyone can write anything there.
//
// Indexing a file of n bytes allocates at most 128*n + 1 MiB in total, whatever
// the file says; with blocks of 1 KiB and sha2-256 it is about n/3. The errors
// are those of [Sections].
func Index(ctx context.Context, r io.ReaderAt, size int64) (index carindex.Index, err error) {
	defer guard.Recover(&err)
	var t table
	if err := Sections(ctx, r, size, t.add); err != nil {
		return nil, err
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	return fullindex.Open(t.encode())
}

// A table collects the records of an index by their shape.
type table struct {
	byShape map[shape]int // in buckets
	buckets []bucket
}

// shape is what the records of a bucket have in common.
type shape struct {
	code   uint64
	length int // of the digest
}

// bucket holds records, digest and little-endian offset, one behind the other.
type bucket struct {
	shape
	records []byte
}

func (t *table) add(s Section) error {
	mh, err := multihash.Decode(s.Cid.Hash())
	if err != nil {
		return sectionError(ErrMalformed, s.Offset, "%v", err)
	}
	of := shape{code: mh.Code, length: len(mh.Digest)}
	i, ok := t.byShape[of]
	if !ok {
		if t.byShape == nil {
			t.byShape = make(map[shape]int)
		}
		i = len(t.buckets)
		t.byShape[of] = i
		t.buckets = append(t.buckets, bucket{shape: of})
	}
	b := &t.buckets[i]
	b.records = append(b.records, mh.Digest...)
	b.records = binary.LittleEndian.AppendUint64(b.records, uint64(s.Offset))
	return nil
}

// encode sorts the table and returns it in the format of the index. The table
// is empty afterwards, so that the records are not held twice for long.
func (t *table) encode() []byte {
	slices.SortFunc(t.buckets, func(a, b bucket) int {
		return cmp.Or(cmp.Compare(a.code, b.code), cmp.Compare(a.length, b.length))
	})
	codes, size := 0, 6 // codec and number of codes
	for i, b := range t.buckets {
		if t.widths(i) > 0 {
			codes++
			size += 12
		}
		size += 12 + len(b.records)
	}
	le := binary.LittleEndian
	out := binary.AppendUvarint(make([]byte, 0, size), uint64(multicodec.CarMultihashIndexSorted))
	out = le.AppendUint32(out, uint32(codes))
	for i := range t.buckets {
		b := &t.buckets[i]
		if n := t.widths(i); n > 0 {
			out = le.AppendUint64(out, b.code)
			out = le.AppendUint32(out, uint32(n))
		}
		sort.Sort(&sorter{bucket: b, spare: make([]byte, b.width())})
		out = le.AppendUint32(out, uint32(b.width()))
		out = le.AppendUint64(out, uint64(len(b.records)))
		out = append(out, b.records...)
		b.records = nil
	}
	*t = table{}
	return out
}

// widths returns how many buckets have the code of the i-th one if that is the
// first of them, and else 0.
func (t *table) widths(i int) int {
	code := t.buckets[i].code
	if i > 0 && t.buckets[i-1].code == code {
		return 0
	}
	n := 1
	for i+n < len(t.buckets) && t.buckets[i+n].code == code {
		n++
	}
	return n
}

// width is the length of a record.
func (b *bucket) width() int { return b.length + offsetSize }

// record returns the i-th digest and offset, in place.
func (b *bucket) record(i int) []byte {
	return b.records[i*b.width():][:b.width()]
}

// sorter orders the records of a bucket by digest, then offset, in place.
type sorter struct {
	*bucket
	spare []byte // a record, for Swap
}

func (s *sorter) Len() int { return len(s.records) / s.width() }

func (s *sorter) Less(i, j int) bool {
	a, b := s.record(i), s.record(j)
	if c := bytes.Compare(a[:s.length], b[:s.length]); c != 0 {
		return c < 0
	}
	return binary.LittleEndian.Uint64(a[s.length:]) < binary.LittleEndian.Uint64(b[s.length:])
}

func (s *sorter) Swap(i, j int) {
	a, b := s.record(i), s.record(j)
	copy(s.spare, a)
	copy(a, b)
	copy(b, s.spare)
}
