package layer

import (
	"bytes"
	"encoding/hex"
	"math"
	"os"
	"slices"
	"testing"

	"github.com/FastFilter/xorfilter"
	"github.com/stretchr/testify/require"

	"github.com/filecoin-project/dagstore/internal/fault"
	"github.com/filecoin-project/dagstore/internal/files"
)

func TestDuplicatesAreDropped(t *testing.T) {
	records := randomRecords(1, 300, 9)
	twice := slices.Concat(records, records)
	slices.SortFunc(twice, Record.Compare)
	require.Equal(t, small.write(t, records), small.write(t, twice))
}

func TestRecordsOutOfOrderAreRefusedForGood(t *testing.T) {
	for name, r := range map[string]Record{
		"Hi":    {Fingerprint{4, 9}, 9},
		"Lo":    {Fingerprint{5, 4}, 9},
		"shard": {Fingerprint{5, 5}, 4},
	} {
		t.Run(name, func(t *testing.T) {
			w := NewWriter(&bytes.Buffer{})
			require.NoError(t, w.Add(Record{Fingerprint{5, 5}, 5}))
			require.ErrorIs(t, w.Add(r), errOrder)
			require.ErrorIs(t, w.Add(Record{Fingerprint{6, 6}, 6}), errOrder)
			_, _, err := w.Finish()
			require.ErrorIs(t, err, errOrder)
		})
	}
}

func TestAFinishedWriterTakesNoMore(t *testing.T) {
	var b bytes.Buffer
	w := NewWriter(&b)
	require.NoError(t, w.Add(Record{}))
	_, _, err := w.Finish()
	require.NoError(t, err)
	size := b.Len()
	require.ErrorIs(t, w.Add(Record{Shard: 1}), errFinished)
	_, _, err = w.Finish()
	require.ErrorIs(t, err, errFinished)
	require.Equal(t, size, b.Len())
}

func TestAFullDiskIsAnError(t *testing.T) {
	records := randomRecords(1, 2000, 9)
	fired := 0
	for n := 0; ; n++ {
		inj := fault.From(n).Match(fault.Is(fault.Write)).Short()
		file, err := fault.FS(files.OS, inj).CreateTemp(t.TempDir())
		require.NoError(t, err)
		w := NewWriter(file)
		w.limit = 500
		for _, r := range records {
			if err = w.Add(r); err != nil {
				require.ErrorIs(t, err, fault.ErrInjected)
				break
			}
		}
		_, _, err = w.Finish()
		require.NoError(t, file.Close())
		if inj.Fired() == 0 {
			require.NoError(t, err)
			break
		}
		fired++
		require.ErrorIs(t, err, fault.ErrInjected)
		b, err := os.ReadFile(file.Name())
		require.NoError(t, err)
		_, err = FromBytes(b)
		require.ErrorIs(t, err, ErrDamaged, "half a layer is none")
	}
	require.Greater(t, fired, 2)
}

// TestFormat writes a file by the words of the package's documentation.
func TestFormat(t *testing.T) {
	page := func(records string) []byte {
		b := make([]byte, 4096)
		_, err := hex.Decode(b, []byte(records))
		require.NoError(t, err)
		return append(b[:4092], u32(checksum(b[:4092]))...)
	}
	table1 := u64(0x0102030405060708)
	table2 := u64(math.MaxUint64)
	directory := slices.Concat(
		u64(0x0102030405060708), u64(0x0102030405060708), u64(2), u64(0), u32(0), u32(0), u32(checksum(table1)), u32(0),
		u64(math.MaxUint64), u64(math.MaxUint64), u64(1), u64(0), u32(0), u32(0), u32(checksum(table2)), u32(0))
	footer := slices.Concat(u64(3), u32(2), u32(0))
	want := slices.Concat(
		page("080706050403020118171615141312111a000000"+"080706050403020118171615141312111b000000"), table1, make([]byte, 4096-8),
		page("ffffffffffffffff010000000000000002000000"), table2,
		directory, footer, u32(checksum(slices.Concat(directory, footer))), u32(1), []byte("daglayer"))

	require.Equal(t, want, format{limit: 1, unfiltered: unfiltered}.write(t, []Record{
		{Fingerprint{0x0102030405060708, 0x1112131415161718}, 0x1a},
		{Fingerprint{0x0102030405060708, 0x1112131415161718}, 0x1b},
		{Fingerprint{math.MaxUint64, 1}, 2},
	}))
}

func TestFiltersAnswerAsTheLibraryThatMakesThem(t *testing.T) {
	for _, n := range []int{1, 2, 5, 100, 10_000} {
		var keys []uint64
		for _, r := range randomRecords(uint64(n), n, 1) {
			keys = append(keys, r.Hi)
		}
		theirs, err := xorfilter.NewBinaryFuse[uint8](slices.Clone(keys))
		require.NoError(t, err)
		shape := shapeOf(theirs)
		require.True(t, shape.isValid())
		require.EqualValues(t, len(theirs.Fingerprints), shape.size())
		ours := shape.over(theirs.Fingerprints)
		for _, k := range keys {
			require.True(t, ours.mayHave(k))
		}
		for _, r := range randomRecords(99, 10_000, 1) {
			if ours.mayHave(r.Hi) != theirs.Contains(r.Hi) {
				t.Fatal(r.Hi)
			}
		}
	}
}

func TestSearchFindsTheFirstFromAnyGuess(t *testing.T) {
	t.Parallel()
	values := []uint64{0, 3, 3, 3, 8, 9}
	for i := range uint64(90) {
		values = append(values, 1<<40+i/3)
	}
	var b []byte
	for _, v := range values {
		b = append(b, u64(v)...)
	}
	for count := range len(values) + 1 {
		l := list{bytes: b[:count*8], width: 8, count: count}
		for _, v := range append([]uint64{1, 7, math.MaxUint64}, values...) {
			want, _ := slices.BinarySearch(values[:count], v)
			for guess := range count + 1 {
				if got := l.firstFrom(v, guess); got != want {
					t.Fatal(count, v, guess, got, want)
				}
			}
		}
	}
}

func TestGuessesAreInRange(t *testing.T) {
	edges := []uint64{0, 1, 2, 1<<32 - 1, 1 << 32, 1<<32 + 1, 1 << 63, math.MaxUint64 - 1, math.MaxUint64}
	for _, hi := range edges {
		for _, first := range edges {
			for _, last := range edges {
				for _, count := range []int{0, 1, pageRecords, 1 << 30} {
					got := guess(hi, first, last, count)
					require.True(t, 0 <= got && got <= count, "guess(%d, %d, %d, %d) = %d", hi, first, last, count, got)
				}
			}
		}
	}
}
