package layer

import (
	"encoding/binary"
	"math/bits"
	"sync/atomic"
)

// A summary is what is kept of a partition from its first use on.
type summary struct {
	table   list
	filter  filter
	checked []atomic.Uint64 // a bit for each page: its checksum was right
}

// AppendShards appends the shards of a fingerprint to dst, ascending. After an
// error nothing is appended. The caller sees to it that the Layer is not closed
// meanwhile, and that a fault in Mapping becomes an error.
func (l *Layer) AppendShards(dst []uint32, f Fingerprint) ([]uint32, error) {
	var p probe
	m, ok, err := l.find(&p, f)
	if !ok {
		return dst, err
	}
	shards := dst
	for {
		shard, ok, err := m.next()
		if err != nil {
			return dst, err
		}
		if !ok {
			return shards, nil
		}
		shards = append(shards, shard)
	}
}

// Contains tells whether any shard has the fingerprint. The caller sees to the same
// things as with AppendShards.
func (l *Layer) Contains(f Fingerprint) (bool, error) {
	var p probe
	m, ok, err := l.find(&p, f)
	if !ok {
		return false, err
	}
	_, ok, err = m.next()
	return ok, err
}

// find makes p the probe of f and returns its matches. If the filter says that there
// are none it returns false, and costs next to nothing.
func (l *Layer) find(p *probe, f Fingerprint) (m matches, ok bool, err error) {
	ok, err = l.begin(p, f)
	if !ok || !p.summary.filter.mayHave(f.Hi) {
		return matches{}, false, err
	}
	p.aim(p.guessPage())
	m, err = l.search(p)
	return m, err == nil, err
}

// A probe is the search for a fingerprint in the partition that may have it.
type probe struct {
	fingerprint Fingerprint
	part        *partition
	summary     *summary
	page        int // records with this Hi begin on it, or at the start of the next one
	record      int // about where they begin on the page; up to as many as it has
}

// begin makes p the probe of f. It returns false if no partition may have it.
func (l *Layer) begin(p *probe, f Fingerprint) (bool, error) {
	part := l.partition(f.Hi)
	if part == nil {
		return false, nil
	}
	s := part.summary.Load()
	if s == nil {
		var err error
		if s, err = l.summarize(part); err != nil {
			return false, err
		}
	}
	p.fingerprint, p.part, p.summary = f, part, s
	return true, nil
}

// partition returns the one partition that records with hi can be in, nil if there
// is none. It walks there from where it is among uniform fingerprints, since all
// partitions but the last have as many records. That is rarely off, and by one: so
// a processor foresees the way, which it cannot in a binary search.
func (l *Layer) partition(hi uint64) *partition {
	place, _ := bits.Mul64(hi, uint64(l.records))
	i := min(int(place/partitionRecords), len(l.parts)-1)
	for i >= 0 && l.parts[i].first > hi {
		i--
	}
	for i+1 < len(l.parts) && l.parts[i+1].first <= hi {
		i++
	}
	if i < 0 || hi > l.parts[i].last {
		return nil
	}
	return &l.parts[i]
}

// guessPage returns about where in the table the page is.
func (p *probe) guessPage() int {
	return guess(p.fingerprint.Hi, p.part.first, p.part.last, p.part.pages)
}

// aim finds the page around the guess, and guesses the record. It reads the table only.
func (p *probe) aim(page int) {
	hi, table := p.fingerprint.Hi, &p.summary.table
	p.page = max(table.firstFrom(hi, page)-1, 0)
	last := p.part.last
	if p.page+1 < p.part.pages {
		last = table.hi(p.page + 1)
	}
	p.record = guess(hi, table.hi(p.page), last, p.part.recordsOf(p.page))
}

// search returns the matches from the first record on whose Hi is not below that of
// the probe, which has been aimed.
func (l *Layer) search(p *probe) (matches, error) {
	records, err := l.page(p.part, p.summary, p.page)
	if err != nil {
		return matches{}, err
	}
	in := list{bytes: records, width: recordSize, count: len(records) / recordSize}
	at := in.firstFrom(p.fingerprint.Hi, p.record)
	return matches{l, p, records[at*recordSize:]}, nil
}

// matches are the records of a fingerprint that were not taken yet.
type matches struct {
	layer *Layer
	*probe
	records []byte // the records of the page that were not looked at
}

// next takes a match. Once it has returned false there are no more.
func (m *matches) next() (shard uint32, ok bool, err error) {
	for {
		for len(m.records) > 0 {
			r := decode(m.records)
			m.records = m.records[recordSize:]
			if r.Fingerprint == m.fingerprint {
				return r.Shard, true, nil
			}
			if r.Fingerprint.Compare(m.fingerprint) > 0 {
				return 0, false, nil
			}
		}
		m.page++
		if m.page >= m.part.pages || m.summary.table.hi(m.page) != m.fingerprint.Hi {
			return 0, false, nil
		}
		if m.records, err = m.layer.page(m.part, m.summary, m.page); err != nil {
			return 0, false, err
		}
	}
}

// page returns the records of the i-th page of a partition.
func (l *Layer) page(p *partition, s *summary, i int) ([]byte, error) {
	at := p.at + int64(i)*pageSize
	if l.resident == nil {
		return l.readPage(p, i)
	}
	page := l.resident[at : at+pageSize]
	word, bit := &s.checked[i/64], uint64(1)<<(i%64)
	if word.Load()&bit == 0 {
		if err := checkPage(page, at); err != nil {
			return nil, err
		}
		word.Or(bit)
	}
	return page[:p.recordsOf(i)*recordSize], nil
}

func (l *Layer) readPage(p *partition, i int) ([]byte, error) {
	page := make([]byte, pageSize)
	at := p.at + int64(i)*pageSize
	if err := readFull(l.src, page, at); err != nil {
		return nil, err
	}
	if err := checkPage(page, at); err != nil {
		return nil, err
	}
	return page[:p.recordsOf(i)*recordSize], nil
}

func checkPage(page []byte, at int64) error {
	if checksum(page[:pageCRC]) != binary.LittleEndian.Uint32(page[pageCRC:]) {
		return damaged("wrong checksum of the page at byte %d", at)
	}
	return nil
}

// summarize makes the summary of a partition, from the file if it is resident and
// else from a copy that is kept.
func (l *Layer) summarize(p *partition) (*summary, error) {
	var b []byte
	if l.resident != nil {
		b = l.resident[p.tableAt():p.end()]
	} else {
		b = make([]byte, p.summarySize())
		if err := readFull(l.src, b, p.tableAt()); err != nil {
			return nil, err
		}
	}
	s, err := p.summarize(b)
	if err != nil {
		return nil, err
	}
	if !p.summary.CompareAndSwap(nil, s) {
		s = p.summary.Load() // somebody else was faster
	}
	return s, nil
}

// summarize makes the summary from the bytes of table and filter, which it checks
// and keeps.
func (p *partition) summarize(b []byte) (*summary, error) {
	if checksum(b) != p.crc {
		return nil, damaged("wrong checksum of the table and filter at byte %d", p.tableAt())
	}
	n := p.tableSize()
	return &summary{
		table:   list{bytes: b[:n], width: tableEntry, count: p.pages},
		filter:  p.filter.over(b[n:]),
		checked: make([]atomic.Uint64, (p.pages+63)/64),
	}, nil
}
