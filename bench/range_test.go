package bench

import (
	"context"
	"encoding/binary"
	"fmt"
	"testing"

	"github.com/ipfs/go-cid"
	carindex "github.com/ipld/go-car/v2/index"
	"github.com/multiformats/go-multihash"
	"github.com/stretchr/testify/require"

	"github.com/filecoin-project/dagstore"
	"github.com/filecoin-project/dagstore/index"
	"github.com/filecoin-project/dagstore/internal/fullindex"
)

// BenchmarkRange goes to a random multihash of an index of 10M, and 1,000 or 100,000
// on from there: through the index, and through the store, which opens it each time
// and copies multihashes before it yields them. Bar: 10 ns a multihash of 1,000 through
// the index, the search included. Floor: touching these records in the mapping.
func BenchmarkRange(b *testing.B) {
	s := makeIndex(b, 10_000_000)
	repo := s.repo(b)
	store, err := dagstore.NewDAGStore(dagstore.Config{TransientsDir: b.TempDir(), IndexRepo: repo})
	require.NoError(b, err)
	defer store.Close()
	idx, err := repo.GetFullIndex(numbered(0))
	require.NoError(b, err)
	defer closeIndex(b, idx)
	from := s.known.next(1000)
	s.known = deal[cid.Cid]{} // or collecting garbage would be most of what is measured
	for _, length := range []int{1000, 100_000} {
		b.Run(fmt.Sprint(length), func(b *testing.B) { benchmarkRange(b, from, store, idx, length) })
	}
}

func benchmarkRange(b *testing.B, from []cid.Cid, store *dagstore.DAGStore, idx carindex.Index, length int) {
	const each = 1_000_000 // multihashes of a round
	full, ok := fullindex.Of(idx)
	require.True(b, ok)
	var c contest
	walks := func(walk func(after multihash.Multihash) int) *contender {
		return c.add(func() error {
			for _, f := range from[:each/length] {
				if n := walk(f.Hash()); n < length {
					return fmt.Errorf("%d behind %s", n, f)
				}
			}
			return nil
		})
	}
	records := recordsOf(full)
	floor := walks(func(after multihash.Multihash) int {
		at := int(float64(binary.BigEndian.Uint64(after[2:]))/(1<<64)*float64(full.Len())) * recordWidth
		end := min(at+length*recordWidth, len(records))
		for n := at; n < end; n += recordWidth {
			touched += binary.LittleEndian.Uint64(records[n:]) + binary.LittleEndian.Uint64(records[n+recordWidth-8:])
		}
		return length
	})
	throughIndex := walks(func(after multihash.Multihash) (n int) {
		err := idx.(index.RangeIterator).ForEachInRange(index.MultihashRange{After: after}, func(h multihash.Multihash, offset uint64) bool {
			touched += uint64(h[2]) + offset
			n++
			return n < length
		})
		if err != nil {
			b.Fatal(err)
		}
		return n
	})
	throughStore := walks(func(after multihash.Multihash) (n int) {
		for h, err := range store.ShardMultihashes(context.Background(), numbered(0), index.MultihashRange{After: after}) {
			if err != nil {
				b.Fatal(err)
			}
			touched += uint64(h[2])
			if n++; n == length {
				break
			}
		}
		return n
	})
	c.hold(b)
	b.ReportMetric(throughIndex.nanos(each), "index-cpu-ns")
	b.ReportMetric(throughStore.nanos(each), "store-cpu-ns")
	b.ReportMetric(floor.nanos(each), "floor-cpu-ns")
	b.ReportMetric(throughIndex.allocs(each), "index-allocs")
	b.ReportMetric(throughStore.allocs(each), "store-allocs")
}
