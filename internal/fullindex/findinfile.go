package fullindex

import (
	"slices"
	"sync"
)

// pageSize is how many bytes of records are read at once where they are not in
// memory, unless a single record is longer.
const pageSize = 4 << 10

var pages = sync.Pool{New: func() any { return new([pageSize]byte) }}

// A rest is the records of a bucket from the i-th on, which must be read.
type rest struct {
	index  *Index
	bucket *bucket
	i      int64
}

// findInFile is Find for an index that is neither in memory nor mapped.
func (x *Index) findInFile(b *bucket, digest string) Matches {
	r := newReading(x, b)
	defer r.end()
	m := Matches{digest: digest}
	m.err = r.find(&m)
	return m
}

// next reads the records that follow.
func (m *Matches) next() {
	rest := m.rest
	r := newReading(rest.index, rest.bucket)
	defer r.end()
	if m.err = r.load(rest.i); m.err == nil {
		r.give(m, rest.i)
	}
}

// A reading is a search in records that are read page by page.
type reading struct {
	index  *Index
	bucket *bucket
	pooled *[pageSize]byte
	page   []byte
	start  int64 // the first record on the page
	list   list  // those on the page
}

// newReading returns a reading, which is to be ended.
func newReading(x *Index, b *bucket) reading {
	r := reading{index: x, bucket: b, pooled: pages.Get().(*[pageSize]byte)}
	if r.page = r.pooled[:pageSize/b.width*b.width]; len(r.page) == 0 {
		r.page = make([]byte, b.width)
	}
	return r
}

func (r *reading) end() { pages.Put(r.pooled) }

// load reads the page that begins with the i-th record.
func (r *reading) load(i int64) error {
	width := int64(r.bucket.width)
	page := r.page[:min(int64(len(r.page)), (r.bucket.count-i)*width)]
	if err := r.index.read(page, r.bucket.at+i*width); err != nil {
		return err
	}
	r.start, r.list = i, newList(page, r.bucket.width)
	return nil
}

// loadAround reads a page that has the i-th record, in its middle if possible.
func (r *reading) loadAround(i int64) error {
	n := int64(len(r.page) / r.bucket.width)
	return r.load(max(0, min(i-n/2, r.bucket.count-n)))
}

// find gives m its records. A miss behind a record without an offset is damage, as
// in Find.
func (r *reading) find(m *Matches) error {
	at, before, err := r.search(m.digest)
	if err != nil {
		return err
	}
	if at < r.start || at >= r.start+int64(r.list.count) && at < r.bucket.count {
		if err := r.load(at); err != nil {
			return err
		}
	}
	r.give(m, at)
	if !m.matches() && before == 0 {
		return errNoOffset
	}
	return nil
}

// search returns the first record that is not less than a digest, and the offset of
// the one before. It searches as list.searchFrom does: it looks at the page where
// the digest should be, and goes where the keys there say. If that fails it halves
// what is left, so that it reads a logarithmic number of pages of any digests.
func (r *reading) search(digest string) (lo int64, before uint64, err error) {
	key, guessing := keyOf(digest)
	var g guess
	if guessing {
		g = r.bucket.guess(key)
		defer func() { g.learn(lo) }()
	}
	hi := r.bucket.count // all records before lo are less, none from hi on is
	before = 1           // there is none before the first
	for at, tries := g.at, 0; lo < hi; tries++ {
		if !guessing || tries > 2 {
			at = lo + (hi-lo)/2
		}
		if err := r.loadAround(min(max(at, lo), hi-1)); err != nil {
			return lo, before, err
		}
		i := r.list.search(0, r.list.count, digest)
		if i > 0 {
			lo, before = r.start+int64(i), r.list.offset(i-1)
		}
		if i < r.list.count {
			hi = r.start + int64(i)
		}
		if guessing && lo < hi {
			at = r.toward(key, i)
		}
	}
	return lo, before, nil
}

// toward returns where the digest should be, which is not on the page but before
// (i is 0) or after it.
func (r *reading) toward(key uint64, i int) int64 {
	if i == 0 {
		return r.start - 1 - distance(key, r.list.key(0), r.bucket.count)
	}
	last := r.list.count - 1
	return r.start + int64(i) + distance(key, r.list.key(last), r.bucket.count)
}

// give lets m have its records on the page, from the i-th on, and the one that
// ends them.
func (r *reading) give(m *Matches, i int64) {
	from := int(i - r.start)
	to := from
	for to < r.list.count && string(r.list.digest(to)) == m.digest {
		to++
	}
	m.rest = nil
	if next := r.start + int64(to); to < r.list.count {
		to++
	} else if next < r.bucket.count {
		m.rest = &rest{index: r.index, bucket: r.bucket, i: next}
	}
	m.records = slices.Clone(r.list.records[from*r.bucket.width : to*r.bucket.width])
}
