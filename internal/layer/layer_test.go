package layer

import (
	"context"
	"io/fs"
	"math"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
)

// crowded returns sorted records of few fingerprints, each in many shards.
func crowded(fingerprints, shards int) []Record {
	var records []Record
	for i := range fingerprints {
		for shard := range shards {
			records = append(records, Record{Fingerprint{uint64(i) << 60, 7}, uint32(shard)})
		}
	}
	return records
}

// skewed returns sorted records that are far from uniform.
func skewed() []Record {
	var records []Record
	for i := range 1500 {
		records = append(records, Record{Fingerprint{uint64(i), 1}, 1})
	}
	for i := range 63 {
		records = append(records, Record{Fingerprint{1 << i, 2}, 2})
	}
	for i := range 700 {
		records = append(records,
			Record{Fingerprint{1 << 50, uint64(i) * 5}, 3},
			Record{Fingerprint{math.MaxUint64 - uint64(i), math.MaxUint64}, math.MaxUint32})
	}
	slices.SortFunc(records, Record.Compare)
	return slices.Compact(records)
}

func contents() map[string][]Record {
	return map[string][]Record{
		"nothing":           nil,
		"one":               randomRecords(1, 1, 9),
		"a page":            randomRecords(1, pageRecords, 9),
		"a page and one":    randomRecords(1, pageRecords+1, 9),
		"without filter":    randomRecords(1, unfiltered, 9),
		"with filter":       randomRecords(1, unfiltered+1, 9),
		"uniform":           randomRecords(1, 4000, 9),
		"skewed":            skewed(),
		"in many shards":    crowded(7, 300),
		"in too many":       crowded(2, 500),
		"least and largest": {{}, {Fingerprint{math.MaxUint64, math.MaxUint64}, math.MaxUint32}},
	}
}

func formats() map[string]format {
	return map[string]format{
		"ordinary":   ordinary,
		"small":      small,
		"partitions": {limit: 2 * pageRecords, unfiltered: 100},
		"unfiltered": {limit: 1000, unfiltered: math.MaxInt},
	}
}

// forms are the ways in which a layer is at hand.
func forms(t *testing.T, b []byte) map[string]*Layer {
	inMemory, err := FromBytes(b)
	require.NoError(t, err)
	return map[string]*Layer{"in memory": inMemory, "mapped": open(t, b, true), "read": open(t, b, false)}
}

func TestALayerAnswersLikeAMap(t *testing.T) {
	t.Parallel()
	for name, records := range contents() {
		for kind, f := range formats() {
			t.Run(name+", "+kind, func(t *testing.T) {
				b := f.write(t, records)
				for form, l := range forms(t, b) {
					step := 5
					if form == "read" {
						step = 50 // a system call each
					}
					requireModel(t, l, records, step)
					require.EqualValues(t, len(b), l.Size())
				}
			})
		}
	}
}

// requireModel requires that l has just these records, and looks up each step-th
// fingerprint and the neighbours of some.
func requireModel(t *testing.T, l *Layer, records []Record, step int) {
	t.Helper()
	require.EqualValues(t, len(records), l.Records())
	model := map[Fingerprint][]uint32{}
	for _, r := range records {
		model[r.Fingerprint] = append(model[r.Fingerprint], r.Shard)
	}
	n := 0
	for f := range model {
		if n++; n%step != 0 {
			continue
		}
		for _, g := range []Fingerprint{f, {f.Hi, f.Lo - 1}, {f.Hi, f.Lo + 1}, {f.Hi - 1, f.Lo}, {f.Hi + 1, f.Lo}, {f.Lo, f.Hi}} {
			shards, err := lookUp(l, g)
			if err != nil || !slices.Equal(shards, model[g]) {
				t.Fatal(g, shards, model[g], err)
			}
			if ok, err := l.Contains(g); err != nil || ok != (len(model[g]) > 0) {
				t.Fatal(g, ok, err)
			}
		}
	}
	found, err := all(l)
	require.NoError(t, err)
	require.True(t, slices.Equal(records, found))
	require.NoError(t, l.Verify(context.Background()))
}

func TestShardsAreAppendedToWhatIsThere(t *testing.T) {
	l, err := FromBytes(ordinary.write(t, crowded(2, 3)))
	require.NoError(t, err)
	shards, err := l.AppendShards([]uint32{9}, Fingerprint{0, 7})
	require.NoError(t, err)
	require.Equal(t, []uint32{9, 0, 1, 2}, shards)
	shards, err = l.AppendShards(shards, Fingerprint{5, 5})
	require.NoError(t, err)
	require.Equal(t, []uint32{9, 0, 1, 2}, shards)
}

func TestALookUpAllocatesOnlyItsResult(t *testing.T) {
	records := randomRecords(1, 20_000, 9)
	l := open(t, format{limit: 3000, unfiltered: unfiltered}.write(t, records), true)
	rng := rand.New(rand.NewPCG(5, 5))
	dst := make([]uint32, 0, 8)
	for _, r := range records {
		_, err := l.AppendShards(dst, r.Fingerprint) // the first use of all
		require.NoError(t, err)
	}
	require.Zero(t, testing.AllocsPerRun(1000, func() {
		hit, _ := l.AppendShards(dst, records[rng.IntN(len(records))].Fingerprint)
		miss, _ := l.AppendShards(dst, Fingerprint{rng.Uint64(), 0})
		if len(hit) != 1 || len(miss) != 0 {
			panic("wrong answer")
		}
	}))
}

func TestMissesSeldomTouchAPage(t *testing.T) {
	l, err := FromBytes(ordinary.write(t, randomRecords(1, 20_000, 9)))
	require.NoError(t, err)
	rng := rand.New(rand.NewPCG(5, 5))
	const misses = 10_000
	passed := 0
	for range misses {
		f := Fingerprint{rng.Uint64(), rng.Uint64()}
		_, ok, err := l.find(new(probe), f)
		require.NoError(t, err)
		if ok {
			passed++
		}
	}
	require.Less(t, passed, misses/100)
}

func TestAtRestARecordTakesLessThan24Bytes(t *testing.T) {
	const n = 50_000
	require.Less(t, len(ordinary.write(t, randomRecords(1, n, 9))), 22*n)
}

func TestManyMayUseALayerForTheFirstTimeAtOnce(t *testing.T) {
	records := randomRecords(1, 3000, 9)
	for _, l := range forms(t, format{limit: 700}.write(t, records)) {
		var wg sync.WaitGroup
		for i := range 4 {
			wg.Go(func() {
				for at := i; at < len(records); at += 5 {
					shards, err := lookUp(l, records[at].Fingerprint)
					if err != nil || !slices.Equal(shards, []uint32{records[at].Shard}) {
						t.Error(shards, err)
					}
				}
			})
			wg.Go(func() {
				if err := l.Verify(context.Background()); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
	}
}

func TestAClosedLayerIsNotRead(t *testing.T) {
	for _, mapping := range []bool{true, false} {
		l, err := FromData(fileOf(t, small.write(t, randomRecords(1, 100, 9)), mapping))
		require.NoError(t, err)
		c := l.Cursor()
		require.NoError(t, l.Close())
		require.NoError(t, l.Close())
		_, _, err = c.Next()
		require.ErrorIs(t, err, fs.ErrClosed)
		require.ErrorIs(t, l.Verify(context.Background()), fs.ErrClosed)
	}
	d := fileOf(t, small.write(t, nil), true)
	require.NoError(t, d.Close())
	_, err := FromData(d)
	require.ErrorIs(t, err, fs.ErrClosed)

	l, err := FromBytes(small.write(t, nil))
	require.NoError(t, err)
	require.NoError(t, l.Close())
	require.Nil(t, l.Mapping())
}

func TestVerifyEndsWithItsContext(t *testing.T) {
	l, err := FromBytes(ordinary.write(t, randomRecords(1, 1000, 9)))
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	require.ErrorIs(t, l.Verify(ctx), context.Canceled)
}
