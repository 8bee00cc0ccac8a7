package inverted

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/filecoin-project/dagstore/internal/layer"
	"github.com/filecoin-project/dagstore/internal/mapped"
)

// few is how many shards of a multihash are found without memory for them.
const few = 32

// Lookup returns the keys of the shards that have a multihash, in the order in which
// they were added; nil if there are none. It allocates nothing but the result. The
// error is fs.ErrClosed after Close; ErrDamaged; or that of a file.
func (x *Index) Lookup(mh []byte) ([]string, error) {
	v, p, err := x.enter()
	if err != nil {
		return nil, err
	}
	defer v.gate.Leave(p)
	var room [few]uint32
	numbers, err := v.find(room[:0], v.secret.fingerprint(mh))
	if err != nil || len(numbers) == 0 {
		return nil, err
	}
	return v.keys(numbers), nil
}

// First returns the key of the shard that was added first of those that have a
// multihash, and false if there are none. It allocates nothing. The errors are those
// of Lookup.
func (x *Index) First(mh []byte) (string, bool, error) {
	v, p, err := x.enter()
	if err != nil {
		return "", false, err
	}
	defer v.gate.Leave(p)
	var room [few]uint32
	numbers, err := v.find(room[:0], v.secret.fingerprint(mh))
	if err != nil {
		return "", false, err
	}
	for _, number := range numbers {
		if key := v.shards.key(number); key != nil {
			return *key, true, nil
		}
	}
	return "", false, nil
}

// find appends the numbers of the shards of a fingerprint to dst, ascending, each
// once. Some may be dead.
func (v *view) find(dst []uint32, f layer.Fingerprint) ([]uint32, error) {
	err := mapped.Faultless(func() (err error) {
		for _, l := range v.layers {
			if dst, err = l.AppendShards(dst, f); err != nil {
				return err
			}
		}
		return nil
	}, v.mappings...)
	if err != nil {
		return nil, lookupError(err)
	}
	if len(dst) > 1 {
		slices.Sort(dst)
		dst = slices.Compact(dst)
	}
	return dst, nil
}

// keys returns the keys of those shards that are alive.
func (v *view) keys(numbers []uint32) []string {
	keys := make([]string, 0, len(numbers))
	for _, number := range numbers {
		if key := v.shards.key(number); key != nil {
			keys = append(keys, *key)
		}
	}
	if len(keys) == 0 {
		return nil
	}
	return keys
}

// A wanted multihash is one of those that are looked up together.
type wanted struct {
	layer.Fingerprint
	at int // its place among them
}

// A hit is that a shard has the multihash at a place.
type hit struct {
	at     int
	number uint32
}

// LookupMany does for many multihashes what Lookup does for one, with less work for
// each. The result has the answers at the places of the multihashes.
func (x *Index) LookupMany(mhs [][]byte) ([][]string, error) {
	v, p, err := x.enter()
	if err != nil {
		return nil, err
	}
	defer v.gate.Leave(p)
	order := make([]wanted, len(mhs))
	for i, mh := range mhs {
		order[i] = wanted{v.secret.fingerprint(mh), i}
	}
	slices.SortFunc(order, func(a, b wanted) int { return a.Compare(b.Fingerprint) })
	hits, err := v.findMany(order)
	if err != nil {
		return nil, err
	}
	return v.answers(len(mhs), hits), nil
}

// findMany goes through one layer after the other, in the order of their records.
func (v *view) findMany(order []wanted) (hits []hit, err error) {
	var room [few]uint32
	err = mapped.Faultless(func() error {
		for _, l := range v.layers {
			for _, w := range order {
				numbers, err := l.AppendShards(room[:0], w.Fingerprint)
				if err != nil {
					return err
				}
				for _, number := range numbers {
					hits = append(hits, hit{w.at, number})
				}
			}
		}
		return nil
	}, v.mappings...)
	if err != nil {
		return nil, lookupError(err)
	}
	slices.SortFunc(hits, func(a, b hit) int {
		return cmp.Or(cmp.Compare(a.at, b.at), cmp.Compare(a.number, b.number))
	})
	return slices.Compact(hits), nil
}

// answers returns the keys for n places. All of them lie in one array.
func (v *view) answers(n int, hits []hit) [][]string {
	answers := make([][]string, n)
	keys := make([]string, 0, len(hits))
	for len(hits) > 0 {
		at, start := hits[0].at, len(keys)
		for len(hits) > 0 && hits[0].at == at {
			if key := v.shards.key(hits[0].number); key != nil {
				keys = append(keys, *key)
			}
			hits = hits[1:]
		}
		if len(keys) > start {
			answers[at] = keys[start:len(keys):len(keys)]
		}
	}
	return answers
}

func lookupError(err error) error {
	return fmt.Errorf("look up in the inverted index: %w", asDamage(err))
}
