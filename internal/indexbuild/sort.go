package indexbuild

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"math/bits"
	"slices"
	"sort"
)

const (
	// usualWidth is the width of records with digests of 32 bytes, for which
	// there are loops of their own.
	usualWidth = 32 + offsetSize
	// maxRun is the number of records up to which insertion sort is used.
	maxRun = 32
	// maxBits bounds the table of a counting sort.
	maxBits = 14
)

// compareRecords gives the order of records of one shape: by digest, then offset.
func compareRecords(a, b []byte) int {
	n := len(a) - offsetSize
	if c := bytes.Compare(a[:n], b[:n]); c != 0 {
		return c
	}
	return cmp.Compare(offsetOf(a), offsetOf(b))
}

// copyRecord copies a record to the beginning of to. Those of the usual width
// are copied without a call.
func copyRecord(to, from []byte, width int) {
	if width == usualWidth {
		record := [usualWidth]byte(from)
		*(*[usualWidth]byte)(to) = record
		return
	}
	copy(to, from[:width])
}

// prefixMask covers the bytes of a digest among the first 8 of a record, read
// as a big-endian number.
func prefixMask(length int) uint64 {
	if length >= 8 {
		return ^uint64(0)
	}
	return ^(^uint64(0) >> (8 * length))
}

// A sorter sorts records. It keeps its memory for the next time.
type sorter struct {
	counts []uint32
	spare  []byte
}

// run sorts the records of a task, by counting those of each digit if there are
// many.
func (s *sorter) run(t task) {
	d, p := digitOf(t), t.from
	if p == nil {
		p = &partition{open: t.out}
		if d.bits > 0 {
			s.spare = append(s.spare[:0], t.out...)
			p.open = s.spare
		}
	}
	if d.bits > 0 {
		s.gather(d, p, t.width(), t.out)
	} else if t.from != nil {
		at := 0
		for c := range p.chunks {
			at += copy(t.out[at:], c)
		}
	}
	s.finish(d, t.out, t.width())
}

// gather copies the records of a partition to out in the order of a digit.
func (s *sorter) gather(d digit, p *partition, width int, out []byte) {
	s.reset(d)
	for c := range p.chunks {
		s.count(d, c, width)
	}
	s.sum()
	for c := range p.chunks {
		s.scatter(d, c, width, out)
	}
}

// A digit is some bits of a digest, by which a counting sort orders.
type digit struct {
	mask  uint64 // of the bits, in the first 8 bytes of a record
	shift int
	bits  int
}

// digitOf chooses the bits after those that the digests have in common: so many
// that about one record has each value, if digests are random. None if
// there are few records or no such bits.
func digitOf(t task) digit {
	records := len(t.out) / t.width()
	if records <= maxRun || 8*t.length <= t.common {
		return digit{}
	}
	n := min(bits.Len(uint(records)), maxBits, 8*t.length-t.common)
	shift := 64 - t.common - n
	return digit{mask: (1<<n - 1) << shift, shift: shift, bits: n}
}

func (d digit) of(record []byte) uint64 {
	return binary.BigEndian.Uint64(record) & d.mask >> d.shift
}

// reset begins to count.
func (s *sorter) reset(d digit) {
	n := 1<<d.bits + 1
	if cap(s.counts) < n {
		s.counts = make([]uint32, n)
	}
	s.counts = s.counts[:n]
	clear(s.counts)
}

func (s *sorter) count(d digit, records []byte, width int) {
	for ; len(records) >= width; records = records[width:] {
		s.counts[d.of(records)+1]++
	}
}

// sum turns the number of records of each digit into the place of its first one.
func (s *sorter) sum() {
	sum := uint32(0)
	for i, n := range s.counts {
		sum += n
		s.counts[i] = sum
	}
}

func (s *sorter) scatter(d digit, records []byte, width int, out []byte) {
	counts := s.counts
	for ; len(records) >= width; records = records[width:] {
		v := d.of(records)
		copyRecord(out[int(counts[v])*width:], records, width)
		counts[v]++
	}
}

// finish sorts records that are in the order of a digit. Where many share a
// digit, digests are not random, and insertion would take for ever.
func (s *sorter) finish(d digit, out []byte, width int) {
	if d.bits == 0 {
		if len(out) > maxRun*width {
			s.compareSort(out, width)
			return
		}
	} else {
		first := uint32(0)
		for _, end := range s.counts[:1<<d.bits] {
			if end-first > maxRun {
				s.compareSort(out[int(first)*width:int(end)*width], width)
			}
			first = end
		}
	}
	s.insert(out, width)
}

// insert is an insertion sort. Most comparisons are of the first bytes only.
func (s *sorter) insert(out []byte, width int) {
	if len(out) <= width {
		return
	}
	s.spare = slices.Grow(s.spare[:0], width)[:width]
	record := s.spare // that is moved
	mask := prefixMask(width - offsetSize)
	greatest := binary.BigEndian.Uint64(out) & mask // of those sorted so far
	for i := width; i < len(out); i += width {
		key := binary.BigEndian.Uint64(out[i:]) & mask
		if greatest < key || greatest == key && compareRecords(out[i-width:i], out[i:i+width]) <= 0 {
			greatest = key
			continue
		}
		copyRecord(record, out[i:], width)
		j := i
		for ; j > 0; j -= width {
			left := binary.BigEndian.Uint64(out[j-width:]) & mask
			if left < key || left == key && compareRecords(out[j-width:j], record) <= 0 {
				break
			}
			copyRecord(out[j:], out[j-width:], width)
		}
		copyRecord(out[j:], record, width)
	}
}

// compareSort sorts in n log n steps whatever the records are. Records that are
// sorted already, as copies of one block in ascending order are, take n.
func (s *sorter) compareSort(records []byte, width int) {
	if cap(s.spare) < width {
		s.spare = make([]byte, width)
	}
	order := byRecord{records, width, s.spare[:width]}
	if !sort.IsSorted(&order) {
		sort.Sort(&order)
	}
}

// byRecord orders records in place.
type byRecord struct {
	records []byte
	width   int
	spare   []byte // a record, for Swap
}

func (r *byRecord) record(i int) []byte { return r.records[i*r.width:][:r.width] }

func (r *byRecord) Len() int           { return len(r.records) / r.width }
func (r *byRecord) Less(i, j int) bool { return compareRecords(r.record(i), r.record(j)) < 0 }
func (r *byRecord) Swap(i, j int) {
	a, b := r.record(i), r.record(j)
	copy(r.spare, a)
	copy(a, b)
	copy(b, r.spare)
}
