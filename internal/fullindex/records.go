package fullindex

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/multiformats/go-multihash"

	"github.com/filecoin-project/dagstore/internal/mapped"
)

// chunkSize is how many bytes of records are gone through at once, about.
const chunkSize = 1 << 20

// chunks calls visit with all records of a bucket, in their order, part by part.
// It runs under guarded.
func (x *Index) chunks(b *bucket, visit func(list) error) error {
	step := max(1, int64(chunkSize/b.width))
	resident := x.resident()
	var buf []byte
	for i := int64(0); i < b.count; i += step {
		n := min(step, b.count-i)
		at, length := b.at+i*int64(b.width), n*int64(b.width)
		var records []byte
		if resident != nil {
			records = resident[at : at+length]
			x.readAhead(records)
		} else {
			if buf == nil {
				buf = make([]byte, length)
			}
			records = buf[:length]
			if err := x.read(records, at); err != nil {
				return err
			}
		}
		if err := visit(list{records: records, width: b.width}); err != nil {
			return err
		}
	}
	return nil
}

// readAhead makes up for what mapped.Random costs who reads all.
func (x *Index) readAhead(records []byte) {
	if x.data != nil {
		mapped.WillNeed(records)
	}
}

// read fills p with bytes of the index.
func (x *Index) read(p []byte, at int64) error {
	n, err := x.reader().ReadAt(p, at)
	if n == len(p) {
		return nil
	}
	if err == nil || errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	return faulty(err)
}

// EachRecord visits all records by code, digest length, digest and offset. The
// digests are valid during the visit only. It allocates nothing if the index is
// in memory or mapped.
func (x *Index) EachRecord(visit func(Record) error) error {
	return x.guarded(func() error {
		for i := range x.buckets {
			b := &x.buckets[i]
			err := x.chunks(b, func(l list) error { return l.each(b.code, visit) })
			if err != nil {
				return err
			}
		}
		return nil
	})
}

func (l list) each(code uint64, visit func(Record) error) error {
	records, digest := l.records, l.width-OffsetSize
	for len(records) >= l.width {
		r := Record{Code: code, Digest: records[:digest:digest], Offset: binary.LittleEndian.Uint64(records[digest:])}
		if err := visit(r); err != nil {
			return err
		}
		records = records[l.width:]
	}
	return nil
}

// Each visits the multihashes and offsets of all records, in the order of
// EachRecord. The visitor may keep the multihashes. An index of the format 0x0400
// does not tell them: errors.ErrUnsupported.
func (x *Index) Each(visit func(multihash.Multihash, uint64) error) error {
	if err := x.tells(); err != nil {
		return err
	}
	return x.EachRecord(func(r Record) error { return visit(newMultihash(r.Code, r.Digest), r.Offset) })
}

// tells returns an error if the index does not tell its multihashes.
func (x *Index) tells() error {
	if _, ok := x.CarIndex().(iterable); !ok {
		return fmt.Errorf("an index of codec %s does not tell its multihashes: %w", x.codec, errors.ErrUnsupported)
	}
	return nil
}

func newMultihash(code uint64, digest []byte) multihash.Multihash {
	h := make([]byte, 0, 2*binary.MaxVarintLen64+len(digest))
	h = binary.AppendUvarint(h, code)
	h = binary.AppendUvarint(h, uint64(len(digest)))
	return append(h, digest...)
}

// Record returns the i-th record in the order of EachRecord. The digest is the
// caller's.
func (x *Index) Record(i int64) (Record, error) {
	b := x.bucketAt(i)
	if b == nil {
		return Record{}, fmt.Errorf("record %d of %d", i, x.records)
	}
	record := make([]byte, b.width)
	if err := x.read(record, b.at+(i-b.first)*int64(b.width)); err != nil {
		return Record{}, err
	}
	l := list{records: record, width: b.width}
	return Record{Code: b.code, Digest: l.digest(0), Offset: l.offset(0)}, nil
}

// bucketAt returns the bucket of the i-th record.
func (x *Index) bucketAt(i int64) *bucket {
	for k := range x.buckets {
		if b := &x.buckets[k]; i >= b.first && i < b.first+b.count {
			return b
		}
	}
	return nil
}

// Multihashes returns up to n multihashes, at least one, from the record at the
// position from on, in the order of EachRecord, and none after the last. It holds
// nothing when it has returned.
func (x *Index) Multihashes(from int64, n int) ([]multihash.Multihash, error) {
	if err := x.tells(); err != nil {
		return nil, err
	}
	b := x.bucketAt(from)
	if b == nil {
		return nil, nil
	}
	i := from - b.first
	n = int(min(int64(n), b.count-i, max(1, chunkSize/int64(b.width))))
	records := make([]byte, n*b.width)
	if err := x.read(records, b.at+i*int64(b.width)); err != nil {
		return nil, err
	}
	l := list{records: records, width: b.width}
	hashes := make([]multihash.Multihash, n)
	for k := range hashes {
		hashes[k] = newMultihash(b.code, l.digest(k))
	}
	return hashes, nil
}
