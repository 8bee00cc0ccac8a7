package fullindex

import (
	"math/bits"
)

// pageSize is how many bytes of records are read at once where they are not
// resident, about.
const pageSize = 4 << 10

// A reading is a search in records that are read as they are needed.
type reading struct {
	index  *Index
	bucket *bucket
	page   []byte
}

// findInFile is Find for an index that is neither in memory nor mapped. It reads
// pages of records: where the digest would be if digests were uniform, and then,
// within the bounds that are known by then, in turn where it would be and in the
// middle, so that it takes a logarithmic time on any digests.
func (x *Index) findInFile(b *bucket, digest string) (offsets []uint64, err error) {
	r := &reading{index: x, bucket: b, page: make([]byte, max(1, pageSize/b.width)*b.width)}
	key := keyOf(digest)
	lo, hi := int64(0), b.count // all records before lo are less, none from hi on is
	for try := 0; lo < hi; try++ {
		middle := lo + (hi-lo)/2
		if try%2 == 0 {
			at, _ := bits.Mul64(key, uint64(b.count))
			middle = min(max(int64(at), lo), hi-1)
		}
		start, l, err := r.around(middle)
		if err != nil {
			return nil, err
		}
		switch i := int64(l.search(digest)); {
		case i == int64(l.count()):
			lo = start + i
		case i == 0:
			hi = start
		default:
			lo, hi = start+i, start+i
		}
	}
	return r.from(lo, digest)
}

// around reads the page of records with the i-th near its middle, and returns
// where it begins.
func (r *reading) around(i int64) (start int64, l list, err error) {
	n := int64(len(r.page) / r.bucket.width)
	start = max(0, min(i-n/2, r.bucket.count-n))
	l, err = r.at(start)
	return start, l, err
}

// at reads the page of records that begins with the i-th.
func (r *reading) at(i int64) (list, error) {
	width := int64(r.bucket.width)
	page := r.page[:min(int64(len(r.page)), (r.bucket.count-i)*width)]
	if err := r.index.read(page, r.bucket.at+i*width); err != nil {
		return list{}, err
	}
	return list{records: page, width: r.bucket.width}, nil
}

// from returns the offsets of the records with the digest, the first of which is
// the i-th, if there is one.
func (r *reading) from(i int64, digest string) (offsets []uint64, err error) {
	for ; i < r.bucket.count; i += int64(len(r.page) / r.bucket.width) {
		l, err := r.at(i)
		if err != nil {
			return nil, err
		}
		for k := range l.count() {
			if string(l.digest(k)) != digest {
				return offsets, nil
			}
			offsets = append(offsets, l.offset(k))
		}
	}
	return offsets, nil
}
