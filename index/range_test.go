package index

import (
	"context"
	"errors"
	"math/rand/v2"
	"os"
	"slices"
	"testing"

	carindex "github.com/ipld/go-car/v2/index"
	"github.com/multiformats/go-multicodec"
	"github.com/multiformats/go-multihash"
	"github.com/stretchr/testify/require"

	"github.com/filecoin-project/dagstore/internal/fullindex"
	"github.com/filecoin-project/dagstore/internal/guard"
)

// A foreignIndex is an index as services write their own: it iterates, in no order,
// and lends its multihashes only during the visit.
type foreignIndex struct {
	carindex.Index
	entries []sortedEntry
	fail    func(i int) error // before the i-th; may be nil
}

func (f *foreignIndex) ForEach(visit func(multihash.Multihash, uint64) error) error {
	var lent multihash.Multihash
	for i, e := range f.entries {
		if f.fail != nil {
			if err := f.fail(i); err != nil {
				return err
			}
		}
		lent = append(lent[:0], e.hash...)
		if err := visit(lent, e.offset); err != nil {
			return err
		}
		clear(lent)
	}
	return nil
}

func entriesOf(t testing.TB, idx carindex.Index) (all []sortedEntry) {
	t.Helper()
	require.NoError(t, idx.(carindex.IterableIndex).ForEach(func(h multihash.Multihash, offset uint64) error {
		all = append(all, sortedEntry{slices.Clone(h), offset})
		return nil
	}))
	return all
}

func entriesInRange(t testing.TB, ranges RangeIterator, r MultihashRange) (in []sortedEntry) {
	t.Helper()
	require.NoError(t, ranges.ForEachInRange(r, func(h multihash.Multihash, offset uint64) bool {
		in = append(in, sortedEntry{slices.Clone(h), offset})
		return true
	}))
	return in
}

func rangesOf(t testing.TB, idx carindex.Index) RangeIterator {
	t.Helper()
	ranges, err := RangeIteratorOf(t.Context(), idx.(carindex.IterableIndex))
	require.NoError(t, err)
	return ranges
}

// withDuplicates is an index with several functions, lengths and offsets.
func withDuplicates(t testing.TB) carindex.Index {
	t.Helper()
	r := rand.New(rand.NewPCG(3, 3))
	var all []sortedEntry
	for i := range 3000 {
		h, err := multihash.Sum([]byte{byte(r.IntN(256)), byte(r.IntN(8))}, []uint64{multihash.IDENTITY, multihash.SHA2_256, multihash.SHA2_512}[i%3], -1)
		require.NoError(t, err)
		all = append(all, sortedEntry{h, uint64(59 + 100*i)})
	}
	return &foreignIndex{Index: &carindex.MultihashIndexSorted{}, entries: all}
}

func TestARangeIsTheSameOfEveryKindOfIndex(t *testing.T) {
	r, _ := newFS(t)
	require.NoError(t, r.AddFullIndex(key, withDuplicates(t)))
	ours := get(t, r, key)
	defer release(ours)
	all := entriesOf(t, ours)
	require.Len(t, all, 3000)

	path := r.path(key)
	whole, err := os.ReadFile(path)
	require.NoError(t, err)
	old, dir := newFS(t)
	require.NoError(t, os.WriteFile(old.path(key), whole[:ours.(iterableHandle).Size()], 0o600), dir) // as v0.7 wrote it
	fromV07 := get(t, old, key)
	defer release(fromV07)
	memory, err := fullindex.FromBytes(whole)
	require.NoError(t, err)
	shuffled := slices.Clone(all)
	rnd := rand.New(rand.NewPCG(4, 4))
	rnd.Shuffle(len(shuffled), func(i, k int) { shuffled[i], shuffled[k] = shuffled[k], shuffled[i] })

	for name, idx := range map[string]carindex.Index{
		"file":         ours,
		"file of v0.7": fromV07,
		"memory":       memory.CarIndex(),
		"foreign":      &foreignIndex{entries: shuffled},
	} {
		t.Run(name, func(t *testing.T) {
			ranges := rangesOf(t, idx)
			require.Equal(t, all, entriesInRange(t, ranges, MultihashRange{}))
			for range 40 {
				rng := MultihashRange{After: all[rnd.IntN(len(all))].hash, Through: all[rnd.IntN(len(all))].hash}
				var want []sortedEntry
				for _, e := range all {
					if CompareMultihashes(e.hash, rng.After) > 0 && CompareMultihashes(e.hash, rng.Through) <= 0 {
						want = append(want, e)
					}
				}
				require.Equal(t, want, entriesInRange(t, ranges, rng))
			}
			visits := 0
			require.NoError(t, ranges.ForEachInRange(MultihashRange{}, func(multihash.Multihash, uint64) bool {
				visits++
				return visits < 7
			}))
			require.Equal(t, 7, visits)
			for _, wrong := range []MultihashRange{{After: []byte("no multihash")}, {Through: all[0].hash[:1]}} {
				err := ranges.ForEachInRange(wrong, func(multihash.Multihash, uint64) bool {
					t.Error("visited")
					return false
				})
				require.ErrorContains(t, err, "not a multihash")
				require.NotErrorIs(t, err, ErrDamaged)
			}
		})
	}
}

func TestIndicesOfThisModuleNeedNoSortingForRanges(t *testing.T) {
	r, _ := newFS(t)
	require.NoError(t, r.AddFullIndex(key, smallIndex(t, "a", "b")))
	idx := get(t, r, key)
	defer release(idx)
	require.Equal(t, idx, rangesOf(t, idx))
	memory, err := fullindex.FromBytes(bytesOf(t, smallIndex(t, "a", "b")))
	require.NoError(t, err)
	require.IsType(t, fullRanges{}, rangesOf(t, memory.CarIndex()))

	require.NoError(t, r.AddFullIndex(key, indexOf(t, multicodec.CarIndexSorted, "a")))
	untold := get(t, r, key)
	defer release(untold)
	_, ok := untold.(RangeIterator)
	require.False(t, ok, "it does not tell its multihashes")
}

func TestAForeignIndexThatFailsHasNoRanges(t *testing.T) {
	entries := entriesOf(t, withDuplicates(t))
	broken := errors.New("broken")
	for name, c := range map[string]struct {
		at70 func(cancel context.CancelFunc) error
		is   func(error) bool
	}{
		"error": {
			func(context.CancelFunc) error { return broken },
			func(err error) bool { return errors.Is(err, broken) },
		},
		"panic": {
			func(context.CancelFunc) error { panic("broken") },
			func(err error) bool { return errors.As(err, new(*guard.PanicError)) },
		},
		"end of the context": {
			func(cancel context.CancelFunc) error { cancel(); return nil },
			func(err error) bool { return errors.Is(err, context.Canceled) },
		},
	} {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			visited := 0
			_, err := RangeIteratorOf(ctx, &foreignIndex{entries: entries, fail: func(i int) error {
				if visited = i; i == 70 {
					return c.at70(cancel)
				}
				return nil
			}})
			require.True(t, c.is(err), "%v", err)
			require.Equal(t, 70, visited, "it goes on for nobody")
		})
	}
	_, err := RangeIteratorOf(t.Context(), &foreignIndex{entries: []sortedEntry{{hash: []byte("no multihash"), offset: 59}}})
	require.ErrorContains(t, err, "not a multihash")
}

func TestDamageInARangeIsDamageAndNotTheEnd(t *testing.T) {
	r, _ := newFS(t)
	require.NoError(t, r.AddFullIndex(key, manyEntries(t)))
	idx := get(t, r, key)
	defer release(idx)
	all := entriesOf(t, idx)
	f, err := os.OpenFile(r.path(key), os.O_RDWR, 0)
	require.NoError(t, err)
	_, err = f.WriteAt(make([]byte, 4096), 80_000)
	require.NoError(t, err)
	require.NoError(t, f.Close())
	visits := 0
	err = rangesOf(t, idx).ForEachInRange(MultihashRange{After: all[1000].hash}, func(multihash.Multihash, uint64) bool {
		visits++
		return true
	})
	require.ErrorIs(t, err, ErrDamaged)
	require.InDelta(t, 1000, visits, 10)
	require.Empty(t, entriesInRange(t, rangesOf(t, idx), MultihashRange{After: all[len(all)-1].hash}))
}
