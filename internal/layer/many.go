package layer

import "encoding/binary"

// MaxTogether is how many fingerprints can be looked up together.
const MaxTogether = 32

// A Match is that a shard has one of the fingerprints that are looked up together.
type Match struct {
	At    uint32 // the place of the fingerprint among them
	Shard uint32
}

// AppendMatches appends the matches of up to MaxTogether fingerprints to dst, one
// fingerprint after the other, the shards of each ascending. Otherwise it is like
// AppendShards, in less time: it takes each step of a look-up for all of them before
// the next step, so that a processor waits for the memory of many at once.
func (l *Layer) AppendMatches(dst []Match, fs []Fingerprint) ([]Match, error) {
	var room [MaxTogether]together
	n, err := l.sift(&room, fs)
	if err != nil {
		return dst, err
	}
	probes := room[:n]
	for i := range probes {
		probes[i].touchTable()
	}
	for i := range probes {
		probes[i].aim(probes[i].page)
	}
	for i := range probes {
		probes[i].touchRecord(l.resident)
	}
	all := dst
	for i := range probes {
		if all, err = l.appendMatches(all, &probes[i]); err != nil {
			return dst, err
		}
	}
	return all, nil
}

// A together is a probe of those that take each step together.
type together struct {
	probe
	at      uint32
	touched uint64 // what was read to have the processor get it, and what is around it
}

// sift makes probes of the fingerprints that no filter rules out, and returns how
// many there are.
func (l *Layer) sift(probes *[MaxTogether]together, fs []Fingerprint) (int, error) {
	var spots [MaxTogether]spot
	n := 0
	for i, f := range fs {
		p := &probes[n]
		ok, err := l.begin(&p.probe, f)
		if err != nil {
			return 0, err
		}
		if ok {
			p.at = uint32(i)
			spots[n] = p.summary.filter.spot(f.Hi)
			n++
		}
	}
	// Nothing depends on an answer before all filters are asked.
	var mayHave [MaxTogether]bool
	for i := range n {
		mayHave[i] = probes[i].summary.filter.agrees(spots[i])
	}
	left := 0
	for i := range n {
		if mayHave[i] {
			probes[left] = probes[i]
			left++
		}
	}
	return left, nil
}

// touchTable guesses the page and touches the table there.
func (p *together) touchTable() {
	p.page = p.guessPage()
	p.touched = p.summary.table.hi(min(p.page, p.part.pages-1))
}

// touchRecord touches the record that was guessed, if the file is resident.
func (p *together) touchRecord(file []byte) {
	if file != nil {
		page := file[p.part.at+int64(p.page)*pageSize:]
		p.touched = binary.LittleEndian.Uint64(page[min(p.record, pageRecords-1)*recordSize:])
	}
}

// appendMatches appends the matches of a probe that has been aimed.
func (l *Layer) appendMatches(dst []Match, p *together) ([]Match, error) {
	m, err := l.search(&p.probe)
	if err != nil {
		return dst, err
	}
	for {
		shard, ok, err := m.next()
		if !ok || err != nil {
			return dst, err
		}
		dst = append(dst, Match{p.at, shard})
	}
}
