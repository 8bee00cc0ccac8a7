package carfile_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/filecoin-project/dagstore/internal/carfile"
	"github.com/filecoin-project/dagstore/internal/cartest"
)

// countingReader counts reads and their bytes.
type countingReader struct {
	io.ReaderAt
	mu           sync.Mutex
	reads, bytes int
	end          int64 // of what was read
}

func (r *countingReader) ReadAt(p []byte, off int64) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.reads++
	r.bytes += len(p)
	r.end = max(r.end, off+int64(len(p)))
	return r.ReaderAt.ReadAt(p, off)
}

func TestBigBlocksAreSkippedAndSmallOnesReadManyAtOnce(t *testing.T) {
	small := cartest.Blocks(1, 100, 1)
	big := cartest.BigBlocks(1, 1<<20, 1)
	for name, c := range map[string]struct {
		blocks       []cartest.Block
		reads, bytes int
	}{
		"few small":         {cartest.Blocks(5, 200, 1), 3, 1500},
		"small":             {slices.Repeat(cartest.Blocks(1, 200, 1), 5000), 10, 1300 << 10},
		"medium":            {slices.Repeat(cartest.Blocks(1, 10<<10, 1), 100), 110, 280 << 10},
		"big":               {slices.Repeat(big, 10), 20, 400 << 10},
		"big and small":     {slices.Repeat(slices.Concat(big, small), 7), 30, 300 << 10},
		"big and few small": {slices.Repeat(slices.Concat(big, small, small, small), 7), 30, 300 << 10},
	} {
		file := cartest.V1(nil, c.blocks)
		r := &countingReader{ReaderAt: bytes.NewReader(file)}
		visited := 0
		err := carfile.Scan(t.Context(), r, int64(len(file)), carfile.Options{}, func(*carfile.Section) error { visited++; return nil })
		require.NoError(t, err, name)
		require.Equal(t, len(c.blocks), visited, name)
		t.Logf("%s: %d reads, %d bytes", name, r.reads, r.bytes)
		require.LessOrEqual(t, r.reads, c.reads, name)
		require.LessOrEqual(t, r.bytes, c.bytes, name)
		require.Equal(t, int64(len(file)), r.end, "the last byte was seen")
	}
}

func TestFindingThePayloadReadsLittle(t *testing.T) {
	v1 := cartest.V1(nil, cartest.Blocks(3, 100, 1))
	long := slices.Concat(uvarint(3<<20), []byte{0xa2}, make([]byte, 4<<20)) // Find does not look into a header
	for _, file := range [][]byte{v1, padded(v1, 0), padded(v1, 5000), long, padded(long, 7)} {
		r := &countingReader{ReaderAt: bytes.NewReader(file)}
		p, err := carfile.Find(r, int64(len(file)))
		require.NoError(t, err)
		require.LessOrEqual(t, r.reads, 2)
		require.LessOrEqual(t, r.bytes, 70)
		n, width := binary.Uvarint(file[p.Offset:])
		require.Equal(t, int64(n)+int64(width), p.Header)
	}
}

func TestMappingIsReadWhereSectionsAreNeitherSmallNorBig(t *testing.T) {
	boom := errors.New("boom")
	for size, want := range map[int]bool{300: false, 5000: true, 10 << 10: true, 17 << 10: false, 300 << 10: false} {
		blocks := slices.Repeat(cartest.BigBlocks(1, size, 1), 20)
		file := padded(cartest.V1(nil, blocks), 7)
		mapped := &countingReader{ReaderAt: bytes.NewReader(file)}
		var all []found
		o := carfile.Options{Mapped: mapped}
		require.NoError(t, carfile.Scan(t.Context(), bytes.NewReader(file), int64(len(file)), o, into(&all)))
		require.Len(t, all, len(blocks))
		require.Equal(t, want, mapped.reads > 10, "sections of %d bytes: %d reads", size, mapped.reads)

		o.Mapped = brokenReader{bytes.NewReader(file), 0, func() error { return boom }}
		err := carfile.Scan(t.Context(), bytes.NewReader(file), int64(len(file)), o, nothing)
		require.Equal(t, want, errors.Is(err, boom), "%v", err)
		o.Verify = 2
		require.NoError(t, carfile.Scan(t.Context(), bytes.NewReader(file), int64(len(file)), o, nothing), "blocks are read anyway")
	}
}

// TestSmallBlocksAreVerifiedWithoutReadingThemAgain: one read serves many blocks,
// and a big block is read once and piece by piece.
func TestSmallBlocksAreVerifiedWithoutReadingThemAgain(t *testing.T) {
	for name, c := range map[string]struct {
		size, blocks, reads int
		factor              float64 // bytes read for a byte of the file
	}{
		"small":  {200, 10_000, 8, 1.01},
		"medium": {100 << 10, 40, 12, 1.15},
		"big":    {1 << 20, 4, 30, 1.3},
	} {
		file := cartest.V1(nil, cartest.BigBlocks(c.blocks, c.size, 1))
		r := &countingReader{ReaderAt: bytes.NewReader(file)}
		require.NoError(t, carfile.Scan(t.Context(), r, int64(len(file)), carfile.Options{Verify: 1}, nothing), name)
		t.Logf("%s: %d reads, %d bytes of %d", name, r.reads, r.bytes, len(file))
		require.LessOrEqual(t, r.reads, c.reads, name)
		require.LessOrEqual(t, float64(r.bytes), c.factor*float64(len(file)), name)
	}
}

// scanWindows collects the sections of a file that is scanned with other windows.
func scanWindows(t *testing.T, file []byte, w carfile.Windows, verify int) (all []found, err error) {
	err = carfile.ScanWindows(t.Context(), bytes.NewReader(file), int64(len(file)), w, verify, into(&all))
	return all, err
}

func randomWindows(r *rand.Rand, most int64) carfile.Windows {
	return carfile.Windows{
		Dense: 1 + r.Int64N(most), Probe: 1 + r.Int64N(most), Jump: r.Int64N(most), Whole: r.Int64N(2) * r.Int64N(most),
	}
}

func TestNoSectionIsLostWhereWindowsEnd(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	var blocks []cartest.Block
	for i := range uint64(60) {
		blocks = append(blocks, mixed(r.IntN(9), r.IntN(200), i)...)
		blocks = append(blocks, cartest.Identity(make([]byte, r.IntN(2043))), cartest.Raw(make([]byte, r.IntN(5000))))
	}
	for name, file := range containers(cartest.V1(nil, blocks)) {
		want, err := sections(file)
		require.NoError(t, err)
		require.Len(t, want, len(blocks))
		for _, most := range []int64{1, 2, 40, 300, 5000} {
			w := randomWindows(r, most)
			got, err := scanWindows(t, file, w, 0)
			require.NoError(t, err, "%s %+v", name, w)
			require.Equal(t, want, got, "%s %+v", name, w)
		}
	}
}

func TestWindowsDoNotChangeWhatIsRefused(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	whole := cartest.V1(nil, slices.Concat(mixed(18, 60, 1), cartest.Blocks(2, 5000, 1), mixed(9, 10, 2)))
	for range 500 {
		file := mutated(r, whole)
		want, wantErr := sections(file)
		w := randomWindows(r, 300)
		got, err := scanWindows(t, file, w, 0)
		require.Equal(t, wantErr, err, "%+v", w)
		require.Equal(t, want, got, "%+v", w)
	}
}
