package fullindex

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"fmt"
	"io/fs"
	"slices"

	"github.com/multiformats/go-multihash"

	"github.com/filecoin-project/dagstore/internal/mapped"
)

// Compare compares two multihashes as an index orders them: by code, digest length
// and digest. What is no multihash comes before all that are, by its bytes.
func Compare(a, b multihash.Multihash) int {
	codeA, digestA, soundA := split(a)
	codeB, digestB, soundB := split(b)
	switch {
	case soundA && soundB:
		return cmp.Or(cmp.Compare(codeA, codeB), cmp.Compare(len(digestA), len(digestB)), bytes.Compare(digestA, digestB))
	case soundA:
		return 1
	case soundB:
		return -1
	}
	return bytes.Compare(a, b)
}

// windowSize is how many bytes of the records of a range are gone through at once,
// unless a single record is longer. Who wants a few does not pay for many.
const windowSize = 64 << 10

// EachInRange visits the multihashes that come after one and not after another, with
// their offsets, in the order of EachRecord, until visit returns false. An empty
// bound is none; one that is not a multihash is an error. The first is found by a
// search. The multihash is valid during the visit only. Close waits for the visits.
func (x *Index) EachInRange(after, through multihash.Multihash, visit func(h multihash.Multihash, offset uint64) bool) error {
	if err := x.tells(); err != nil {
		return err
	}
	w := walk{index: x, visit: visit}
	var err error
	if w.after, err = newBound(after); err != nil {
		return err
	}
	if w.through, err = newBound(through); err != nil {
		return err
	}
	return x.guarded(func() error {
		for i := range x.buckets {
			if more, err := w.bucket(&x.buckets[i]); err != nil || !more {
				return err
			}
		}
		return x.whole()
	})
}

// A bound is a multihash behind which a range begins or ends.
type bound struct {
	code   uint64
	length int    // of the digest
	next   string // the next digest of this length, empty if there is none
}

// newBound returns nil for no bound.
func newBound(hash multihash.Multihash) (*bound, error) {
	if len(hash) == 0 {
		return nil, nil
	}
	code, digest, ok := split(hash)
	if !ok {
		return nil, fmt.Errorf("the bound %x of a range is not a multihash", []byte(hash))
	}
	return &bound{code, len(digest), successor(digest)}, nil
}

// successor returns the next digest of the same length, an empty one if there is
// none.
func successor(digest []byte) string {
	next := bytes.Clone(digest)
	for i := len(next) - 1; i >= 0; i-- {
		if next[i]++; next[i] != 0 {
			return string(next)
		}
	}
	return ""
}

// A walk goes through the records of a range.
type walk struct {
	index          *Index
	after, through *bound
	visit          func(multihash.Multihash, uint64) bool
	window         []byte // see Index.list
	hash           []byte // the multihash that is visited
}

// bucket visits the records of a bucket that are in the range. It returns false when
// the visits have ended.
func (w *walk) bucket(b *bucket) (more bool, err error) {
	at, err := w.index.behind(b, w.after, 0)
	if err != nil {
		return false, err
	}
	end, err := w.index.behind(b, w.through, b.count)
	if err != nil {
		return false, err
	}
	step := int64(max(1, windowSize/b.width))
	for ; at < end; at += step {
		if w.index.closed() {
			return false, fs.ErrClosed
		}
		l, err := w.index.list(b, at, min(step, end-at), &w.window)
		if err != nil {
			return false, err
		}
		if w.index.Mapping() != nil {
			mapped.WillNeed(l.records)
		}
		if more, err := w.records(b.code, l); err != nil || !more {
			return false, err
		}
	}
	return true, nil
}

// records visits records of one code.
func (w *walk) records(code uint64, l list) (more bool, err error) {
	width, length := l.width, l.width-OffsetSize
	w.hash = AppendMultihash(w.hash[:0], code, l.digest(0))
	hash := slices.Clip(w.hash)
	digest, visit := hash[len(hash)-length:], w.visit
	for at := 0; at < len(l.records); at += width {
		record := l.records[at : at+width : at+width]
		offset := binary.LittleEndian.Uint64(record[length:])
		if offset == 0 {
			return false, errNoOffset
		}
		copy(digest, record)
		if !visit(hash, offset) {
			return false, nil
		}
	}
	return true, nil
}

// behind returns the first record of b that comes after a bound, and otherwise if
// there is no bound.
func (x *Index) behind(b *bucket, bound *bound, otherwise int64) (int64, error) {
	if bound == nil {
		return otherwise, nil
	}
	switch order := cmp.Or(cmp.Compare(b.code, bound.code), cmp.Compare(b.width, bound.length+OffsetSize)); {
	case order > 0:
		return 0, nil
	case order < 0 || bound.next == "":
		return b.count, nil
	}
	at, before, err := x.search(b, bound.next)
	if err == nil && before == 0 { // as in Find: the search went wrong
		err = errNoOffset
	}
	return at, err
}

// search returns the first record of b whose digest is not less than digest, and the
// offset of the one before, 1 if there is none.
func (x *Index) search(b *bucket, digest string) (at int64, before uint64, err error) {
	resident := x.resident()
	if resident == nil {
		r := newReading(x, b)
		defer r.end()
		return r.search(digest)
	}
	l := newList(resident[b.at:b.at+b.count*int64(b.width)], b.width)
	i := b.place(&l, digest)
	if i == 0 {
		return 0, 1, nil
	}
	return int64(i), l.offset(i - 1), nil
}
