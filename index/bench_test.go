package index

import (
	"context"
	"encoding/binary"
	"fmt"
	"testing"

	ds "github.com/ipfs/go-datastore"
	"github.com/ipfs/go-datastore/query"
	"github.com/multiformats/go-multihash"
	"github.com/stretchr/testify/require"

	"github.com/filecoin-project/dagstore/shard"
)

func benchmarkMultihashes(b *testing.B, n int) multihashes {
	mhs := make(multihashes, n)
	for i := range mhs {
		mh, err := multihash.Sum(binary.LittleEndian.AppendUint64(nil, uint64(i)), multihash.SHA2_256, -1)
		require.NoError(b, err)
		mhs[i] = mh
	}
	return mhs
}

// BenchmarkInvertedAdd adds shards that all have the same 10,000 multihashes: the
// cost of an entry must not grow with the shards that share it. The datastore
// forgets the entries.
func BenchmarkInvertedAdd(b *testing.B) {
	mhs := benchmarkMultihashes(b, 10_000)
	x := NewInverted(ds.NewNullDatastore())
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		i++
		require.NoError(b, x.AddMultihashesForShard(context.Background(), mhs, shard.KeyFromString(fmt.Sprint(i))))
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(i*len(mhs)), "ns/entry")
}

// An entriesStore answers every query with the same entries, so that the
// benchmark measures what the index adds to a datastore's own time.
type entriesStore struct {
	ds.Batching
	entries []query.Entry
}

func (s *entriesStore) Query(_ context.Context, q query.Query) (query.Results, error) {
	return query.ResultsWithEntries(q, s.entries), nil
}

// BenchmarkInvertedGet looks up a multihash that is in so many shards.
func BenchmarkInvertedGet(b *testing.B) {
	for _, shards := range []int{1, 10, 100} {
		b.Run(fmt.Sprint(shards), func(b *testing.B) {
			mhs := benchmarkMultihashes(b, 1)
			store := newStore()
			x := NewInverted(store)
			for i := range shards {
				require.NoError(b, x.AddMultihashesForShard(context.Background(), mhs, shard.KeyFromString(fmt.Sprint(i))))
			}
			results, err := store.Query(context.Background(), query.Query{Prefix: multihashKey(mhs[0]).String(), KeysOnly: true})
			require.NoError(b, err)
			entries, err := results.Rest()
			require.NoError(b, err)
			x.store = &entriesStore{store, entries}
			b.ReportAllocs()
			for b.Loop() {
				keys, err := x.GetShardsForMultihash(context.Background(), mhs[0])
				if err != nil || len(keys) != shards {
					b.Fatal(len(keys), err)
				}
			}
		})
	}
}
