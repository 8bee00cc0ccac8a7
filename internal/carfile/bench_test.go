//go:build unix

package carfile_test

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/filecoin-project/dagstore/internal/carfile"
	"github.com/filecoin-project/dagstore/internal/cartest"
	"github.com/filecoin-project/dagstore/internal/mapped"
)

// cpu returns the CPU time of the process so far.
func cpu(tb testing.TB) time.Duration {
	var u syscall.Rusage
	require.NoError(tb, syscall.Getrusage(syscall.RUSAGE_SELF, &u))
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// bigCar writes a CAR of n blocks of size bytes. Only the CIDs are worth
// anything, and only as much as a scan without verification can see.
func bigCar(tb testing.TB, n, size int) *os.File {
	path := filepath.Join(tb.TempDir(), "big.car")
	f, err := os.Create(path)
	require.NoError(tb, err)
	tb.Cleanup(func() { f.Close() })
	w := bufio.NewWriterSize(f, 1<<20)
	_, err = w.Write(cartest.Header(1))
	require.NoError(tb, err)
	section := cartest.Section(cartest.Blocks(1, size, 1)[0])
	for i := range n {
		copy(section[len(section)-size-8:], fmt.Sprintf("%08x", i)) // the end of the digest
		_, err = w.Write(section)
		require.NoError(tb, err)
	}
	require.NoError(tb, w.Flush())
	return f
}

func readAll(tb testing.TB, f *os.File) {
	buf := make([]byte, 1<<20)
	for offset := int64(0); ; offset += int64(len(buf)) {
		if _, err := f.ReadAt(buf, offset); err == io.EOF {
			return
		} else if err != nil {
			tb.Fatal(err)
		}
	}
}

// BenchmarkScan compares the CPU time of a scan with that of reading the file
// once, in the same run: x is the median of their ratios. Mapping the file counts.
func BenchmarkScan(b *testing.B) {
	for _, c := range []struct{ blocks, size int }{{1_000_000, 256}, {100_000, 10 << 10}, {1000, 1 << 20}} {
		f := bigCar(b, c.blocks, c.size)
		for name, scan := range map[string]func(testing.TB, *os.File) int{"read": scanRead, "mapped": scanMapped} {
			b.Run(fmt.Sprintf("%dx%d/%s", c.blocks, c.size, name), func(b *testing.B) {
				b.ReportAllocs()
				var ratios, floors, scans []float64
				for b.Loop() {
					start := cpu(b)
					readAll(b, f)
					middle := cpu(b)
					require.Equal(b, c.blocks, scan(b, f))
					end := cpu(b)
					floors = append(floors, float64((middle-start).Microseconds())/1000)
					scans = append(scans, float64((end-middle).Microseconds())/1000)
					ratios = append(ratios, float64(end-middle)/float64(middle-start))
				}
				b.ReportMetric(median(ratios), "x")
				b.ReportMetric(median(floors), "read-ms")
				b.ReportMetric(median(scans), "scan-ms")
			})
		}
		f.Close()
	}
}

// scanRead returns how many sections the file has.
func scanRead(tb testing.TB, f *os.File) int { return scanWith(tb, f, carfile.Options{}) }

// scanMapped does so with a mapping.
func scanMapped(tb testing.TB, f *os.File) int {
	file, err := os.Open(f.Name())
	require.NoError(tb, err)
	data, err := mapped.Open(file)
	require.NoError(tb, err)
	defer data.Close()
	require.NoError(tb, data.Map())
	return scanWith(tb, f, carfile.Options{Mapped: data})
}

func scanWith(tb testing.TB, f *os.File, o carfile.Options) (n int) {
	stat, err := f.Stat()
	require.NoError(tb, err)
	require.NoError(tb, carfile.Scan(tb.Context(), f, stat.Size(), o, func(*carfile.Section) error { n++; return nil }))
	return n
}

func median(all []float64) float64 {
	slices.Sort(all)
	return all[len(all)/2]
}
