package indexbuild_test

import (
	"context"
	"encoding/binary"
	"io"
	"math/rand/v2"
	"runtime"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/filecoin-project/dagstore/internal/files"
	"github.com/filecoin-project/dagstore/internal/indexbuild"
)

// allocated returns how many bytes f allocates.
func allocated(f func()) int64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	f()
	runtime.ReadMemStats(&after)
	return int64(after.TotalAlloc - before.TotalAlloc)
}

// sectionSize is the size of the smallest section with such a multihash.
func sectionSize(code uint64, digest []byte) int {
	cid := 2 + len(binary.AppendUvarint(nil, code)) + len(binary.AppendUvarint(nil, uint64(len(digest)))) + len(digest)
	return len(binary.AppendUvarint(nil, uint64(cid))) + cid
}

func TestRecordsOfASmallHostileCarCannotExhaustTheMemory(t *testing.T) {
	zeros, usual := make([]byte, 4<<10), make([]byte, 32)
	var source digests
	for name, record := range map[string]func(i int) (uint64, []byte){
		"a code for each block":   func(i int) (uint64, []byte) { return uint64(i % 60_000), nil },
		"codes and lengths":       func(i int) (uint64, []byte) { return uint64(i / 40 % 1500), zeros[:i%40] },
		"a length for each block": func(i int) (uint64, []byte) { return uint64(i / 2000), zeros[:i%2000] },
		"two of each code":        func(i int) (uint64, []byte) { return uint64(i / 2 % 60_000), nil },
		"twenty of each code":     func(i int) (uint64, []byte) { return uint64(i / 20), nil },
		"empty digests":           func(int) (uint64, []byte) { return 0, nil },
		"one block again":         func(int) (uint64, []byte) { return 0x12, usual },
		"long digests":            func(i int) (uint64, []byte) { return 0, zeros[:2040] },
		"usual": func(int) (uint64, []byte) {
			source.next(usual)
			return 0x12, usual
		},
	} {
		for _, size := range []int{100, 10 << 10, 400 << 10} {
			total, records := 0, 0
			got := allocated(func() {
				b := indexbuild.New(files.OS, t.TempDir(), indexbuild.NewBudget(0))
				for ; total < size; records++ {
					code, digest := record(records)
					if err := b.Add(code, digest, uint64(records)); err != nil {
						require.NoError(t, err)
					}
					total += sectionSize(code, digest)
				}
				require.NoError(t, b.WriteTo(context.Background(), io.Discard))
				require.NoError(t, b.Close())
			})
			t.Logf("%-24s %8d bytes, %7d records: %9d allocated, K = %5.1f", name, total, records, got, float64(got)/float64(total))
			require.LessOrEqual(t, got, int64(128*total+512<<10), name)
		}
	}
}

// What is allocated in all, and not what is held, is compared with the budget:
// so the collector has nothing to do, and the process stays as small.
func TestMemoryStaysInTheBudgetHoweverManyRecordsThereAre(t *testing.T) {
	const budget = 1 << 20
	for name, codes := range map[string]int{"usual": 1, "many codes": 60_000} {
		used := indexbuild.NewBudget(budget)
		b := indexbuild.New(files.OS, t.TempDir(), used)
		var source digests
		digest := make([]byte, 32)
		got := allocated(func() {
			for i := range 200_000 {
				source.next(digest)
				if err := b.Add(uint64(i%codes), digest, uint64(i)); err != nil {
					require.NoError(t, err)
				}
			}
			require.LessOrEqual(t, used.Used(), int64(budget))
			require.LessOrEqual(t, b.Held(), int64(budget+1<<20))
			require.NoError(t, b.WriteTo(context.Background(), io.Discard))
		})
		t.Logf("%s: %d runs, %d allocated", name, len(b.Runs()), got)
		require.Greater(t, len(b.Runs()), 2)
		require.LessOrEqual(t, got, int64(budget+5<<20), name)
		require.NoError(t, b.Close())
	}
}

// The records of one shape or of some, in a budget that others use up or not.
func TestWhatIsSpilledAtOnceIsNearlyAllThatMemoryHolds(t *testing.T) {
	limits := small
	limits.Minimum = 512 << 10
	for _, budget := range []int64{1, 100 << 10, 150 << 10, 200 << 10, 250 << 10} {
		for _, codes := range []int{1, 3} {
			b := indexbuild.NewLimited(files.OS, t.TempDir(), indexbuild.NewBudget(budget), limits)
			var source digests
			digest := make([]byte, 32)
			for i := range 30_000 {
				source.next(digest)
				require.NoError(t, b.Add(uint64(i%codes), digest, uint64(i)))
				for _, size := range b.Spilled() {
					require.GreaterOrEqual(t, size, (limits.Minimum+budget)/4, "budget %d, codes %d", budget, codes)
				}
			}
			require.NotEmpty(t, b.Runs())
			require.NoError(t, b.Close())
		}
	}
}

func TestBuildersShareTheirBudget(t *testing.T) {
	const limit = 200 << 10
	budget := indexbuild.NewBudget(limit)
	first := indexbuild.NewLimited(files.OS, t.TempDir(), budget, small)
	second := indexbuild.NewLimited(files.OS, t.TempDir(), budget, small)
	var source digests
	digest := make([]byte, 32)
	add := func(b *indexbuild.Builder) {
		source.next(digest)
		require.NoError(t, b.Add(0x12, digest, 1))
		require.LessOrEqual(t, budget.Used(), int64(limit+2<<10), "two blocks more, to sort")
	}

	for len(first.Runs()) == 0 && budget.Used() < limit-2<<10 {
		add(first)
	}
	require.Empty(t, first.Runs())
	for len(second.Runs()) < 3 {
		add(second)
	}
	require.LessOrEqual(t, second.Held(), small.Minimum+10<<10, "the first one has nearly all")

	for n := len(first.Runs()); len(first.Runs()) == n; {
		add(first)
	}
	require.LessOrEqual(t, first.Held(), small.Minimum+limit/2, "it gives back what is not its share")
	for n := len(second.Runs()); len(second.Runs()) == n; {
		add(second)
	}
	require.GreaterOrEqual(t, second.Held(), int64(limit/4))

	require.NoError(t, first.Close())
	require.NoError(t, second.Close())
	require.Zero(t, budget.Used())
}

func TestBuildersOfABudgetWorkAtOnce(t *testing.T) {
	records := random(rand.New(rand.NewPCG(1, 11)), 3000)
	want := goCar(t, records)
	budget, dir := indexbuild.NewBudget(100<<10), t.TempDir()
	var wg sync.WaitGroup
	for range 6 {
		wg.Go(func() {
			b := indexbuild.NewLimited(files.OS, dir, budget, small)
			var out sizes
			err := attempt(b, records, &out)
			if err != nil || out.sum() != len(want) || b.Close() != nil {
				t.Error(err, out.sum())
			}
		})
	}
	wg.Wait()
	require.Zero(t, budget.Used())
	requireEmpty(t, dir)
}
