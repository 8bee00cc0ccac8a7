package indexbuild

import (
	"encoding/binary"
	"slices"
)

// A cursor stands at a record of a sorted sequence.
type cursor struct {
	key     uint64 // the first bytes of the digest
	records []byte // those in memory, from the current one on; none at the end
	more    *reader
}

// A merge merges sorted sequences of records of one shape, with a tree of
// losers: each inner node has the cursor that lost there, and the winner of
// all is at the root.
type merge struct {
	width   int
	mask    uint64
	cursors []cursor
	losers  []int
	winners []int // used while the tree is built
}

// reset begins a merge of records of a shape, with no sequence.
func (m *merge) reset(s shape) {
	m.width, m.mask = s.width(), prefixMask(s.length)
	clear(m.cursors)
	m.cursors = m.cursors[:0]
}

// memory adds a sequence in memory, and stored one that is read.
func (m *merge) memory(records []byte) { m.cursors = append(m.cursors, cursor{records: records}) }
func (m *merge) stored(r *reader)      { m.cursors = append(m.cursors, cursor{more: r}) }

// to writes all records in order. The emitter's buffer must have room for one.
func (m *merge) to(e *emitter) error {
	if len(m.cursors) == 1 {
		return m.copy(e)
	}
	for i := range m.cursors {
		if err := m.load(&m.cursors[i]); err != nil {
			return err
		}
	}
	winner := m.build()
	for {
		c := &m.cursors[winner]
		if len(c.records) == 0 {
			return nil
		}
		n := len(e.buffer)
		if n >= mergeBuffer || cap(e.buffer)-n < m.width {
			if err := e.flush(); err != nil {
				return err
			}
			n = 0
		}
		e.buffer = e.buffer[:n+m.width]
		copyRecord(e.buffer[n:], c.records, m.width)
		c.records = c.records[m.width:]
		if err := m.load(c); err != nil {
			return err
		}
		winner = m.replay(winner)
	}
}

// copy writes the only sequence.
func (m *merge) copy(e *emitter) error {
	c := &m.cursors[0]
	for {
		if err := m.load(c); err != nil || len(c.records) == 0 {
			return err
		}
		if _, err := e.Write(c.records); err != nil {
			return err
		}
		c.records = nil
	}
}

// load sets the key of the current record, which is read if it must be.
func (m *merge) load(c *cursor) error {
	if len(c.records) == 0 {
		if c.more == nil {
			return nil
		}
		records, err := c.more.records()
		if err != nil || len(records) == 0 {
			c.records = nil
			return err
		}
		c.records = records
	}
	c.key = binary.BigEndian.Uint64(c.records) & m.mask
	return nil
}

// before tells whether the a-th cursor comes before the b-th.
func (m *merge) before(a, b int) bool {
	x, y := &m.cursors[a], &m.cursors[b]
	switch {
	case len(x.records) == 0 || len(y.records) == 0:
		return len(x.records) > 0
	case x.key != y.key:
		return x.key < y.key
	}
	return compareRecords(x.records[:m.width], y.records[:m.width]) < 0
}

// build makes the tree and returns the winner. Cursor i is leaf n+i, and the
// parent of node j is j/2.
func (m *merge) build() int {
	n := len(m.cursors)
	m.losers = slices.Grow(m.losers[:0], n)[:n]
	m.winners = slices.Grow(m.winners[:0], 2*n)[:2*n]
	winners := m.winners
	for i := range n {
		winners[n+i] = i
	}
	for j := n - 1; j > 0; j-- {
		a, b := winners[2*j], winners[2*j+1]
		if m.before(b, a) {
			a, b = b, a
		}
		winners[j], m.losers[j] = a, b
	}
	return winners[1]
}

// replay plays the matches of the cursor that has moved and returns the winner.
func (m *merge) replay(winner int) int {
	for j := (len(m.cursors) + winner) / 2; j > 0; j /= 2 {
		if m.before(m.losers[j], winner) {
			m.losers[j], winner = winner, m.losers[j]
		}
	}
	return winner
}
