package fullindex

import (
	"bytes"
	"encoding/binary"
	"math/bits"
	"math/rand/v2"
	"slices"
	"sort"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/filecoin-project/dagstore/internal/mapped"
)

// distributions are ways to choose the key of a digest.
var distributions = map[string]func(r *rand.Rand) uint64{
	"uniform":       func(r *rand.Rand) uint64 { return r.Uint64() },
	"all the same":  func(*rand.Rand) uint64 { return 7 },
	"few":           func(r *rand.Rand) uint64 { return r.Uint64N(3) << 62 },
	"small":         func(r *rand.Rand) uint64 { return r.Uint64N(1 << 20) },
	"great":         func(r *rand.Rand) uint64 { return ^r.Uint64N(1 << 20) },
	"exponential":   func(r *rand.Rand) uint64 { return r.Uint64() >> r.IntN(64) },
	"in two crowds": func(r *rand.Rand) uint64 { return r.Uint64N(2)<<63 | r.Uint64N(1000) },
	"the extremes":  func(r *rand.Rand) uint64 { return -r.Uint64N(2) },
}

// sorted returns a list of n digests of ten bytes.
func sorted(r *rand.Rand, n int, key func(*rand.Rand) uint64) list {
	const width = 10 + OffsetSize
	digests := make([][]byte, n)
	for i := range digests {
		digests[i] = binary.BigEndian.AppendUint16(binary.BigEndian.AppendUint64(nil, key(r)), uint16(r.IntN(500)))
	}
	slices.SortFunc(digests, bytes.Compare)
	records := make([]byte, 0, n*width)
	for i, d := range digests {
		records = binary.LittleEndian.AppendUint64(append(records, d...), uint64(i+1))
	}
	return newList(records, width)
}

func TestSearchFindsTheFirstWhateverTheDigestsAre(t *testing.T) {
	for name, key := range distributions {
		t.Run(name, func(t *testing.T) {
			r := rand.New(rand.NewPCG(1, 0))
			for _, n := range []int{1, 2, 31, 32, 33, 100, 3000} {
				l := sorted(r, n, key)
				others := sorted(r, 300, key)
				for k := range l.count + others.count {
					digest := string(l.digest(k % l.count))
					if k >= l.count {
						digest = string(others.digest(k - l.count))
					}
					want := sort.Search(n, func(i int) bool { return string(l.digest(i)) >= digest })
					require.Equal(t, want, l.search(0, n, digest))
					hash, ok := keyOf(digest)
					require.True(t, ok)
					for _, guess := range []int{0, n - 1, r.IntN(n)} {
						require.Equal(t, want, l.searchFrom(guess, hash, digest), "%d of %d from %d", want, n, guess)
					}
				}
			}
		})
	}
}

// A countingSource counts the reads of bytes.
type countingSource struct {
	*bytes.Reader
	reads int
}

func (s *countingSource) ReadAt(p []byte, at int64) (int, error) {
	s.reads++
	return s.Reader.ReadAt(p, at)
}

func (*countingSource) Close() error { return nil }

func TestFewPagesAreReadWhateverTheDigestsAre(t *testing.T) {
	const records, lookUps = 60_000, 400
	for name, key := range distributions {
		t.Run(name, func(t *testing.T) {
			r := rand.New(rand.NewPCG(1, 0))
			l := sorted(r, records, key)
			source := &countingSource{Reader: bytes.NewReader(l.records)}
			data, err := mapped.Open(source)
			require.NoError(t, err)
			x := &Index{data: data}
			b := &bucket{width: l.width, count: records, drift: &drift{}}
			total := 0
			for range lookUps {
				digest := string(l.digest(r.IntN(records)))
				source.reads = 0
				m := x.findInFile(b, digest)
				offset, ok := m.Next()
				require.True(t, ok)
				require.Equal(t, digest, string(l.digest(int(offset)-1)))
				require.LessOrEqual(t, source.reads, 3+bits.Len(records*uint(l.width)/pageSize)+1)
				total += source.reads
			}
			if name == "uniform" {
				require.Less(t, total, lookUps*3/2)
			}
		})
	}
}

func TestLookUpsLearnWhereDigestsAre(t *testing.T) {
	const records = 8 * driftLeast
	r := rand.New(rand.NewPCG(2, 0))
	l := sorted(r, records, distributions["uniform"])
	b := &bucket{width: l.width, count: records, drift: &drift{}}
	off := func() (sum int64) {
		for range 1000 {
			i := r.IntN(records)
			key, _ := keyOf(string(l.digest(i)))
			sum += abs(b.guess(key).at - int64(i))
		}
		return sum
	}
	before := off()
	for range 20_000 {
		i := r.IntN(records)
		require.Equal(t, i, b.place(&l, string(l.digest(i))))
	}
	require.Less(t, off(), before/5)
}

func abs(n int64) int64 { return max(n, -n) }

func TestAFewLookUpsCostNoMemory(t *testing.T) {
	b := &bucket{count: driftLeast, drift: &drift{}}
	for range driftAfter - 1 {
		b.guess(1).learn(100)
	}
	require.Nil(t, b.drift.parts.Load())
	b.guess(1).learn(100)
	require.Len(t, *b.drift.parts.Load(), driftLeast/driftPart+1)
	b.guess(1 << 63) // the middle
	require.EqualValues(t, 100, b.guess(1).at)
	require.EqualValues(t, driftLeast-1, b.guess(1<<64-1).at)
	b.guess(1).learn(0)
	require.EqualValues(t, 0, b.guess(1).at)
}

func TestWhatIsLearntFromHostileDigestsIsHarmless(t *testing.T) {
	for name, key := range distributions {
		t.Run(name, func(t *testing.T) {
			r := rand.New(rand.NewPCG(3, 0))
			l := sorted(r, 2*driftLeast, key)
			b := &bucket{width: l.width, count: int64(l.count), drift: &drift{}}
			var all sync.WaitGroup
			for seed := range uint64(4) {
				all.Go(func() {
					r := rand.New(rand.NewPCG(4, seed))
					for range 1000 {
						digest := string(l.digest(r.IntN(l.count)))
						i := b.place(&l, digest)
						if string(l.digest(i)) != digest || i > 0 && string(l.digest(i-1)) == digest {
							t.Errorf("%x is not first at %d", digest, i)
							return
						}
					}
				})
			}
			all.Wait()
		})
	}
}

func TestTheSystemReadsAheadAsLongAsAnyPassNeedsIt(t *testing.T) {
	l := sorted(rand.New(rand.NewPCG(1, 0)), 10, distributions["uniform"])
	x := &Index{bytes: l.records, records: 10, buckets: []bucket{{width: l.width, count: 10}}}
	inside := func(n int) func(uint64, []byte, uint64) error {
		return func(uint64, []byte, uint64) error {
			require.Equal(t, n, x.passes.n)
			return nil
		}
	}
	require.NoError(t, x.EachRecord(inside(1)))
	require.NoError(t, x.EachRecord(func(uint64, []byte, uint64) error { return x.EachRecord(inside(2)) }))
	require.Panics(t, func() { _ = x.EachRecord(func(uint64, []byte, uint64) error { panic("mine") }) })
	require.Zero(t, x.passes.n)
}
