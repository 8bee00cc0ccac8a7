package journal_test

import (
	"encoding/binary"
	"hash/crc32"
	"runtime"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/filecoin-project/dagstore/internal/files"
	"github.com/filecoin-project/dagstore/internal/journal"
)

// small makes a journal and returns its entries and the end of each: of those
// it was created with the last one.
func small(t testing.TB, path string) (texts []string, ends []int64) {
	j, err := journal.Create(files.OS, path, entries("begin", "snapshot"))
	require.NoError(t, err)
	ends = append(ends, 0, j.Size())
	for _, text := range []string{"a", "\x00\x00\x00\x00", "a longer entry"} {
		require.NoError(t, j.Append(ctx, []byte(text), nil))
		ends = append(ends, j.Size())
	}
	require.NoError(t, j.Close())
	return reopened(t, path), ends
}

// requireDamaged requires that neither writer nor reader takes b for a journal,
// that they see nothing but the first of texts, and that nobody changes it.
func requireDamaged(t *testing.T, path string, b []byte, texts []string, what ...any) {
	replace(t, path, b)
	_, got, err := open(files.OS, path)
	require.ErrorIs(t, err, journal.ErrDamaged, what...)
	require.Equal(t, texts[:len(got)], append([]string{}, got...), what...)
	read, _, err := followed(path, journal.Position{})
	require.ErrorIs(t, err, journal.ErrDamaged, what...)
	require.Equal(t, got, read, what...)
	require.Equal(t, b, contents(t, path), what...)
}

func TestEachFlippedBitIsFound(t *testing.T) {
	path := newPath(t)
	texts, _ := small(t, path)
	whole := contents(t, path)
	for bit := range len(whole) * 8 {
		b := slices.Clone(whole)
		b[bit/8] ^= 1 << (bit % 8)
		requireDamaged(t, path, b, texts, "bit %d of byte %d", bit%8, bit/8)
	}
}

func TestEachChangedByteIsFound(t *testing.T) {
	path := newPath(t)
	texts, _ := small(t, path)
	whole := contents(t, path)
	for i := range whole {
		for _, c := range []byte{0x00, 0xff, whole[i] + 1} {
			if b := slices.Clone(whole); b[i] != c {
				b[i] = c
				requireDamaged(t, path, b, texts, "byte %d", i)
			}
		}
	}
}

// requireUsable requires that the journal has these entries, and takes more.
func requireUsable(t *testing.T, path string, texts []string, end int64, what ...any) {
	got, to, err := followed(path, journal.Position{})
	require.NoError(t, err, what...)
	require.Equal(t, texts, got, what...)
	require.Equal(t, end, to.Offset, what...)

	j, got, err := open(files.OS, path)
	require.NoError(t, err, what...)
	require.Equal(t, texts, got, what...)
	require.Equal(t, end, sizeOf(t, path), what...)
	require.NoError(t, j.Append(ctx, []byte("more"), nil), what...)
	require.NoError(t, j.Close(), what...)

	added, _, err := followed(path, to)
	require.NoError(t, err, what...)
	require.Equal(t, []string{"more"}, added, what...)
	require.Equal(t, append(slices.Clone(texts), "more"), reopened(t, path), what...)
}

func TestTailThatACrashLeftIsCut(t *testing.T) {
	path := newPath(t)
	texts, ends := small(t, path)
	whole := contents(t, path)
	for size := range len(whole) + 1 {
		n, _ := slices.BinarySearch(ends, int64(size)+1)
		n-- // whole ones
		if n == 0 {
			requireDamaged(t, path, whole[:size], texts, "it is shorter than it was created: %d", size)
			continue
		}
		replace(t, path, whole[:size])
		requireUsable(t, path, texts[:n+1], ends[n], "cut at %d", size)
	}
}

func TestTailOfZerosThatACrashLeftIsCut(t *testing.T) {
	path := newPath(t)
	texts, ends := small(t, path)
	whole := contents(t, path)
	for n, end := range ends[1:] {
		for _, zeros := range []int{1, 7, 8, 9, 12, 13, 4096, 70000} {
			b := append(slices.Clone(whole[:end]), make([]byte, zeros)...)
			replace(t, path, b)
			requireUsable(t, path, texts[:n+2], end, "%d zeros after %d", zeros, end)
		}
	}
	for _, zeros := range []int{8, 12, 4096, 70000} {
		b := append(slices.Clone(whole), make([]byte, zeros)...)
		requireDamaged(t, path, append(b, 1), texts, "something after %d zeros", zeros)
	}
	b := slices.Clone(whole)
	clear(b[ends[1]-1:])
	requireDamaged(t, path, b, texts, "zeros in what it was created with")
}

func TestEntriesInTheWrongPlaceAreFound(t *testing.T) {
	path := newPath(t)
	texts, ends := small(t, path)
	whole := contents(t, path)
	piece := func(i int) []byte { return whole[ends[i]:ends[i+1]] }
	for name, b := range map[string][]byte{
		"repeated": slices.Concat(piece(0), piece(1), piece(1)),
		"left out": slices.Concat(piece(0), piece(2)),
		"swapped":  slices.Concat(piece(0), piece(2), piece(1), piece(3)),
	} {
		requireDamaged(t, path, b, texts, name)
	}

	other := newPath(t)
	j, err := journal.Create(files.OS, other, entries("begin", "snapshop"))
	require.NoError(t, err)
	require.NoError(t, j.Append(ctx, []byte("a"), nil))
	require.NoError(t, j.Close())
	foreign := contents(t, other)[ends[1]:]
	requireDamaged(t, path, slices.Concat(piece(0), foreign), texts, "of another journal")
}

// withLength returns a journal whose only entry says that it has n bytes.
func withLength(t *testing.T, path string, n uint32) []byte {
	j, err := journal.Create(files.OS, path, nil)
	require.NoError(t, err)
	require.NoError(t, j.Close())
	b := binary.LittleEndian.AppendUint32(contents(t, path), n)
	sum := crc32.Checksum(append(slices.Clone(b[:20]), b[24:]...), crc32.MakeTable(crc32.Castagnoli))
	return binary.LittleEndian.AppendUint32(b, sum)
}

func TestLengthsThatNobodyWritesAreDamage(t *testing.T) {
	for _, n := range []uint32{0, journal.MaxEntry + 1, 1 << 31, 1<<32 - 1} {
		path := newPath(t)
		requireDamaged(t, path, withLength(t, path, n), []string{}, "length %d", n)
	}
}

func TestLengthOfATornEntryTakesNoMemory(t *testing.T) {
	path := newPath(t)
	b := withLength(t, path, journal.MaxEntry)
	replace(t, path, append(b, "torn"...))
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	require.Empty(t, reopened(t, path))
	runtime.ReadMemStats(&after)
	require.Less(t, after.TotalAlloc-before.TotalAlloc, uint64(1<<20))
}
