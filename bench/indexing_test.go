package bench

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/filecoin-project/dagstore/index"
	"github.com/filecoin-project/dagstore/internal/files"
	"github.com/filecoin-project/dagstore/internal/indexbuild"
	"github.com/filecoin-project/dagstore/internal/indexer"
	"github.com/filecoin-project/dagstore/internal/mapped"
)

// indexCAR indexes a file as a store does, to the finished, synced file in a
// folder.
func indexCAR(path, dir string, memory int64) (err error) {
	repo, err := index.NewFSRepo(dir)
	if err != nil {
		return err
	}
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	data, err := mapped.Open(f)
	if err != nil {
		return errors.Join(err, f.Close())
	}
	defer func() { err = errors.Join(err, data.Close()) }()
	x := indexer.New(indexer.Options{FS: files.OS, Dir: dir, Budget: indexbuild.NewBudget(memory)})
	defer func() { err = errors.Join(err, x.Close()) }()
	ctx := context.Background()
	if err := x.ScanMapped(ctx, f, data); err != nil {
		return err
	}
	return repo.WriteFullIndex(numbered(0), func(w io.Writer) error { return x.WriteTo(ctx, w) })
}

// readCAR reads a file from start to end.
func readCAR(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	buf := make([]byte, 1<<20)
	for {
		_, err := f.Read(buf)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// writeIndexed writes a file of the size of an index, and syncs it.
func writeIndexed(dir string, records int) error {
	buf := make([]byte, 64<<10)
	return files.Replace(files.OS, filepath.Join(dir, "floor"), func(w io.Writer) error {
		for left := records * recordWidth; left > 0; left -= len(buf) {
			if _, err := w.Write(buf[:min(left, len(buf))]); err != nil {
				return err
			}
		}
		return nil
	})
}

// emptyFolder removes the files in a folder.
func emptyFolder(b *testing.B, dir string) {
	b.Helper()
	require.NoError(b, os.RemoveAll(dir))
	require.NoError(b, os.Mkdir(dir, 0o700))
}

// BenchmarkIndexing indexes a CAR in the page cache. Floor: reading it from start
// to end; what writing the index takes is told too. Bars: 6 times the floor for 1M
// blocks of 256 B, 0.9 times for 100k of 10 KiB, 0.1 times for 1k of 1 MiB.
func BenchmarkIndexing(b *testing.B) {
	b.Run("1Mx256B", func(b *testing.B) { benchmarkIndexing(b, 1_000_000, 256) })
	b.Run("100kx10KiB", func(b *testing.B) { benchmarkIndexing(b, 100_000, 10<<10) })
	b.Run("1kx1MiB", func(b *testing.B) { benchmarkIndexing(b, 1000, 1<<20) })
}

func benchmarkIndexing(b *testing.B, blocks, size int) {
	car, dir := makeCAR(b, blocks, size), b.TempDir()
	var c contest
	floor := c.add(func() error { return readCAR(car.path) })
	ours := c.add(func() error { return indexCAR(car.path, dir, 0) })
	writing := c.add(func() error { return writeIndexed(dir, blocks) })
	ours.prepare = func() { emptyFolder(b, dir) } // what replacing costs is the old file's
	writing.prepare = ours.prepare
	c.hold(b)
	b.ReportMetric(ours.over(floor), "x-seqread")
	b.ReportMetric(ours.nanos(1)/1e6, "cpu-ms")
	b.ReportMetric(floor.nanos(1)/1e6, "floor-cpu-ms")
	b.ReportMetric(writing.nanos(1)/1e6, "writing-cpu-ms")
	b.ReportMetric(ours.bytes(1<<20), "alloc-MiB")
}

// BenchmarkIndexingAgainstGoCar indexes 1M blocks of 256 B, and has go-car do it
// once, in memory. Bar: go-car takes 15 times the CPU.
func BenchmarkIndexingAgainstGoCar(b *testing.B) {
	car, dir := makeCAR(b, 1_000_000, 256), b.TempDir()
	theirs := measure(b, func() error { return goCarIndexing(car.path) })
	var c contest
	ours := c.add(func() error { return indexCAR(car.path, dir, 0) })
	c.hold(b)
	require.Positive(b, ours.cpu())
	b.ReportMetric(float64(theirs.cpu)/float64(ours.cpu()), "gocar-x")
	b.ReportMetric(ours.nanos(1)/1e6, "cpu-ms")
	b.ReportMetric(float64(theirs.cpu)/1e6, "gocar-cpu-ms")
}
