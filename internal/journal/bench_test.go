package journal_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/filecoin-project/dagstore/internal/files"
	"github.com/filecoin-project/dagstore/internal/journal"
)

func BenchmarkAppend(b *testing.B) {
	j, err := journal.Create(files.OS, newPath(b), nil)
	require.NoError(b, err)
	entry := make([]byte, 100)
	b.SetParallelism(64)
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if err := j.Append(ctx, entry, nil); err != nil {
				b.Error(err)
			}
		}
	})
	require.NoError(b, j.Close())
}

func BenchmarkRead(b *testing.B) {
	for name, n := range map[string]int{"100B": 100, "100KiB": 100 << 10} {
		b.Run(name, func(b *testing.B) {
			path := newPath(b)
			first := make([][]byte, 32<<20/n)
			for i := range first {
				first[i] = make([]byte, n)
			}
			j, err := journal.Create(files.OS, path, first)
			require.NoError(b, err)
			require.NoError(b, j.Close())
			b.SetBytes(sizeOf(b, path))
			b.ReportAllocs()
			for b.Loop() {
				_, err := journal.Read(files.OS, path, journal.Position{}, func([]byte) error { return nil })
				require.NoError(b, err)
			}
		})
	}
}
