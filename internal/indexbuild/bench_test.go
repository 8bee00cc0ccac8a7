//go:build unix

package indexbuild_test

import (
	"context"
	"fmt"
	"io"
	"syscall"
	"testing"

	"github.com/filecoin-project/dagstore/internal/files"
	"github.com/filecoin-project/dagstore/internal/indexbuild"
)

// cpu returns the CPU time that the process has used, in nanoseconds.
func cpu() float64 {
	var u syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return float64(u.Utime.Nano() + u.Stime.Nano())
}

func BenchmarkBuild(b *testing.B) {
	for _, c := range []struct{ records, memory, length int }{
		{1e6, 256, 32}, {1e6, 256, 64}, {1e6, 256, 24}, {1e6, 8, 32}, {1e7, 256, 32}, {1e7, 64, 32}, {1e7, 1024, 32},
	} {
		b.Run(fmt.Sprintf("records=%d/length=%d/memory=%dMiB", c.records, c.length, c.memory), func(b *testing.B) {
			budget := indexbuild.NewBudget(int64(c.memory) << 20)
			dir := b.TempDir()
			var making, adding, writing float64
			for b.Loop() {
				var source digests
				d := make([]byte, c.length)
				start := cpu()
				for range c.records {
					source.next(d)
				}
				made := cpu()
				x := indexbuild.New(files.OS, dir, budget)
				for i := range c.records {
					source.next(d)
					if err := x.Add(0x12, d, uint64(i)*300); err != nil {
						b.Fatal(err)
					}
				}
				added := cpu()
				if err := x.WriteTo(context.Background(), io.Discard); err != nil {
					b.Fatal(err)
				}
				if err := x.Close(); err != nil {
					b.Fatal(err)
				}
				making += made - start
				adding += added - made
				writing += cpu() - added
			}
			n := float64(b.N) * float64(c.records)
			b.ReportMetric((adding-making)/n, "add-ns/record")
			b.ReportMetric(writing/n, "write-ns/record")
		})
	}
}
