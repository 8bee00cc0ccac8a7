package carfile_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"io"
	"runtime"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/filecoin-project/dagstore/internal/carfile"
	"github.com/filecoin-project/dagstore/internal/cartest"
)

// allocated returns how many bytes indexing the file allocates.
func allocated(file []byte) int64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	_, _ = index(file)
	runtime.ReadMemStats(&after)
	return int64(after.TotalAlloc - before.TotalAlloc)
}

func TestSmallHostileCarCannotExhaustTheMemory(t *testing.T) {
	const size = 1 << 20
	fill := func(section func(i int) cartest.Block) []byte {
		file := cartest.Header(1)
		for i := 0; len(file) < size; i++ {
			file = append(file, cartest.Section(section(i))...)
		}
		return file
	}
	roots := func() []byte {
		root := []byte("\xd8\x2a\x45\x00\x01\x55\x00\x00")
		h := binary.BigEndian.AppendUint32([]byte("\xa2\x65roots\x9a"), size/8)
		h = append(append(h, bytes.Repeat(root, size/8)...), "\x67version\x01"...)
		return slices.Concat(binary.AppendUvarint(nil, uint64(len(h))), h)
	}
	for name, file := range map[string][]byte{
		"empty identity CIDs": fill(func(int) cartest.Block { return cartest.Identity(nil) }),
		"a code for each block": fill(func(i int) cartest.Block {
			return cartest.Block{Cid: cartest.Cid(uint64(i), nil)}
		}),
		"a length for each block": fill(func(i int) cartest.Block {
			return cartest.Block{Cid: cartest.Cid(uint64(i/40), make([]byte, i%40))}
		}),
		"long CIDs":      fill(func(int) cartest.Block { return cartest.Identity(make([]byte, 2000)) }),
		"a header bomb":  roots(),
		"nested header":  slices.Concat(binary.AppendUvarint(nil, size), bytes.Repeat([]byte{0x81}, size)),
		"a header alone": cartest.Header(1),
	} {
		n := int64(len(file))
		got := allocated(file)
		t.Logf("%-24s %7d bytes: %9d allocated, K = %.1f", name, n, got, float64(got)/float64(n))
		require.LessOrEqual(t, got, 128*n+1<<20, name)
	}
	usual := cartest.V1(nil, cartest.Blocks(8000, 1024, 1))
	t.Logf("usual: %.2f", float64(allocated(usual))/float64(len(usual)))
	require.LessOrEqual(t, allocated(usual), int64(len(usual))/2+1<<20)
}

// countingReader counts reads and their bytes.
type countingReader struct {
	io.ReaderAt
	reads, bytes int
}

func (r *countingReader) ReadAt(p []byte, off int64) (int, error) {
	r.reads++
	r.bytes += len(p)
	return r.ReaderAt.ReadAt(p, off)
}

func TestBigBlocksAreSkippedAndSmallOnesReadManyAtOnce(t *testing.T) {
	for _, c := range []struct{ blocks, size, reads, bytes int }{
		{5000, 200, 10, 1300 << 10},
		{20, 1 << 20, 30, 400 << 10},
	} {
		file := cartest.V1(nil, cartest.Blocks(c.blocks, c.size, 1))
		r := &countingReader{ReaderAt: bytes.NewReader(file)}
		require.NoError(t, carfile.Sections(context.Background(), r, int64(len(file)), func(carfile.Section) error { return nil }))
		require.LessOrEqual(t, r.reads, c.reads)
		require.LessOrEqual(t, r.bytes, c.bytes)
	}
}

func TestSectionAtAllocatesOnlyTheCid(t *testing.T) {
	file := cartest.V1(nil, cartest.Blocks(1, 100, 1))
	r := bytes.NewReader(file)
	p, err := carfile.Locate(r, r.Size())
	require.NoError(t, err)
	allocs := testing.AllocsPerRun(100, func() {
		_, err = carfile.SectionAt(r, p, uint64(p.Header))
	})
	require.NoError(t, err)
	require.LessOrEqual(t, allocs, 1.5) // the race detector empties pools at random
}

func BenchmarkIndex(b *testing.B) {
	file := cartest.V1(nil, cartest.Blocks(100_000, 256, 1))
	b.SetBytes(int64(len(file)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := index(file); err != nil {
			b.Fatal(err)
		}
	}
}

func FuzzIndex(f *testing.F) {
	v1 := cartest.V1(nil, mixed(6, 20, 1))
	for _, seed := range [][]byte{v1, padded(v1, 7), cartest.Padded(v1, 2), cartest.V1(nil, nil)} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, file []byte) {
		all, err := sections(file)
		idx, indexErr := index(file)
		require.Equal(t, err == nil, indexErr == nil)
		if err != nil {
			var e *carfile.Error
			require.ErrorAs(t, err, &e)
			return
		}
		p, err := carfile.Locate(bytes.NewReader(file), int64(len(file)))
		require.NoError(t, err)
		for _, s := range all {
			require.LessOrEqual(t, s.DataOffset+s.DataSize, p.Size)
			again, err := carfile.SectionAt(bytes.NewReader(file), p, uint64(s.Offset))
			require.NoError(t, err)
			require.Equal(t, s, again)
			require.NoError(t, idx.GetAll(s.Cid, func(uint64) bool { return false }))
		}
	})
}
