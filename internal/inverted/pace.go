package inverted

import "time"

const (
	worked = time.Millisecond // what merging works before it looks whether to rest
	rests  = 4                // how many times as long it rests then: it has a fifth of a core

	// crowded is how many layers make merging more urgent than the calls beside it,
	// and small merges more urgent than a large one.
	crowded = 64
)

// A pace slows merging down while there are calls beside it.
type pace struct {
	index *Index
	since time.Time // when it has begun to work
	calls uint64    // how many there were then
}

func (x *Index) newPace() *pace {
	return &pace{index: x, since: time.Now(), calls: x.total()}
}

// rest is called often. It returns at once, or after a rest.
func (p *pace) rest() {
	work := time.Since(p.since)
	if work < worked {
		return
	}
	calls := p.index.total()
	isAlone := calls == p.calls
	p.calls = calls
	if !isAlone && len(p.index.view.Load().tables) < crowded {
		p.index.sleep(rests*min(work, 10*worked), nil)
	}
	p.since = time.Now()
}
