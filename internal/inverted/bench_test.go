package inverted

import (
	"os"
	"runtime"
	"strconv"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/filecoin-project/dagstore/internal/files"
)

// sizeOr returns a number from the environment. The bars of issue 4 are for 50 million
// records in 1,000 shards:
//
//	DAGSTORE_BENCH_RECORDS=50000000 go test -run '^$' -bench Index ./internal/inverted
//
// Smaller numbers are for guidance.
func sizeOr(name string, otherwise int) int {
	n, err := strconv.Atoi(os.Getenv(name))
	if err != nil {
		return otherwise
	}
	return n
}

func cpu() time.Duration {
	var u syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &u) // it cannot fail
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func BenchmarkIndex(b *testing.B) {
	records, shards := sizeOr("DAGSTORE_BENCH_RECORDS", 1_000_000), sizeOr("DAGSTORE_BENCH_SHARDS", 1000)
	dir := b.TempDir()
	benchmarkFill(b, dir, records, shards)
	x := mustOpen(b, dir, Options{FS: files.OS})
	var hits, misses [][]byte
	for i := range 1 << 16 {
		hits = append(hits, multihashOf(i*7919%records))
		misses = append(misses, multihashOf(1<<40+i))
	}
	b.Run("hit", func(b *testing.B) { benchmarkLookup(b, x, hits) })
	b.Run("miss", func(b *testing.B) { benchmarkLookup(b, x, misses) })
	b.Run("many", func(b *testing.B) { benchmarkMany(b, x, hits[:1000]) })
	benchmarkMillion(b, x)
	require.NoError(b, x.Close())
	benchmarkOpen(b, dir, records)
}

// once makes a benchmark of what is measured once. metrics are pairs of a figure and
// its unit.
func once(b *testing.B, name string, metrics map[string]float64) {
	b.Run(name, func(b *testing.B) {
		for b.Loop() {
			continue
		}
		b.ReportMetric(0, "ns/op")
		for unit, figure := range metrics {
			b.ReportMetric(figure, unit)
		}
	})
}

func benchmarkFill(b *testing.B, dir string, records, shards int) {
	x := mustOpen(b, dir, Options{FS: files.OS})
	began := cpu()
	each := records / shards
	for i := range shards {
		mustAdd(b, x, shardName(i), span(i*each, i*each+each))
	}
	require.NoError(b, x.Wait(b.Context()))
	cost := cpu() - began
	var size, layers int64
	for _, t := range x.view.Load().tables {
		size += t.size
		layers++
	}
	once(b, "fill", map[string]float64{
		"cpu-ns/record": float64(cost) / float64(records),
		"B/record":      float64(size) / float64(records),
		"layers":        float64(layers),
	})
	require.NoError(b, x.Close())
}

func benchmarkLookup(b *testing.B, x *Index, mhs [][]byte) {
	for _, mh := range mhs {
		_, err := x.Lookup(mh) // warm
		require.NoError(b, err)
	}
	b.ReportAllocs()
	began := cpu()
	i := 0
	for b.Loop() {
		_, _ = x.Lookup(mhs[i%len(mhs)])
		i++
	}
	b.ReportMetric(float64(cpu()-began)/float64(b.N), "cpu-ns/op")
}

func benchmarkMany(b *testing.B, x *Index, mhs [][]byte) {
	began := cpu()
	for b.Loop() {
		_, err := x.LookupMany(mhs)
		require.NoError(b, err)
	}
	b.ReportMetric(float64(cpu()-began)/float64(b.N)/float64(len(mhs)), "cpu-ns/multihash")
}

// benchmarkMillion adds shards of a million, the second with the multihashes of the
// first, and removes them.
func benchmarkMillion(b *testing.B, x *Index) {
	const records = 1_000_000
	mhs := make([][]byte, records)
	for i := range mhs {
		mhs[i] = multihashOf(1<<41 + i)
	}
	for _, key := range []string{"first", "second", "third"} {
		began := cpu()
		mustAdd(b, x, key, these(mhs...))
		added := cpu() - began
		require.NoError(b, x.Wait(b.Context()))
		once(b, "million/"+key, map[string]float64{
			"cpu-ns/record":        float64(added) / records,
			"merged-cpu-ns/record": float64(cpu()-began) / records,
		})
	}
	began := time.Now()
	require.NoError(b, x.Remove(b.Context(), "first"))
	once(b, "remove", map[string]float64{"ns": float64(time.Since(began))})
	require.NoError(b, x.Wait(b.Context()))
}

func benchmarkOpen(b *testing.B, dir string, records int) {
	heap := func() float64 {
		var m runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&m)
		return float64(m.HeapAlloc)
	}
	before, began := heap(), time.Now()
	x := mustOpen(b, dir, Options{FS: files.OS})
	took := time.Since(began)
	for i := range 1 << 16 {
		_, err := x.Lookup(multihashOf(i))
		require.NoError(b, err)
	}
	once(b, "open", map[string]float64{
		"ns":            float64(took),
		"heap-B/record": (heap() - before) / float64(records),
	})
	require.NoError(b, x.Close())
}

func BenchmarkTinyShards(b *testing.B) {
	dir := b.TempDir()
	x := mustOpen(b, dir, Options{FS: files.OS})
	var next atomic.Int64
	began := cpu()
	b.SetParallelism(32)
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			i := int(next.Add(1))
			if err := x.Add(b.Context(), shardName(i), span(10*i, 10*i+10)); err != nil {
				b.Error(err)
			}
		}
	})
	require.NoError(b, x.Wait(b.Context()))
	b.ReportMetric(float64(cpu()-began)/float64(b.N), "cpu-ns/op")
	kinds := filesIn(b, dir)
	b.ReportMetric(float64(kinds["layer"]+kinds["journal"]), "files")
}
