package bench

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	leveldb "github.com/ipfs/go-ds-leveldb"
	"github.com/multiformats/go-multihash"
	"github.com/stretchr/testify/require"

	"github.com/filecoin-project/dagstore/index"
	"github.com/filecoin-project/dagstore/internal/files"
)

// aMillion is how many records are added and removed at once.
const aMillion = 1_000_000

// BenchmarkTopLevelAdd adds shards of 1M multihashes to an index of 50M records in
// 1,000 shards, each time with the same multihashes to a second shard. Bars: 0.5 µs of
// CPU a record, 2 µs with merging, on the average of all; the second shard costs no
// more than the first; 1/20 of NewInverted on leveldb, which has 10M records only and
// has not compacted all of them. Floor: making the multihashes, and writing and syncing
// 20 bytes for each.
func BenchmarkTopLevelAdd(b *testing.B) {
	begin := cpu(b)
	n := recordsOr(b, 50*aMillion)
	x := makeToplevel(b, n, 1000)
	built := cpu(b) - begin
	var first, second []additionCost
	add := func() {
		s := x.fresh(aMillion)
		first = append(first, x.costOf(b, s))
		second = append(second, x.costOf(b, s))
	}
	for b.Loop() {
		add()
	}
	for len(first) < 8 { // a number of which merging makes one
		add()
	}
	database := costOfDatabase(b)
	all := append(first, second...)
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(micros(built, n), "build-cpu-µs/record")
	b.ReportMetric(adding(all), "cpu-µs/record")
	b.ReportMetric(merged(all), "merged-cpu-µs/record")
	b.ReportMetric(adding(second)/adding(first), "second-x-first")
	b.ReportMetric(merged(second)/merged(first), "merged-second-x-first")
	b.ReportMetric(database, "leveldb-cpu-µs/record")
	b.ReportMetric(database/adding(all), "leveldb-x")
	b.ReportMetric(database/merged(all), "leveldb-x-merged")
	b.ReportMetric(costOfWriting(b), "floor-cpu-µs/record")
}

// An additionCost is the CPU time of adding 1M records, and with the merging after it.
type additionCost struct{ added, merged time.Duration }

func (x *toplevelIndex) costOf(b *testing.B, s span) additionCost {
	b.Helper()
	begin := cpu(b)
	x.add(b, s)
	added := cpu(b) - begin
	x.settle(b)
	return additionCost{added, cpu(b) - begin}
}

// adding returns what adding a record costs, in microseconds: a median.
func adding(costs []additionCost) float64 {
	var all []float64
	for _, c := range costs {
		all = append(all, micros(c.added, aMillion))
	}
	return median(all)
}

// merged returns what adding and merging a record costs, in microseconds: on the
// average, because few additions pay for the merging of many.
func merged(costs []additionCost) float64 {
	var sum time.Duration
	for _, c := range costs {
		sum += c.merged
	}
	return micros(sum, aMillion*len(costs))
}

type numberedMultihashes span

func (s numberedMultihashes) ForEach(f func(multihash.Multihash) error) error {
	return multihashes(span(s))(func(mh []byte) error { return f(mh) })
}

// costOfDatabase returns what adding a record to leveldb costs, in microseconds: a
// median of five shards.
func costOfDatabase(b *testing.B) float64 {
	b.Helper()
	const shards = 15
	db, err := leveldb.NewDatastore(b.TempDir(), nil)
	require.NoError(b, err)
	x := index.NewInverted(db)
	var all []float64
	for i := range uint64(shards) {
		begin := cpu(b)
		s := numberedMultihashes{i * aMillion, (i + 1) * aMillion}
		require.NoError(b, x.AddMultihashesForShard(context.Background(), s, numbered(int(i))))
		all = append(all, micros(cpu(b)-begin, aMillion))
	}
	require.NoError(b, db.Close())
	return median(all[shards-5:])
}

// costOfWriting returns what making a multihash and writing a record costs, in
// microseconds.
func costOfWriting(b *testing.B) float64 {
	b.Helper()
	f, err := os.Create(filepath.Join(b.TempDir(), "floor"))
	require.NoError(b, err)
	begin := cpu(b)
	var records []byte
	require.NoError(b, multihashes(span{0, aMillion})(func(mh []byte) error {
		records = append(records, mh[:20]...)
		return nil
	}))
	_, err = f.Write(records)
	require.NoError(b, errors.Join(err, f.Sync(), f.Close()))
	return micros(cpu(b)-begin, aMillion)
}

// BenchmarkTopLevelRemove removes shards of 1M records from an index of 10M. Bars: 5
// ms, with the sync; and the bytes of a record that is left are what they were.
func BenchmarkTopLevelRemove(b *testing.B) {
	x := makeToplevel(b, 10*aMillion, 100)
	before := float64(x.size(b)) / (10 * aMillion)
	var took, used []float64
	remove := func() {
		x.add(b, x.fresh(aMillion))
		x.settle(b)
		begin, used0 := time.Now(), cpu(b)
		require.NoError(b, x.Remove(context.Background(), toplevelKey(x.shards-1)))
		took = append(took, micros(time.Since(begin), 1)/1e3)
		used = append(used, micros(cpu(b)-used0, 1)/1e3)
		x.settle(b)
	}
	for b.Loop() {
		remove()
	}
	for len(took) < leastRounds {
		remove()
	}
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(median(took), "ms/shard")
	b.ReportMetric(median(used), "cpu-ms/shard")
	b.ReportMetric(before, "B/record-before")
	b.ReportMetric(float64(x.size(b))/(10*aMillion), "B/record-after")
	b.ReportMetric(micros(appendAndSync(b), 1)/1e3, "floor-ms/sync")
}

// BenchmarkTopLevelOpen opens an index of 100M records. Bars: 50 ms; 24 bytes a record
// at rest; 2 bytes of heap a record, once all of it is in use. Floor: opening and
// closing as many files.
func BenchmarkTopLevelOpen(b *testing.B) {
	n := recordsOr(b, 100*aMillion)
	x := makeToplevel(b, n, n/(2*aMillion))
	require.NoError(b, x.Close())
	var took, used []float64
	open := func() {
		begin, used0 := time.Now(), cpu(b)
		x.open(b, files.OS)
		took = append(took, micros(time.Since(begin), 1)/1e3)
		used = append(used, micros(cpu(b)-used0, 1)/1e3)
		require.NoError(b, x.Close())
	}
	for b.Loop() {
		open()
	}
	for len(took) < leastRounds {
		open()
	}
	before := liveHeap()
	x.open(b, files.OS)
	for number := uint64(0); number < x.next; number += 10_007 { // each partition is used, and most pages are not
		_, ok, err := x.First(appendMultihash(nil, number))
		require.NoError(b, err)
		require.True(b, ok)
	}
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(median(took), "ms")
	b.ReportMetric(median(used), "cpu-ms")
	b.ReportMetric(float64(x.size(b))/float64(n), "B/record")
	b.ReportMetric(float64(liveHeap()-before)/float64(n), "heap-B/record")
	b.ReportMetric(float64(x.layers(b)), "layers")
	b.ReportMetric(costOfOpening(b, x), "floor-ms")
}

// costOfOpening returns what opening and closing the files of an index takes, in
// milliseconds.
func costOfOpening(b *testing.B, x *toplevelIndex) float64 {
	b.Helper()
	begin := time.Now()
	for _, name := range filesIn(b, x.dir) {
		f, err := os.Open(filepath.Join(x.dir, name))
		require.NoError(b, err)
		require.NoError(b, f.Close())
	}
	return micros(time.Since(begin), 1) / 1e3
}
