package indexbuild_test

import (
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/filecoin-project/dagstore/internal/files"
	"github.com/filecoin-project/dagstore/internal/indexbuild"
)

func TestIndexIsThatOfGoCarWhateverTheRecordsAndTheMemory(t *testing.T) {
	dir := t.TempDir()
	seen := map[int]int{}
	for seed := range uint64(300) {
		r := rand.New(rand.NewPCG(seed, 1))
		records := random(r, r.IntN(3000))
		want := goCar(t, records)
		for _, l := range []indexbuild.Limits{
			small,
			{Minimum: 1 << 10, Block: 256, Buffer: 64, Runs: 2},
			{Minimum: 48 << 10, Block: 1 << 10, Buffer: 1 << 10, Runs: 3},
			{Minimum: 1 << 20, Block: 4 << 10, Buffer: 4 << 10, Runs: 16},
		} {
			b := indexbuild.NewLimited(files.OS, dir, indexbuild.NewBudget(1), l)
			build(t, b, records)
			require.EqualValues(t, len(records), b.Len())
			require.Equal(t, want, written(t, b), "seed %d, limits %v", seed, l)
			require.Equal(t, want, written(t, b), "again: seed %d, limits %v", seed, l)
			seen[min(3, len(b.Runs()))]++
			require.NoError(t, b.Close())
		}
		b := indexbuild.New(files.OS, dir, indexbuild.NewBudget(0))
		build(t, b, records)
		require.Equal(t, want, written(t, b), "seed %d", seed)
		require.NoError(t, b.Close())
	}
	t.Log("builders by the number of their runs:", seen)
	require.Len(t, seen, 4)
	requireEmpty(t, dir)
}
