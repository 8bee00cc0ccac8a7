package bench

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
)

// A process with these variables handles the CAR, says what that took, and ends.
const (
	childCAR    = "DAGSTORE_BENCH_CAR"
	childFolder = "DAGSTORE_BENCH_FOLDER" // for the index; without one the CAR is only read
	childMemory = "DAGSTORE_BENCH_MEMORY" // for the index, in bytes
)

// A footprint is what a process took.
type footprint struct {
	Peak int64 // resident memory, in bytes
	CPU  int64 // in nanoseconds
}

// handleInChild does the work of a child process.
func handleInChild(path string) error {
	err := readOrIndex(path)
	if err != nil {
		return err
	}
	var took footprint
	if took.Peak, err = peakMemory(); err != nil {
		return err
	}
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return err
	}
	took.CPU = u.Utime.Nano() + u.Stime.Nano()
	return json.NewEncoder(os.Stdout).Encode(took)
}

func readOrIndex(path string) error {
	dir := os.Getenv(childFolder)
	if dir == "" {
		return readCAR(path)
	}
	memory, err := strconv.ParseInt(os.Getenv(childMemory), 10, 64)
	if err != nil {
		return err
	}
	return indexCAR(path, dir, memory)
}

// peakMemory returns the largest resident memory of this process, as Linux tells
// it.
func peakMemory() (int64, error) {
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return 0, err
	}
	_, rest, found := bytes.Cut(status, []byte("VmHWM:"))
	var kib int64
	if _, err := fmt.Fscan(bytes.NewReader(rest), &kib); !found || err != nil {
		return 0, errors.Join(errors.New("no peak of resident memory"), err)
	}
	return kib << 10, nil
}

// inChild runs a child process with more variables.
func inChild(tb testing.TB, variables ...string) (took footprint) {
	tb.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), variables...)
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	require.NoError(tb, err)
	require.NoError(tb, json.Unmarshal(out, &took))
	return took
}

// BenchmarkIndexingMemory indexes 10M blocks of 32 B in a process of its own, with
// the default bound of memory and with one of 64 MiB. Bars: a peak of 300 MiB; 2
// times the CPU with the lower bound, and the same index. Floor: reading the CAR.
func BenchmarkIndexingMemory(b *testing.B) {
	if _, err := peakMemory(); err != nil {
		b.Skip(err)
	}
	car := makeCAR(b, 10_000_000, 32)
	dirs := []string{b.TempDir(), b.TempDir()}
	file := childCAR + "=" + car.path
	var floors, usual, bounded []footprint
	for b.Loop() {
		for range leastRounds {
			floors = append(floors, inChild(b, file))
			usual = append(usual, inChild(b, file, childFolder+"="+dirs[0], childMemory+"=0"))
			bounded = append(bounded, inChild(b, file, childFolder+"="+dirs[1], fmt.Sprintf("%s=%d", childMemory, 64<<20)))
		}
	}
	require.Equal(b, indexSum(b, dirs[0]), indexSum(b, dirs[1]))
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(worstPeak(usual), "peak-MiB")
	b.ReportMetric(worstPeak(bounded), "bounded-peak-MiB")
	b.ReportMetric(worstPeak(floors), "floor-peak-MiB")
	b.ReportMetric(medianCPU(usual)/1e6, "cpu-ms")
	b.ReportMetric(medianCPU(floors)/1e6, "floor-cpu-ms")
	b.ReportMetric(medianCPU(bounded)/medianCPU(usual), "bounded-x")
}

func worstPeak(of []footprint) float64 {
	var worst int64
	for _, f := range of {
		worst = max(worst, f.Peak)
	}
	return float64(worst) / (1 << 20)
}

func medianCPU(of []footprint) float64 {
	var all []float64
	for _, f := range of {
		all = append(all, float64(f.CPU))
	}
	return median(all)
}

// indexSum returns a checksum of the one index in a folder.
func indexSum(tb testing.TB, dir string) uint32 {
	tb.Helper()
	found, err := filepath.Glob(filepath.Join(dir, "*.idx"))
	require.NoError(tb, err)
	require.Len(tb, found, 1)
	f, err := os.Open(found[0])
	require.NoError(tb, err)
	defer f.Close()
	sum := crc32.NewIEEE()
	_, err = io.Copy(sum, f)
	require.NoError(tb, err)
	return sum.Sum32()
}
