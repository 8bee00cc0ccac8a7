package layer

import (
	"context"
	"io"
	"math/rand/v2"
	"strconv"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
)

// many is how many records the big layer has.
const many = 10_000_000

var big struct {
	once    sync.Once
	records []Record
	bytes   []byte
}

func bigLayer(b *testing.B) *Layer {
	big.once.Do(func() {
		big.records = randomRecords(1, many, 1000)
		big.bytes = ordinary.write(b, big.records)
	})
	return open(b, big.bytes, true)
}

func BenchmarkHit(b *testing.B) {
	l := bigLayer(b)
	rng := rand.New(rand.NewPCG(2, 2))
	dst := make([]uint32, 0, 8)
	for b.Loop() {
		found, err := l.AppendShards(dst, big.records[rng.IntN(many)].Fingerprint)
		if err != nil || len(found) == 0 {
			b.Fatal(found, err)
		}
	}
}

func BenchmarkHitsTogether(b *testing.B) {
	l := bigLayer(b)
	rng := rand.New(rand.NewPCG(2, 2))
	dst := make([]Match, 0, MaxTogether)
	var fs [MaxTogether]Fingerprint
	for b.Loop() {
		for i := range fs {
			fs[i] = big.records[rng.IntN(many)].Fingerprint
		}
		found, err := l.AppendMatches(dst, fs[:])
		if err != nil || len(found) != len(fs) {
			b.Fatal(found, err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/MaxTogether, "ns/hit")
}

func BenchmarkMiss(b *testing.B) {
	l := bigLayer(b)
	rng := rand.New(rand.NewPCG(2, 2))
	dst := make([]uint32, 0, 8)
	for b.Loop() {
		found, err := l.AppendShards(dst, Fingerprint{rng.Uint64(), rng.Uint64()})
		if err != nil || len(found) > 0 {
			b.Fatal(found, err)
		}
	}
}

// BenchmarkMissOfMany is a miss in the layers that an index of 50M records may
// have: 3 of 10M, and 3 each of smaller sizes.
func BenchmarkMissOfMany(b *testing.B) {
	layers := []*Layer{bigLayer(b), open(b, big.bytes, true), open(b, big.bytes, true)}
	for n := many / 4; n > 10_000; n /= 4 {
		for i := range 3 {
			layers = append(layers, open(b, ordinary.write(b, big.records[i*n:][:n]), true))
		}
	}
	rng := rand.New(rand.NewPCG(2, 2))
	dst := make([]uint32, 0, 8)
	for b.Loop() {
		f := Fingerprint{rng.Uint64(), rng.Uint64()}
		for _, l := range layers {
			if found, err := l.AppendShards(dst, f); err != nil || len(found) > 0 {
				b.Fatal(found, err)
			}
		}
	}
	b.ReportMetric(float64(len(layers)), "layers")
}

func BenchmarkOpen(b *testing.B) {
	bigLayer(b)
	d := fileOf(b, big.bytes, true)
	for b.Loop() {
		if _, err := FromData(d); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkWrite(b *testing.B) {
	bigLayer(b)
	for _, n := range []int{1000, 1_000_000, many} {
		b.Run(strconv.Itoa(n), func(b *testing.B) {
			var size int64
			for b.Loop() {
				w := NewWriter(io.Discard)
				for _, r := range big.records[:n] {
					if err := w.Add(r); err != nil {
						b.Fatal(err)
					}
				}
				var err error
				_, size, err = w.Finish()
				require.NoError(b, err)
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*n), "ns/record")
			b.ReportMetric(float64(size)/float64(n), "B/record")
		})
	}
}

func BenchmarkMerge(b *testing.B) {
	bigLayer(b)
	const parts, each = 4, 1_000_000
	split := make([][]Record, parts)
	for i, r := range big.records[:parts*each] {
		at := (i * 7) % parts
		if r.Lo%2 == 0 {
			at = int(r.Lo>>1) % parts
		}
		split[at] = append(split[at], r)
	}
	var layers []*Layer
	for _, records := range split {
		layers = append(layers, open(b, ordinary.write(b, records), true))
	}
	for b.Loop() {
		w := NewWriter(io.Discard)
		require.NoError(b, Merge(context.Background(), w, layers, func(uint32) bool { return true }, nil))
		n, _, err := w.Finish()
		require.NoError(b, err)
		require.EqualValues(b, parts*each, n)
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*parts*each), "ns/record")
}

func BenchmarkVerify(b *testing.B) {
	l := bigLayer(b)
	for b.Loop() {
		require.NoError(b, l.Verify(context.Background()))
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*many), "ns/record")
}

// BenchmarkFirstUse is the first look-up in a partition, whose table, filter and
// page it checks.
func BenchmarkFirstUse(b *testing.B) {
	l := bigLayer(b)
	for b.Loop() {
		l.parts[0].summary.Store(nil)
		if ok, err := l.Contains(big.records[1].Fingerprint); err != nil || !ok {
			b.Fatal(ok, err)
		}
	}
}

// BenchmarkHitFloor is what a hit costs without the look-up.
func BenchmarkHitFloor(b *testing.B) {
	bigLayer(b)
	rng := rand.New(rand.NewPCG(2, 2))
	var sum uint64
	for b.Loop() {
		sum += big.records[rng.IntN(many)].Hi
	}
	_ = sum
}
