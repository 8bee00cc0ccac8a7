//go:build unix

package fullindex_test

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"testing"
	"time"

	"github.com/ipfs/go-cid"
	carindex "github.com/ipld/go-car/v2/index"
	"github.com/multiformats/go-multihash"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/filecoin-project/dagstore/internal/fullindex"
	"github.com/filecoin-project/dagstore/internal/mapped"
)

// bigFile writes the index of n random sha2-256 digests, and returns where it is.
func bigFile(b *testing.B, n int) string {
	b.Helper()
	path := filepath.Join(b.TempDir(), "index")
	f, err := os.Create(path)
	require.NoError(b, err)
	defer f.Close()
	w := bufio.NewWriterSize(f, 1<<20)
	_, err = w.Write(join([]byte{0x81, 8}, le(4, 1), le(8, multihash.SHA2_256), le(4, 1), le(4, width), le(8, uint64(n*width))))
	require.NoError(b, err)
	// What is between random numbers in their order is exponentially distributed.
	random := rand.NewChaCha8([32]byte{})
	exp := rand.New(random)
	record, sum, scale := make([]byte, width), 0.0, math.Exp2(64)/(float64(n)*1.001)
	for i := range n {
		_, _ = random.Read(record)
		sum += exp.ExpFloat64()
		binary.BigEndian.PutUint64(record, uint64(sum*scale))
		binary.LittleEndian.PutUint64(record[32:], uint64(59+i))
		_, err = w.Write(record)
		require.NoError(b, err)
	}
	require.NoError(b, w.Flush())
	return path
}

func mapFile(b *testing.B, path string) *fullindex.Index {
	b.Helper()
	f, err := os.Open(path)
	require.NoError(b, err)
	data, err := mapped.Open(f)
	require.NoError(b, err)
	x, err := fullindex.FromData(data)
	require.NoError(b, err)
	b.Cleanup(func() { require.NoError(b, x.Close()) })
	return x
}

// BenchmarkLookUp finds random multihashes of a mapped file, in turns with go-car,
// which has all of it in its heap. CPU time counts. Bars: 1/2 of go-car's among
// 1M, 1/3 among 10M, no allocation.
func BenchmarkLookUp(b *testing.B) {
	for _, n := range []int{1_000_000, 10_000_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) { benchmarkLookUp(b, n) })
	}
}

func benchmarkLookUp(b *testing.B, n int) {
	const each = 100_000
	path := bigFile(b, n)
	x := mapFile(b, path)
	f, err := os.Open(path)
	require.NoError(b, err)
	defer f.Close()
	theirs, err := carindex.ReadFrom(bufio.NewReaderSize(f, 1<<20))
	require.NoError(b, err)
	found := 0
	count := func(uint64) bool {
		found++
		return false
	}
	contestants := []struct {
		name   string
		lookUp func(cid.Cid)
	}{
		{"go-car", func(c cid.Cid) { _ = theirs.GetAll(c, count) }},
		{"Find", func(c cid.Cid) {
			code, digest, _, _ := fullindex.MultihashOf(c)
			m := x.Find(code, digest)
			if _, ok := m.Next(); ok {
				found++
			}
		}},
		{"GetAll", func(c cid.Cid) { _ = x.GetAll(c, count) }},
	}
	times := make([][]float64, len(contestants))
	var mallocs uint64
	random := rand.New(rand.NewPCG(1, 2))
	for b.Loop() {
		for i, c := range contestants {
			keys := make([]cid.Cid, each)
			for k := range keys {
				r, err := x.Record(random.Int64N(int64(n)))
				require.NoError(b, err)
				h, err := multihash.Encode(r.Digest, multihash.SHA2_256)
				require.NoError(b, err)
				keys[k] = cid.NewCidV1(cid.Raw, h)
			}
			found = 0
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			begin := cpuTime(b)
			for _, k := range keys {
				c.lookUp(k)
			}
			times[i] = append(times[i], float64(cpuTime(b)-begin)/each)
			runtime.ReadMemStats(&after)
			require.Equal(b, each, found)
			if i > 0 {
				mallocs += after.Mallocs - before.Mallocs
			}
		}
	}
	require.Less(b, mallocs, uint64(len(times[0])*each/100))
	b.ReportMetric(0, "ns/op")
	for i, c := range contestants {
		b.ReportMetric(median(times[i]), c.name+"-ns")
		b.ReportMetric(median(times[i])/median(times[0]), c.name+"/go-car")
	}
}

// BenchmarkOpen opens the file of an index of 10M records. Bars, with what a
// repository does besides: 100 µs of CPU and 1 KiB of heap.
func BenchmarkOpen(b *testing.B) {
	path := bigFile(b, 10_000_000)
	b.ReportAllocs()
	begin := cpuTime(b)
	for b.Loop() {
		f, err := os.Open(path)
		require.NoError(b, err)
		data, err := mapped.Open(f)
		require.NoError(b, err)
		x, err := fullindex.FromData(data)
		require.NoError(b, err)
		require.NoError(b, x.Close())
	}
	b.ReportMetric(float64(cpuTime(b)-begin)/float64(b.N), "cpu-ns")
}

// BenchmarkEachRecord visits 10M records of a mapped file. Bar: 5 ns a record.
func BenchmarkEachRecord(b *testing.B) {
	x := mapFile(b, bigFile(b, 10_000_000))
	var sum uint64
	b.ReportAllocs()
	begin := cpuTime(b)
	for b.Loop() {
		require.NoError(b, x.EachRecord(func(_ uint64, digest []byte, offset uint64) error {
			sum += offset + uint64(digest[0])
			return nil
		}))
	}
	b.ReportMetric(float64(cpuTime(b)-begin)/float64(b.N)/float64(x.Len()), "cpu-ns/record")
}

func cpuTime(b *testing.B) time.Duration {
	var usage unix.Rusage
	require.NoError(b, unix.Getrusage(unix.RUSAGE_SELF, &usage))
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}

func median(values []float64) float64 {
	values = slices.Sorted(slices.Values(values))
	return values[len(values)/2]
}

// BenchmarkEachInRange goes to random places of a mapped file of 10M records, and
// some records on from there. Bar: 10 ns a record of 1,000, the search included.
func BenchmarkEachInRange(b *testing.B) {
	const walks = 1000
	x := mapFile(b, bigFile(b, 10_000_000))
	require.NoError(b, x.Verify(b.Context())) // which maps its pages
	random := rand.New(rand.NewPCG(1, 2))
	for _, n := range []int{1, 1000, 100_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			var after [walks]multihash.Multihash
			for i := range after {
				hashes, err := x.Multihashes(random.Int64N(x.Len()-int64(n)-1), 1)
				require.NoError(b, err)
				after[i] = hashes[0]
			}
			var sum uint64
			b.ReportAllocs()
			begin := cpuTime(b)
			for i := 0; b.Loop(); i++ {
				left := n
				err := x.EachInRange(after[i%walks], nil, func(h multihash.Multihash, offset uint64) bool {
					sum += offset + uint64(h[5])
					left--
					return left > 0
				})
				if err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(cpuTime(b)-begin)/float64(b.N)/float64(n), "cpu-ns/record")
		})
	}
}
