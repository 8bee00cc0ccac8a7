package dagstore

import (
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/filecoin-project/dagstore/shard"
)

// A membership is which shards the top-level index holds, and which it lacks: their
// full indices answer until they are added. A damaged index lacks all shards.
type membership struct {
	now atomic.Pointer[standing]

	mu      sync.Mutex // guards what follows, and makes changes of now follow each other; look-ups do not take it
	held    map[shard.Key]struct{}
	lacking map[shard.Key]*lackingShard
	closed  bool

	indices *lackingIndices
}

// A standing is what look-ups have to know of a membership. It never changes.
type standing struct {
	era     int             // another one begins when the index is found damaged, and when it was made anew
	moves   int             // grows when shards are to be looked for elsewhere than in the index: look-ups under way begin again
	damaged bool            // the index is to be made anew; until then it is neither asked nor changed
	lacking []*lackingShard // sorted by key; some of them may be gone
}

// begin begins an era.
func (s *standing) begin(damaged bool) {
	s.era++
	s.moves++
	s.damaged = damaged
}

func newMembership(indices *lackingIndices) *membership {
	m := &membership{
		held:    map[shard.Key]struct{}{},
		lacking: map[shard.Key]*lackingShard{},
		indices: indices,
	}
	m.now.Store(&standing{})
	return m
}

// change has f change the membership and what look-ups know of it. f returns the
// shard that is lacking no longer, or nil.
func (m *membership) change(f func(next *standing) (gone *lackingShard)) {
	m.mu.Lock()
	next := *m.now.Load()
	gone := f(&next)
	m.now.Store(&next)
	m.mu.Unlock()
	gone.end() // when look-ups can know what has taken its place
}

// restore notes the shards that a restart has found.
func (m *membership) restore(held, lacking []shard.Key) {
	m.change(func(next *standing) *lackingShard {
		for _, key := range held {
			m.held[key] = struct{}{}
		}
		for _, key := range lacking {
			m.lacking[key] = m.indices.of(key)
		}
		if next.damaged { // already: look-ups need no Start
			m.lackAll()
		}
		next.lacking = m.sorted()
		next.moves++
		return nil
	})
}

// settle notes that the index was changed, so that it holds the shard, or no longer.
// While the index is damaged it cannot be changed; then a shard that it is to hold is
// lacking. It returns false if s is of an era that has ended: the index that was
// changed may be gone.
func (m *membership) settle(s *standing, key shard.Key, isMember bool) (ok bool) {
	m.change(func(next *standing) (gone *lackingShard) {
		if ok = next.era == s.era; !ok {
			return nil
		}
		if !isMember || !next.damaged {
			gone = m.take(next, key)
		}
		switch {
		case isMember && !next.damaged:
			m.held[key] = struct{}{}
		case isMember && m.lacking[key] == nil:
			m.put(next, key)
		}
		return gone
	})
	return ok
}

// reindexed notes that the full index of a shard was made anew. If the top-level
// index held or lacked the shard, the new one answers until it is settled.
func (m *membership) reindexed(key shard.Key) {
	m.change(func(next *standing) *lackingShard {
		_, isHeld := m.held[key]
		gone := m.take(next, key)
		if isHeld || gone != nil {
			m.put(next, key)
			next.moves++
		}
		return gone
	})
}

// giveUp notes that the full index of a shard is missing, or damaged and not being made
// anew: look-ups do not ask it any more, and the shard is not to be added before it is
// indexed anew.
func (m *membership) giveUp(l *lackingShard) {
	m.change(func(next *standing) *lackingShard {
		if m.lacking[l.key] != l { // it has been indexed anew
			return nil
		}
		return m.take(next, l.key)
	})
}

// spoil notes that the index was found damaged by who went by s, and tells whether
// nobody has found that before. It returns false for known after close.
func (m *membership) spoil(s *standing) (isFirst, known bool) {
	m.change(func(next *standing) *lackingShard {
		known = !m.closed
		isFirst = known && next.era == s.era && !next.damaged
		if isFirst {
			m.lackAll()
			next.lacking = m.sorted()
			next.begin(true)
		}
		return nil
	})
	return isFirst, known
}

// renewed notes that the damaged index was made anew, and is empty.
func (m *membership) renewed() {
	m.change(func(next *standing) *lackingShard {
		next.begin(false)
		return nil
	})
}

// holds tells whether the index holds a shard.
func (m *membership) holds(key shard.Key) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	_, isHeld := m.held[key]
	return isHeld
}

// isWhole tells whether the index holds all shards that it is to hold.
func (m *membership) isWhole() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.lacking) == 0 && !m.now.Load().damaged
}

// lacks returns the shards that are still to be added, sorted by key.
func (m *membership) lacks() []*lackingShard {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.alive(m.now.Load().lacking)
}

// close lets go of all full indices. Look-ups can still be made.
func (m *membership) close() {
	m.mu.Lock()
	m.closed = true
	lacking := slices.Collect(maps.Values(m.lacking))
	m.mu.Unlock()
	for _, l := range lacking {
		l.close()
	}
}

// The following are for who holds mu.

// take takes a shard out, and returns it if it was lacking.
func (m *membership) take(next *standing, key shard.Key) (gone *lackingShard) {
	delete(m.held, key)
	gone = m.lacking[key]
	delete(m.lacking, key)
	if 2*len(m.lacking) < len(next.lacking) { // not each time: that would take long when there are many
		next.lacking = m.alive(next.lacking)
	}
	return gone
}

// put makes a shard one that is lacking.
func (m *membership) put(next *standing, key shard.Key) {
	l := m.indices.of(key)
	m.lacking[key] = l
	at, _ := slices.BinarySearchFunc(next.lacking, l, compareKeys)
	next.lacking = slices.Concat(next.lacking[:at], []*lackingShard{l}, next.lacking[at:])
}

func (m *membership) lackAll() {
	for key := range m.held {
		m.lacking[key] = m.indices.of(key)
	}
	clear(m.held)
}

func (m *membership) sorted() []*lackingShard {
	return slices.SortedFunc(maps.Values(m.lacking), compareKeys)
}

func (m *membership) alive(list []*lackingShard) (alive []*lackingShard) {
	for _, l := range list {
		if m.lacking[l.key] == l {
			alive = append(alive, l)
		}
	}
	return alive
}

func compareKeys(a, b *lackingShard) int { return strings.Compare(a.key.String(), b.key.String()) }
