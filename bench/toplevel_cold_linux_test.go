package bench

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"unsafe"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/filecoin-project/dagstore/internal/files"
)

// BenchmarkTopLevelCold looks multihashes up in an index of 12M records, 10M of which
// are in one layer, whose pages are not in the page cache. Bar: 2 pages are read for a
// layer. Filters and tables were read when the index was opened, or at first use.
func BenchmarkTopLevelCold(b *testing.B) {
	const (
		each = 1000 // look-ups of a round
		n    = 10 * aMillion
	)
	x := makeToplevel(b, n, 100)
	x.add(b, x.fresh(aMillion))
	x.add(b, x.fresh(aMillion/2))
	x.settle(b)
	var hits, misses, faults []float64
	round := func() {
		x.chill(b)
		x.lookUpAll(b, wantedMultihashes(0, n, 9).next(10*each)) // each partition has been used
		before := x.resident(b)
		begin := majorFaults(b)
		x.lookUpAll(b, wantedMultihashes(0, n, 7).next(each))
		faults = append(faults, float64(majorFaults(b)-begin)/each)
		between := x.resident(b)
		x.lookUpAll(b, wantedMultihashes(absent, n, 8).next(each))
		hits = append(hits, float64(between-before)/each)
		misses = append(misses, float64(x.resident(b)-between)/each)
	}
	for b.Loop() {
		round()
	}
	for len(hits) < leastRounds {
		round()
	}
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(median(hits), "pages/hit")
	b.ReportMetric(median(misses), "pages/miss")
	b.ReportMetric(median(faults), "faults/hit")
	b.ReportMetric(float64(x.layers(b)), "layers")
}

func (x *toplevelIndex) lookUpAll(b *testing.B, mhs [][]byte) {
	b.Helper()
	for _, mh := range mhs {
		_, err := x.Lookup(mh)
		require.NoError(b, err)
	}
}

// chill opens the index anew when its layers are not in the page cache any more.
func (x *toplevelIndex) chill(b *testing.B) {
	b.Helper()
	require.NoError(b, x.Close())
	x.eachLayer(b, func(f *os.File) {
		require.NoError(b, f.Sync())
		require.NoError(b, unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_DONTNEED))
	})
	require.Less(b, x.resident(b), 100)
	x.open(b, files.OS)
}

func (x *toplevelIndex) eachLayer(b *testing.B, use func(*os.File)) {
	b.Helper()
	for _, name := range filesIn(b, x.dir) {
		if !strings.HasPrefix(name, "layer-") {
			continue
		}
		f, err := os.Open(filepath.Join(x.dir, name))
		require.NoError(b, err)
		use(f)
		require.NoError(b, f.Close())
	}
}

// resident returns how many pages of all layers are in the page cache.
func (x *toplevelIndex) resident(b *testing.B) (pages int) {
	b.Helper()
	x.eachLayer(b, func(f *os.File) {
		info, err := f.Stat()
		require.NoError(b, err)
		mapping, err := unix.Mmap(int(f.Fd()), 0, int(info.Size()), unix.PROT_READ, unix.MAP_SHARED)
		require.NoError(b, err)
		present := make([]byte, (len(mapping)+os.Getpagesize()-1)/os.Getpagesize())
		require.NoError(b, mincore(mapping, present))
		require.NoError(b, unix.Munmap(mapping))
		for _, p := range present {
			pages += int(p & 1)
		}
	})
	return pages
}

func majorFaults(b *testing.B) int64 {
	b.Helper()
	var u syscall.Rusage
	require.NoError(b, syscall.Getrusage(syscall.RUSAGE_SELF, &u))
	return u.Majflt
}

func mincore(mapping, present []byte) error {
	_, _, errno := unix.Syscall(unix.SYS_MINCORE, uintptr(unsafe.Pointer(&mapping[0])), uintptr(len(mapping)), uintptr(unsafe.Pointer(&present[0])))
	if errno != 0 {
		return errno
	}
	return nil
}
