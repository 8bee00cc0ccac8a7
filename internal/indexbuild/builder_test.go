package indexbuild_test

import (
	"bytes"
	"context"
	"io"
	"io/fs"
	"math/rand/v2"
	"runtime"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/filecoin-project/dagstore/internal/cartest"
	"github.com/filecoin-project/dagstore/internal/files"
	"github.com/filecoin-project/dagstore/internal/indexbuild"
)

func TestIndexIsThatOfGoCarWhateverTheRecordsAndTheMemory(t *testing.T) {
	dir := t.TempDir()
	runs, levels := map[int]int{}, map[int]int{}
	for seed := range uint64(25) {
		r := rand.New(rand.NewPCG(seed, 1))
		records := random(r, r.IntN(2000))
		want := goCar(t, records)
		for _, l := range []indexbuild.Limits{
			small,
			{Minimum: 24 << 10, Slab: 256, Buffer: 64, Read: 1 << 10},
			{Minimum: 64 << 10, Slab: 1 << 10, Buffer: 1 << 10, Read: 1 << 10},
			{Minimum: 256 << 10, Slab: 4 << 10, Buffer: 4 << 10, Read: 1 << 10},
		} {
			b := indexbuild.NewLimited(files.OS, dir, indexbuild.NewBudget(1), l)
			build(t, b, records)
			require.EqualValues(t, len(records), b.Len())
			require.Equal(t, want, written(t, b), "seed %d, limits %v", seed, l)
			require.Equal(t, want, written(t, b), "again: seed %d, limits %v", seed, l)
			runs[min(3, len(b.Runs()))]++
			for _, level := range b.Runs() {
				levels[level]++
			}
			require.NoError(t, b.Close())
		}
		b := indexbuild.New(files.OS, dir, indexbuild.NewBudget(0))
		build(t, b, records)
		require.Equal(t, want, written(t, b), "seed %d", seed)
		require.NoError(t, b.Close())
	}
	t.Log("builders by their runs:", runs, "runs by their level:", levels)
	require.Len(t, runs, 4)
	require.GreaterOrEqual(t, len(levels), 3)
	requireEmpty(t, dir)
}

func TestRecordsThatComeAfterTheIndexWasWrittenAreInTheNextOne(t *testing.T) {
	for name, memory := range map[string]int64{"in memory": 0, "spilled": 1} {
		t.Run(name, func(t *testing.T) {
			r := rand.New(rand.NewPCG(1, 2))
			b := indexbuild.NewLimited(files.OS, t.TempDir(), indexbuild.NewBudget(memory), small)
			defer b.Close()
			records := random(r, 3000)
			r.Shuffle(len(records), func(i, j int) { records[i], records[j] = records[j], records[i] })
			done := 0
			for _, n := range []int{0, 1, 5, 300, 301, 2000, 3000} {
				build(t, b, records[done:n])
				done = n
				require.Equal(t, goCar(t, records[:n]), written(t, b), "%d records", n)
			}
			require.Equal(t, memory == 1, len(b.Runs()) > 0)
		})
	}
}

func TestIndexOfNothingIsAnEmptyIndex(t *testing.T) {
	b := indexbuild.New(files.OS, t.TempDir(), indexbuild.NewBudget(0))
	defer b.Close()
	require.Equal(t, []byte("\x81\x08\x00\x00\x00\x00"), written(t, b))
	require.Zero(t, b.Len())
}

func TestDigestsLongerThanABlockAreKept(t *testing.T) {
	dir := t.TempDir()
	var records []record
	for i := range 40 {
		length := []int{70_000, 300_000, 65_000, 2040}[i%4]
		digest := make([]byte, length)
		digest[i%7], digest[length-1] = byte(i*31), byte(i*17)
		records = append(records, record{uint64(i % 3), digest, uint64(i)})
	}
	for _, memory := range []int64{0, 1} {
		b := indexbuild.New(files.OS, dir, indexbuild.NewBudget(memory))
		build(t, b, records)
		require.Equal(t, goCar(t, records), written(t, b))
		require.Equal(t, memory == 1, len(b.Runs()) > 0)
		require.NoError(t, b.Close())
	}
}

func TestDigestsThatGoCarCannotReadAreRefusedAndNothingElse(t *testing.T) {
	b := indexbuild.New(files.OS, t.TempDir(), indexbuild.NewBudget(0))
	defer b.Close()
	require.NoError(t, b.Add(0x12, make([]byte, 32), 1))
	digest := make([]byte, indexbuild.MaxDigest+1)
	require.ErrorIs(t, b.Add(0, digest, 1), indexbuild.ErrDigestTooLong)
	require.NoError(t, b.Add(0, digest[1:], 2))
	require.EqualValues(t, 2, b.Len())
	require.Len(t, written(t, b), 6+2*(12+12)+40+32<<20)
}

func TestWithoutAFileSystemNothingIsSpilled(t *testing.T) {
	var records []record
	for i := range 70_000 {
		records = append(records, record{uint64(i % 60_000), []byte{byte(i)}, uint64(i)})
	}
	b := indexbuild.New(nil, "", indexbuild.NewBudget(1))
	defer b.Close()
	build(t, b, records)
	require.True(t, bytes.Equal(goCar(t, records), written(t, b)))
	require.Empty(t, b.Runs())
}

func TestMoreShapesThanAReaderShouldHoldAreRefused(t *testing.T) {
	limits := small
	limits.Shapes = 1000
	for _, memory := range []int64{0, 1} {
		b := indexbuild.NewLimited(files.OS, t.TempDir(), indexbuild.NewBudget(memory), limits)
		defer b.Close()
		for code := range uint64(500) {
			require.NoError(t, b.Add(code, []byte{1}, 1))
			require.NoError(t, b.Add(code, nil, 1))
		}
		require.NoError(t, b.WriteTo(context.Background(), io.Discard))
		err := b.Add(500, nil, 1)
		if memory == 1 { // some are in runs, so that it shows later
			require.NoError(t, err)
			err = b.WriteTo(context.Background(), io.Discard)
		}
		require.ErrorIs(t, err, indexbuild.ErrTooManyShapes)
	}
}

// Sorting in n² steps would not end within the time that tests have.
func TestHostileDigestsDoNotMakeSortingQuadratic(t *testing.T) {
	const n = 20_000
	r := rand.New(rand.NewPCG(1, 3))
	for name, digest := range map[string]func(i int) []byte{
		"equal":              func(int) []byte { return make([]byte, 32) },
		"equal but the end":  func(i int) []byte { return append(make([]byte, 28), byte(i), byte(i>>8), byte(i>>16), 0) },
		"first bytes in use": func(i int) []byte { return append([]byte{byte(i % 5), 0}, make([]byte, 30)...) },
		"empty":              func(int) []byte { return nil },
		"one byte":           func(i int) []byte { return []byte{byte(i * 7)} },
	} {
		records := make([]record, n)
		for i, p := range r.Perm(n) {
			records[i] = record{1, digest(p), uint64(r.Uint32())}
		}
		b := indexbuild.New(files.OS, t.TempDir(), indexbuild.NewBudget(0))
		build(t, b, records)
		index := written(t, b)
		require.NoError(t, b.Close())

		want := slices.Clone(index)
		cartest.OrderCopies(want)
		require.Len(t, index, 30+n*(8+len(digest(0))), name)
		require.True(t, string(want) == string(index), name)
		require.True(t, slices.IsSortedFunc(digestsOf(index), slices.Compare), name)
	}
}

func TestIndexIsWrittenInLargePieces(t *testing.T) {
	for _, memory := range []int64{0, 1} {
		b := indexbuild.New(files.OS, t.TempDir(), indexbuild.NewBudget(memory))
		defer b.Close()
		build(t, b, usual(60_000))
		var w sizes
		require.NoError(t, b.WriteTo(context.Background(), &w))
		require.LessOrEqual(t, len(w), 11, "%d", w)
		require.Equal(t, memory == 1, len(b.Runs()) > 0)
	}
}

func TestClosedBuilderRefusesAndHoldsNothing(t *testing.T) {
	for _, memory := range []int64{0, 1 << 16, 1} {
		budget, dir := indexbuild.NewBudget(memory), t.TempDir()
		b := indexbuild.NewLimited(files.OS, dir, budget, small)
		build(t, b, random(rand.New(rand.NewPCG(1, 4)), 3000))
		require.NoError(t, b.Close())
		require.NoError(t, b.Close())
		require.ErrorIs(t, b.Add(1, nil, 1), fs.ErrClosed)
		require.ErrorIs(t, b.WriteTo(context.Background(), io.Discard), fs.ErrClosed)
		require.Zero(t, budget.Used())
		require.Zero(t, b.Held())
		requireEmpty(t, dir)
	}
	b := indexbuild.New(files.OS, t.TempDir(), indexbuild.NewBudget(0))
	require.NoError(t, b.Close(), "unused")
}

func TestCrashLeavesNoSpilledRecords(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("open files cannot be removed there")
	}
	dir := t.TempDir()
	b := indexbuild.NewLimited(files.OS, dir, indexbuild.NewBudget(1), small)
	defer b.Close()
	build(t, b, random(rand.New(rand.NewPCG(1, 5)), 3000))
	require.NotEmpty(t, b.Runs())
	requireEmpty(t, dir)
}

// FuzzBuilder reads records from its input: a code, a digest length, the
// digest, and an offset of one byte.
func FuzzBuilder(f *testing.F) {
	f.Add([]byte("\x12\x03abc\x01\x12\x03abc\x00\x12\x00\x05\x00\x01z\x07"))
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, input []byte) {
		var records []record
		for len(input) >= 3 {
			length := min(int(input[1]), len(input)-3)
			records = append(records, record{uint64(input[0]), input[2 : 2+length], uint64(input[2+length])})
			input = input[3+length:]
		}
		records = slices.Repeat(records, 30) // enough for runs
		want := goCar(t, records)
		for _, memory := range []int64{0, 1} {
			b := indexbuild.NewLimited(files.OS, dir, indexbuild.NewBudget(memory), small)
			build(t, b, records)
			require.Equal(t, want, written(t, b))
			require.NoError(t, b.Close())
		}
	})
}
