package bench

import (
	"bytes"
	"context"
	"testing"

	ds "github.com/ipfs/go-datastore"
	"github.com/multiformats/go-multihash"
	"github.com/stretchr/testify/require"

	"github.com/filecoin-project/dagstore"
	"github.com/filecoin-project/dagstore/index"
	"github.com/filecoin-project/dagstore/internal/cartest"
	"github.com/filecoin-project/dagstore/internal/indexer"
	"github.com/filecoin-project/dagstore/shard"
)

// A stuckTopLevel holds no shard, and is never done with adding one.
type stuckTopLevel struct{}

func (stuckTopLevel) AddMultihashesForShard(ctx context.Context, _ index.MultihashIterator, _ shard.Key) error {
	<-ctx.Done()
	return ctx.Err()
}

func (stuckTopLevel) GetShardsForMultihash(context.Context, multihash.Multihash) ([]shard.Key, error) {
	return nil, ds.ErrNotFound
}

func (stuckTopLevel) Shards(context.Context) ([]shard.Key, error) { return nil, nil }

// BenchmarkLookUpWhileShardsAreLacking looks multihashes up while the top-level index
// lacks all of 5,000 shards, so that their full indices are asked. Bar: 1 µs of CPU for
// each of them.
func BenchmarkLookUpWhileShardsAreLacking(b *testing.B) {
	const shards = 5000
	r := newRig(b)
	r.record(b, shards, "file", dagstore.ShardStateAvailable)
	blocks := cartest.Blocks(4*shards, 10, 1)
	for i := range shards {
		car := cartest.V1(nil, blocks[4*i:4*i+4])
		idx, err := indexer.Memory(b.Context(), bytes.NewReader(car), int64(len(car)))
		require.NoError(b, err)
		require.NoError(b, r.config.IndexRepo.AddFullIndex(numbered(i), idx.CarIndex()))
	}
	r.config.TopLevelIndex = stuckTopLevel{}
	d := r.started(b)
	for name, batch := range map[string]int{"one": 1, "hundred": 100} {
		hs := make([]multihash.Multihash, batch)
		for i := range hs {
			hs[i] = blocks[4*i*(shards/batch)].Cid.Hash()
		}
		b.Run(name, func(b *testing.B) {
			ask := func() {
				all, err := d.ShardsContainingMultihashes(b.Context(), hs)
				require.NoError(b, err)
				require.Equal(b, numbered((batch-1)*(shards/batch)), all[batch-1][0])
			}
			ask() // opens the indices
			n, begin := 0, cpu(b)
			for b.Loop() {
				ask()
				n++
			}
			b.ReportMetric(micros(cpu(b)-begin, n*batch*shards), "cpu-µs/shard")
		})
	}
}
