package fullindex

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"sort"
	"sync"

	"github.com/multiformats/go-multicodec"
	"github.com/multiformats/go-multihash"

	"github.com/filecoin-project/dagstore/internal/mapped"
)

// chunkSize is how many bytes of records are gone through at once, unless a single
// record is longer.
const chunkSize = 1 << 20

// A chunk is some records of a bucket that follow each other.
type chunk struct {
	list
	code  uint64
	first int64 // the position of the first in its bucket
}

// pass visits all records in their order, chunk by chunk.
func (x *Index) pass(visit func(chunk) error) error {
	return x.guarded(func() error {
		x.passes.begin(x.Mapping())
		defer x.passes.end(x.Mapping())
		for i := range x.buckets {
			if err := x.passBucket(&x.buckets[i], visit); err != nil {
				return err
			}
		}
		return x.whole()
	})
}

func (x *Index) passBucket(b *bucket, visit func(chunk) error) error {
	step := max(1, int64(chunkSize/b.width))
	var buf []byte
	for i := int64(0); i < b.count; i += step {
		if x.closed() {
			return fs.ErrClosed
		}
		l, err := x.list(b, i, min(step, b.count-i), &buf)
		if err != nil {
			return err
		}
		if err := visit(chunk{list: l, code: b.code, first: i}); err != nil {
			return err
		}
	}
	return nil
}

// list returns n records of b from the i-th on, where they are or read into buf,
// which is made if it is too short.
func (x *Index) list(b *bucket, i, n int64, buf *[]byte) (list, error) {
	at, length := b.at+i*int64(b.width), n*int64(b.width)
	if resident := x.resident(); resident != nil {
		return newList(resident[at:at+length], b.width), nil
	}
	if int64(len(*buf)) < length {
		*buf = make([]byte, length)
	}
	records := (*buf)[:length]
	if err := x.read(records, at); err != nil {
		return list{}, err
	}
	return newList(records, b.width), nil
}

// passes counts those in progress, during which the system reads ahead from the
// disk. Otherwise it reads single pages, for the sake of look-ups: a look-up in a
// file that is not in memory takes two page reads then.
type passes struct {
	mu sync.Mutex // guards n, and makes the advice agree with it
	n  int
}

func (p *passes) begin(mapping []byte) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.n++; p.n == 1 {
		mapped.Sequential(mapping)
	}
}

func (p *passes) end(mapping []byte) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.n--; p.n == 0 {
		mapped.Random(mapping)
	}
}

// whole returns an error if the file was cut while it was read from the mapping.
func (x *Index) whole() error {
	if x.Mapping() == nil {
		return nil
	}
	return unsound(x.data.Reaches(x.size))
}

// EachRecord visits all records by code, digest length, digest, and then as they
// are in the file: by offset, unless go-car wrote it. The digests are valid during
// the visit only. It allocates nothing if the index is in memory or mapped. Close
// waits for the visits of up to a megabyte of records.
func (x *Index) EachRecord(visit func(code uint64, digest []byte, offset uint64) error) error {
	return x.pass(func(c chunk) error { return c.each(visit) })
}

func (c *chunk) each(visit func(code uint64, digest []byte, offset uint64) error) error {
	width, digest := c.width, c.width-OffsetSize
	for at := 0; at < len(c.records); at += width {
		record := c.records[at : at+width : at+width]
		offset := binary.LittleEndian.Uint64(record[digest:])
		if offset == 0 {
			return errNoOffset
		}
		if err := visit(c.code, record[:digest:digest], offset); err != nil {
			return err
		}
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
	return x.EachRecord(func(code uint64, digest []byte, offset uint64) error {
		hash := make([]byte, 0, multihashSize(code, len(digest)))
		return visit(AppendMultihash(hash, code, digest), offset)
	})
}

// tells returns an error if the index does not tell its multihashes.
func (x *Index) tells() error {
	if x.codec == multicodec.CarMultihashIndexSorted {
		return nil
	}
	return fmt.Errorf("an index of codec %s does not tell its multihashes: %w", x.codec, errors.ErrUnsupported)
}

// Record returns the i-th record in the order of EachRecord. The digest is the
// caller's.
func (x *Index) Record(i int64) (Record, error) {
	b := x.bucketAt(i)
	if b == nil {
		return Record{}, fmt.Errorf("record %d of %d", i, x.records)
	}
	l, err := x.copied(b, i-b.first, 1)
	if err != nil {
		return Record{}, err
	}
	return Record{Code: b.code, Digest: l.digest(0), Offset: l.offset(0)}, nil
}

// Multihashes returns up to n multihashes, but at least one, from the record at the
// position from on, in the order of EachRecord, and none after the last. It holds
// nothing when it has returned. The multihashes share their memory.
func (x *Index) Multihashes(from int64, n int) ([]multihash.Multihash, error) {
	if err := x.tells(); err != nil {
		return nil, err
	}
	b := x.bucketAt(from)
	if b == nil {
		return nil, nil
	}
	i := from - b.first
	count := min(int64(max(n, 1)), b.count-i, max(1, int64(chunkSize/b.width)))
	l, err := x.copied(b, i, count)
	if err != nil {
		return nil, err
	}
	hashes := make([]multihash.Multihash, count)
	all := make([]byte, 0, int(count)*multihashSize(b.code, b.width-OffsetSize))
	for k := range hashes {
		start := len(all)
		all = AppendMultihash(all, b.code, l.digest(k))
		hashes[k] = all[start:len(all):len(all)]
	}
	return hashes, nil
}

// copied returns copies of n records of b from the i-th on.
func (x *Index) copied(b *bucket, i, n int64) (list, error) {
	records := make([]byte, n*int64(b.width))
	if err := x.read(records, b.at+i*int64(b.width)); err != nil {
		return list{}, err
	}
	l := newList(records, b.width)
	for k := range l.count {
		if l.offset(k) == 0 {
			return list{}, errNoOffset
		}
	}
	return l, nil
}

// bucketAt returns the bucket of the i-th record of all, nil if there is none.
func (x *Index) bucketAt(i int64) *bucket {
	if i < 0 || i >= x.records {
		return nil
	}
	after := sort.Search(len(x.buckets), func(k int) bool { return x.buckets[k].first > i })
	return &x.buckets[after-1]
}
