package bench

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/ipfs/go-datastore/query"
	"github.com/stretchr/testify/require"

	"github.com/filecoin-project/dagstore"
	"github.com/filecoin-project/dagstore/index"
	"github.com/filecoin-project/dagstore/internal/keyname"
	"github.com/filecoin-project/dagstore/mount"
)

// The bars that this package's figures are held against.
const (
	startedShards = 100_000 // bar: 8 µs of CPU and 700 bytes of live heap each
	idleShards    = 10_000  // bar: 10 ms for a GC, and no write
)

// BenchmarkRegister registers 10,000 shards lazily by 64 callers. Bar: syncs/reg
// is at most 0.05. Floor: an append of 200 bytes and its fsync.
func BenchmarkRegister(b *testing.B) {
	rounds, syncs := 0, 0
	for b.Loop() {
		b.StopTimer()
		r := newRig(b)
		d := r.started(b)
		b.StartTimer()
		registerAll(b, r, d)
		rounds++
		syncs += r.syncs()
	}
	took := b.Elapsed()
	b.ReportMetric(float64(syncs)/float64(rounds*registrations), "syncs/reg")
	b.ReportMetric(micros(took, rounds*registrations), "µs/reg")
	b.ReportMetric(micros(appendAndSync(b), 1), "floor-µs/sync")
}

// appendAndSync returns what an append of 200 bytes and its fsync take.
func appendAndSync(b *testing.B) time.Duration {
	const n = 100
	f, err := os.Create(filepath.Join(b.TempDir(), "floor"))
	require.NoError(b, err)
	begin := time.Now()
	for range n {
		_, err := f.Write(make([]byte, 200))
		require.NoError(b, err)
		require.NoError(b, f.Sync())
	}
	took := time.Since(begin)
	require.NoError(b, f.Close())
	return took / n
}

// BenchmarkAcquire acquires and closes a warm tiny shard. Bar: 30 µs of CPU, no
// write. Floor: opening, reading and closing its index and opening and closing
// its data. One caller alone pays for waking threads; many share that.
func BenchmarkAcquire(b *testing.B) {
	local := func(path string) mount.Mount { return &mount.FileMount{Path: path} }
	copied := func(path string) mount.Mount { return &remoteMount{mount.FileMount{Path: path}} }
	b.Run("local", func(b *testing.B) { benchmarkAcquire(b, newRig(b), local, 1) })
	b.Run("copied", func(b *testing.B) { benchmarkAcquire(b, newRig(b), copied, 1) })
	b.Run("callers", func(b *testing.B) { benchmarkAcquire(b, newRig(b), local, callers) })
	b.Run("indexed-in-memory", func(b *testing.B) {
		r := newRig(b)
		r.config.IndexRepo = index.NewMemoryRepo()
		benchmarkAcquire(b, r, local, 1)
	})
}

func benchmarkAcquire(b *testing.B, r *rig, mnt func(path string) mount.Mount, callers int) {
	const each = 100 // acquisitions of a caller in one round
	d := r.started(b)
	require.NoError(b, dagstore.Register(context.Background(), d, numbered(0), mnt(r.car), dagstore.RegisterOpts{}))
	use(b, d, 0)
	r.writes.Reset()
	n, begin := 0, cpu(b)
	for b.Loop() {
		var wg sync.WaitGroup
		for range callers {
			wg.Go(func() {
				for range each {
					use(b, d, 0)
				}
			})
		}
		wg.Wait()
		n += callers * each
	}
	b.ReportMetric(micros(cpu(b)-begin, n), "cpu-µs/op")
	b.ReportMetric(float64(r.syncs()), "syncs")
	b.ReportMetric(micros(openAndClose(b, r, n), n), "floor-cpu-µs/op")
}

// openAndClose returns the CPU time of what n acquisitions cannot do without.
func openAndClose(b *testing.B, r *rig, n int) time.Duration {
	found, err := filepath.Glob(filepath.Join(filepath.Dir(r.car), "indices", keyname.File(numbered(0).String())+".*"))
	require.NoError(b, err)
	begin := cpu(b)
	for range n {
		for _, path := range found { // none, if indices are in memory
			if _, err := os.ReadFile(path); err != nil {
				b.Fatal(err)
			}
		}
		f, err := os.Open(r.car)
		if err != nil {
			b.Fatal(err)
		}
		_ = f.Close()
	}
	return cpu(b) - begin
}

// BenchmarkStart starts a store of 100,000 shards. Bar: 8 µs of CPU and 700
// bytes of live heap a shard. Floor: reading the records and parsing their JSON.
func BenchmarkStart(b *testing.B) {
	b.Run("lazy", func(b *testing.B) { benchmarkStart(b, "file", dagstore.ShardStateNew) })
	b.Run("available", func(b *testing.B) { benchmarkStart(b, "file", dagstore.ShardStateAvailable) })
	b.Run("copied", func(b *testing.B) { benchmarkStart(b, "remote", dagstore.ShardStateAvailable) })
}

func benchmarkStart(b *testing.B, scheme string, state dagstore.ShardState) {
	r := newRig(b)
	r.record(b, startedShards, scheme, state)
	floor := readRecords(b, r) // also fills leveldb's caches, which are not the store's
	var used time.Duration
	var heap int64
	rounds := 0
	for b.Loop() {
		b.StopTimer()
		d := r.store(b)
		before := liveHeap()
		b.StartTimer()
		begin := cpu(b)
		require.NoError(b, d.Start(context.Background()))
		used += cpu(b) - begin
		b.StopTimer()
		heap += liveHeap() - before
		rounds++
		require.NoError(b, d.Close())
		b.StartTimer()
	}
	b.ReportMetric(micros(used, rounds*startedShards), "cpu-µs/shard")
	b.ReportMetric(float64(heap)/float64(rounds*startedShards), "heap-B/shard")
	b.ReportMetric(micros(floor, startedShards), "floor-cpu-µs/shard")
	b.ReportMetric(float64(r.syncs()), "syncs")
}

func readRecords(b *testing.B, r *rig) time.Duration {
	begin := cpu(b)
	res, err := r.config.Datastore.Query(context.Background(), query.Query{Prefix: dagstore.StoreNamespace.String()})
	require.NoError(b, err)
	n := 0
	for e := range res.Next() {
		if err := json.Unmarshal(e.Value, &dagstore.PersistedShard{}); err != nil {
			b.Fatal(err)
		}
		n++
	}
	require.NoError(b, res.Close())
	require.Equal(b, startedShards, n)
	return cpu(b) - begin
}

// liveHeap returns the bytes that are reachable. The first collection only takes
// things out of pools, and has cleanups run, which let go of others.
func liveHeap() int64 {
	for range 5 {
		runtime.GC()
		runtime.Gosched()
	}
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// BenchmarkIdleGC collects garbage among 10,000 shards that have none. Bar: 10
// ms, no write. Floor: a look at every shard.
func BenchmarkIdleGC(b *testing.B) {
	b.Run("local", func(b *testing.B) { benchmarkIdleGC(b, "file") })
	b.Run("copied", func(b *testing.B) { benchmarkIdleGC(b, "remote") })
}

func benchmarkIdleGC(b *testing.B, scheme string) {
	r := newRig(b)
	r.record(b, idleShards, scheme, dagstore.ShardStateAvailable)
	d := r.started(b)
	n := 0
	for b.Loop() {
		res, err := d.GC(context.Background())
		if err != nil || len(res.Shards) != idleShards || res.ShardFailures() > 0 {
			b.Fatal(len(res.Shards), err)
		}
		n++
	}
	took := b.Elapsed()
	begin := time.Now()
	require.Len(b, d.AllShardsInfo(), idleShards)
	b.ReportMetric(micros(time.Since(begin), 1)/1e3, "floor-ms/look")
	b.ReportMetric(micros(took, n)/1e3, "ms/gc")
	b.ReportMetric(float64(r.syncs()), "syncs")
}
