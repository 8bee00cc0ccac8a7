package inverted

import (
	"fmt"
	"math"
	"slices"
)

// A manifest is what the entries of a journal say together. Reading a journal and
// working with an index change it in the same way: by apply.
type manifest struct {
	begun     bool
	secret    secret
	nextShard uint64
	nextLayer uint64
	additions uint64 // small ones so far
	shards    *dictionary
	numbers   map[string]uint32 // of the keys of shards
	tables    []*table
}

func newManifest() *manifest {
	return &manifest{shards: newDictionary(), numbers: map[string]uint32{}, nextShard: 1, nextLayer: 1}
}

// apply does a change, and returns the tables with files that are no more. The
// error is ErrDamaged if the change cannot be that of this manifest.
func (m *manifest) apply(c *change) (dropped []*table, err error) {
	if (c.begin != nil) == m.begun {
		return nil, damaged("a journal begins once, and at its start")
	}
	if c.begin != nil {
		m.begun = true
		m.secret = c.begin.secret
		m.nextShard, m.nextLayer = c.begin.nextShard, c.begin.nextLayer
		m.additions = c.begin.additions
	}
	if err := m.name(c.shards); err != nil {
		return nil, err
	}
	if dropped, err = m.drop(c); err != nil {
		return nil, err
	}
	if err := m.add(c); err != nil {
		return nil, err
	}
	return dropped, m.bury(c.dead)
}

func (m *manifest) name(shards []named) error {
	for _, s := range shards {
		if number, ok := m.numbers[s.key]; ok && number != s.number {
			return damaged("shard %d has the key of shard %d", s.number, number)
		}
		if key := m.shards.key(s.number); key != nil && *key != s.key {
			return damaged("shard %d has two keys", s.number)
		}
		if _, ok := m.numbers[s.key]; !ok {
			m.numbers[s.key] = s.number
			m.shards.set(s.number, s.key)
		}
		m.nextShard = max(m.nextShard, uint64(s.number)+1)
	}
	return nil
}

// drop takes tables away.
func (m *manifest) drop(c *change) (dropped []*table, err error) {
	for _, number := range c.dropped {
		i := slices.IndexFunc(m.tables, func(t *table) bool { return t.number == number && !inMemory(t) })
		if i < 0 {
			return nil, damaged("layer %d is dropped and was never there", number)
		}
		dropped = append(dropped, m.tables[i])
		m.tables = slices.Delete(m.tables, i, i+1)
	}
	if c.gathered > 0 {
		m.tables = slices.DeleteFunc(m.tables, func(t *table) bool { return inMemory(t) && t.addition <= c.gathered })
	}
	return dropped, nil
}

func (m *manifest) add(c *change) error {
	for _, t := range c.memory {
		if t.addition == 0 {
			m.additions++
			t.addition = m.additions
		}
		m.tables = append(m.tables, t)
	}
	for _, t := range c.added {
		if t.number == 0 || t.number == math.MaxUint64 || slices.ContainsFunc(m.tables, func(u *table) bool { return u.number == t.number }) {
			return damaged("layer %d is added twice, or cannot be", t.number)
		}
		t.dead = m.countDead(t)
		m.tables = append(m.tables, t)
		m.nextLayer = max(m.nextLayer, t.number+1)
	}
	return nil
}

func (m *manifest) countDead(t *table) (dead int64) {
	for _, s := range t.shares {
		if !m.shards.has(s.shard) {
			dead += int64(s.records)
		}
	}
	return dead
}

// bury makes shards dead.
func (m *manifest) bury(dead []uint32) error {
	for _, number := range dead {
		key := m.shards.key(number)
		if key == nil {
			return damaged("shard %d is removed and was never there", number)
		}
		delete(m.numbers, *key)
		m.shards.remove(number)
		for _, t := range m.tables {
			t.dead += t.shareOf(number)
		}
	}
	return nil
}

// replace puts a table in memory in the place of others. The journal need not know.
func (m *manifest) replace(old []*table, t *table) {
	m.tables = slices.DeleteFunc(m.tables, func(u *table) bool { return slices.Contains(old, u) })
	if t.records > 0 {
		t.dead = m.countDead(t)
		m.tables = append(m.tables, t)
	}
}

// settle gives layers in memory to small additions that were read: one for all.
func (m *manifest) settle() error {
	isRaw := func(t *table) bool { return inMemory(t) && t.layer == nil }
	var raw []*table
	for _, t := range m.tables {
		if isRaw(t) {
			raw = append(raw, t)
		}
	}
	if len(raw) == 0 {
		return nil
	}
	t, err := gatherRaw(raw, m.shards.has)
	if err != nil {
		return err
	}
	m.replace(raw, t)
	return nil
}

// snapshot returns changes that make such a manifest from an empty one, in
// entries of about a megabyte.
func (m *manifest) snapshot() ([]*change, error) {
	const enough = 1 << 20 // bytes of keys in an entry
	first := &change{begin: &beginning{m.secret, m.nextShard, m.nextLayer, m.additions}}
	changes := []*change{first}
	c, size := new(change), 0
	for number, key := range m.shards.all() {
		c.shards = append(c.shards, named{number, key})
		if size += len(key) + 16; size > enough {
			changes = append(changes, c)
			c, size = new(change), 0
		}
	}
	if len(c.shards) > 0 {
		changes = append(changes, c)
	}
	for _, t := range m.tables {
		c := new(change)
		if inMemory(t) {
			raw, err := t.rawRecords(m.shards.has)
			if err != nil {
				return nil, err
			}
			c.memory = []*table{{addition: t.addition, raw: raw}}
		} else {
			c.added = []*table{t}
		}
		changes = append(changes, c)
	}
	return changes, nil
}

func damaged(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrDamaged, fmt.Sprintf(format, args...))
}
