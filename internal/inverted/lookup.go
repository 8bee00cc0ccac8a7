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

// LookupMany does for many multihashes what Lookup does for one, in less time for
// each if there are two or more. The result has the answers at the places of the
// multihashes.
func (x *Index) LookupMany(mhs [][]byte) ([][]string, error) {
	if len(mhs) == 1 {
		keys, err := x.Lookup(mhs[0])
		return [][]string{keys}, err
	}
	v, p, err := x.enter()
	if err != nil {
		return nil, err
	}
	defer v.gate.Leave(p)
	a := answers{view: v, all: make([][]string, 0, len(mhs))}
	for part := range slices.Chunk(mhs, layer.MaxTogether) {
		if err := a.add(part); err != nil {
			return nil, err
		}
	}
	return a.all, nil
}

// answers are those to a call of LookupMany.
type answers struct {
	view *view
	all  [][]string // has room for one for each multihash
	keys []string   // where those of the answers lie: of all in one array, if most multihashes have one shard
}

// add adds the answers for up to layer.MaxTogether multihashes.
func (a *answers) add(mhs [][]byte) error {
	var fps [layer.MaxTogether]layer.Fingerprint
	for i, mh := range mhs {
		fps[i] = a.view.secret.fingerprint(mh)
	}
	var room [few + layer.MaxTogether]layer.Match
	matches, err := a.view.findMany(room[:0], fps[:len(mhs)])
	if err != nil {
		return err
	}
	if cap(a.keys)-len(a.keys) < len(matches) {
		a.keys = make([]string, 0, max(len(matches), cap(a.all)-len(a.all)))
	}
	for i := range uint32(len(mhs)) {
		start := len(a.keys)
		for ; len(matches) > 0 && matches[0].At == i; matches = matches[1:] {
			if key := a.view.shards.key(matches[0].Shard); key != nil {
				a.keys = append(a.keys, *key)
			}
		}
		var answer []string
		if end := len(a.keys); end > start {
			answer = a.keys[start:end:end]
		}
		a.all = append(a.all, answer)
	}
	return nil
}

// findMany appends the matches of fingerprints in all layers to dst, ascending, each
// once. Some may be of dead shards.
func (v *view) findMany(dst []layer.Match, fps []layer.Fingerprint) ([]layer.Match, error) {
	err := mapped.Faultless(func() (err error) {
		for _, l := range v.layers {
			if dst, err = l.AppendMatches(dst, fps); err != nil {
				return err
			}
		}
		return nil
	}, v.mappings...)
	if err != nil {
		return nil, lookupError(err)
	}
	slices.SortFunc(dst, func(a, b layer.Match) int {
		return cmp.Or(cmp.Compare(a.At, b.At), cmp.Compare(a.Shard, b.Shard))
	})
	return slices.Compact(dst), nil
}

func lookupError(err error) error {
	return fmt.Errorf("look up in the inverted index: %w", asDamage(err))
}
