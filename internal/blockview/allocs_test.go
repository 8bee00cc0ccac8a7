package blockview

import (
	"context"
	"testing"

	"github.com/ipfs/go-cid"
	"github.com/stretchr/testify/require"

	"github.com/filecoin-project/dagstore/internal/cartest"
)

func TestReadsAllocateTheBlockAndNothingElse(t *testing.T) {
	if raceDetector {
		t.Skip("the race detector empties pools")
	}
	made := append(cartest.Blocks(100, 256, 1), cartest.Blocks(1, 9000, 2)...)
	car := cartest.V1(nil, made)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	var sum byte
	use := func(p []byte) error { sum += p[0]; return nil }
	for name, mapIt := range map[string]bool{"mapped": true, "read": false} {
		t.Run(name, func(t *testing.T) {
			data, _ := open(t, car)
			idx, _ := inFile(t, encoded(t, index(t, data)))
			if mapIt {
				require.NoError(t, data.Map())
			}
			b := newBlocks(t, data, idx)
			absent := cartest.Raw([]byte("absent")).Cid
			for _, verify := range []bool{false, true} {
				b.HashOnRead(verify)
				for _, c := range []cid.Cid{made[50].Cid, made[100].Cid} {
					require.EqualValues(t, 2, testing.AllocsPerRun(100, func() { _, _ = b.Get(ctx, c) }))
					require.Zero(t, testing.AllocsPerRun(100, func() { _, _ = b.Has(ctx, c) }))
					require.Zero(t, testing.AllocsPerRun(100, func() { _, _ = b.GetSize(ctx, c) }))
					require.Zero(t, testing.AllocsPerRun(100, func() { _ = b.View(ctx, c, use) }))
				}
				require.Zero(t, testing.AllocsPerRun(100, func() { _, _ = b.Has(ctx, absent) }))
				inline := cartest.Identity([]byte("inline")).Cid
				require.Zero(t, testing.AllocsPerRun(100, func() { _, _ = b.GetSize(ctx, inline) }))
			}
		})
	}
}
