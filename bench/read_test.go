package bench

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"testing"

	blocks "github.com/ipfs/go-block-format"
	"github.com/ipfs/go-cid"
	"github.com/multiformats/go-multihash"
	"github.com/stretchr/testify/require"

	"github.com/filecoin-project/dagstore"
	"github.com/filecoin-project/dagstore/index"
	"github.com/filecoin-project/dagstore/mount"
	"github.com/filecoin-project/dagstore/shard"
)

// noTopLevel is a top-level index that takes all and finds nothing: a million
// multihashes in memory would be another benchmark.
type noTopLevel struct{}

func (noTopLevel) AddMultihashesForShard(context.Context, index.MultihashIterator, shard.Key) error {
	return nil
}

func (noTopLevel) GetShardsForMultihash(context.Context, multihash.Multihash) ([]shard.Key, error) {
	return nil, nil
}

// A million is a store with one shard of a million blocks of 256 bytes.
type million struct {
	store  *dagstore.DAGStore
	car    carFile
	places deal[place]
}

func newMillion(tb testing.TB, mnt func(path string) mount.Mount) *million {
	tb.Helper()
	car := makeCAR(tb, 1_000_000, 256)
	r := newRig(tb)
	r.config.TopLevelIndex = noTopLevel{}
	d := r.started(tb)
	require.NoError(tb, dagstore.Register(context.Background(), d, numbered(0), mnt(car.path), dagstore.RegisterOpts{}))
	return &million{d, car, deal[place]{all: car.places(tb)}}
}

// A reading is a blockstore as the accessors of a store give it out.
type reading interface {
	dagstore.ReadBlockstore
	dagstore.BlockViewer
}

// blockstore returns one of an accessor of its own, open as long as tb.
func (m *million) blockstore(tb testing.TB) reading {
	tb.Helper()
	a, err := dagstore.Acquire(context.Background(), m.store, numbered(0))
	require.NoError(tb, err)
	tb.Cleanup(func() { require.NoError(tb, a.Close()) })
	bs, err := a.Blockstore()
	require.NoError(tb, err)
	return bs.(reading)
}

// readKnown returns what reads a block of a known place into fresh memory.
func (m *million) readKnown(tb testing.TB) func(place) error {
	tb.Helper()
	f, err := os.Open(m.car.path)
	require.NoError(tb, err)
	tb.Cleanup(func() { f.Close() })
	return func(p place) error {
		_, err := f.ReadAt(make([]byte, m.car.size), p.offset)
		return err
	}
}

// reads adds a contender that reads n random blocks in a run.
func (m *million) reads(c *contest, n int, read func(place) error) *contender {
	return c.add(func() error {
		for _, p := range m.places.next(n) {
			if err := read(p); err != nil {
				return err
			}
		}
		return nil
	})
}

type getter interface {
	Get(context.Context, cid.Cid) (blocks.Block, error)
}

func get(from getter) func(place) error {
	return func(p place) error {
		_, err := from.Get(context.Background(), p.cid)
		return err
	}
}

func view(from dagstore.BlockViewer) func(place) error {
	return func(p place) error { return from.View(context.Background(), p.cid, look) }
}

// look touches both ends of a block, which are hardly ever equal.
func look(data []byte) error {
	if data[0] == data[len(data)-1] && len(data) != 256 {
		return fmt.Errorf("block of %d bytes", len(data))
	}
	return nil
}

func local(path string) mount.Mount { return &mount.FileMount{Path: path} }

// BenchmarkRead reads random blocks of 256 bytes of a million, as an accessor of
// a store does. Floor: os.File.ReadAt of the known range into fresh memory. Bars:
// Get 1.9 times the floor and 0.6 times go-car's, View 1.3 times the floor; Get
// with HashOnRead at most go-car's without; 2 allocations, and none but for Get.
func BenchmarkRead(b *testing.B) {
	const each = 50_000 // of each kind in a round
	m := newMillion(b, local)
	plain, verifying := m.blockstore(b), m.blockstore(b)
	verifying.HashOnRead(true)
	var c contest
	floor := m.reads(&c, each, m.readKnown(b))
	goCar := m.reads(&c, each, get(goCarBlockstore(b, m.car.path)))
	gets := m.reads(&c, each, get(plain))
	verified := m.reads(&c, each, get(verifying))
	views := m.reads(&c, each, view(plain))
	sizes := m.reads(&c, each, func(p place) error {
		_, err := plain.GetSize(context.Background(), p.cid)
		return err
	})
	has := m.reads(&c, each, func(p place) error {
		found, err := plain.Has(context.Background(), p.cid)
		if err == nil && !found {
			err = fmt.Errorf("block %s is missing", p.cid)
		}
		return err
	})
	c.hold(b)
	b.ReportMetric(gets.over(floor), "get-x-readat")
	b.ReportMetric(gets.over(goCar), "get-x-gocar")
	b.ReportMetric(views.over(floor), "view-x-readat")
	b.ReportMetric(verified.over(goCar), "verified-x-gocar")
	b.ReportMetric(floor.nanos(each), "floor-cpu-ns")
	b.ReportMetric(goCar.nanos(each), "gocar-cpu-ns")
	b.ReportMetric(gets.nanos(each), "get-cpu-ns")
	b.ReportMetric(verified.nanos(each), "verified-cpu-ns")
	b.ReportMetric(views.nanos(each), "view-cpu-ns")
	b.ReportMetric(sizes.nanos(each), "getsize-cpu-ns")
	b.ReportMetric(has.nanos(each), "has-cpu-ns")
	b.ReportMetric(gets.allocs(each), "get-allocs")
	b.ReportMetric(max(views.allocs(each), sizes.allocs(each), has.allocs(each)), "other-allocs")
}

// BenchmarkReadTogether reads random blocks by one goroutine and by 8. Bar: 1.15
// times the CPU a block. Floor: the same with os.File.ReadAt of the known range.
func BenchmarkReadTogether(b *testing.B) {
	const each = 80_000 // of each kind in a round
	m := newMillion(b, local)
	bs := m.blockstore(b)
	var c contest
	both := func(read func(place) error) (one, many *contender) {
		return m.reads(&c, each, read), c.add(func() error { return together(m.places.next(each), read) })
	}
	floor, floors := both(m.readKnown(b))
	gets, manyGets := both(get(bs))
	views, manyViews := both(view(bs))
	c.hold(b)
	b.ReportMetric(manyGets.over(gets), "get-x-one")
	b.ReportMetric(manyViews.over(views), "view-x-one")
	b.ReportMetric(floors.over(floor), "floor-x-one")
	b.ReportMetric(manyGets.nanos(each), "get-cpu-ns")
	b.ReportMetric(manyViews.nanos(each), "view-cpu-ns")
	b.ReportMetric(floors.nanos(each), "floor-cpu-ns")
}

// together reads blocks by 8 goroutines.
func together(all []place, read func(place) error) error {
	const readers = 8
	errs := make(chan error, readers)
	for part := range slices.Chunk(all, len(all)/readers) {
		go func() {
			for _, p := range part {
				if err := read(p); err != nil {
					errs <- err
					return
				}
			}
			errs <- nil
		}()
	}
	var err error
	for range readers {
		err = errors.Join(err, <-errs)
	}
	return err
}

// BenchmarkAcquireAndGet acquires a warm shard with a million blocks, reads one at
// random and closes the accessor. Bars: 150 µs of CPU and 16 KiB of heap. Floor:
// opening the data, reading the known range and closing it.
func BenchmarkAcquireAndGet(b *testing.B) {
	b.Run("local", func(b *testing.B) { benchmarkAcquireAndGet(b, local) })
	b.Run("copied", func(b *testing.B) {
		benchmarkAcquireAndGet(b, func(path string) mount.Mount { return &remoteMount{mount.FileMount{Path: path}} })
	})
}

func benchmarkAcquireAndGet(b *testing.B, mnt func(path string) mount.Mount) {
	const each = 500 // acquisitions in a round
	m := newMillion(b, mnt)
	var c contest
	floor := m.reads(&c, each, func(p place) error {
		f, err := os.Open(m.car.path)
		if err != nil {
			return err
		}
		defer f.Close()
		_, err = f.ReadAt(make([]byte, m.car.size), p.offset)
		return err
	})
	ours := m.reads(&c, each, func(p place) error {
		a, err := dagstore.Acquire(context.Background(), m.store, numbered(0))
		if err != nil {
			return err
		}
		defer a.Close()
		bs, err := a.Blockstore()
		if err != nil {
			return err
		}
		return get(bs)(p)
	})
	c.hold(b)
	b.ReportMetric(ours.nanos(each)/1e3, "cpu-µs/op")
	b.ReportMetric(floor.nanos(each)/1e3, "floor-cpu-µs/op")
	b.ReportMetric(ours.bytes(each), "allocated-B/op")
	b.ReportMetric(ours.allocs(each), "mallocs/op")
}
