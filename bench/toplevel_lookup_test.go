package bench

import (
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// absent are numbers from here on, which no index has.
const absent = 1 << 60

// wantedMultihashes are random ones, from a number on, in parts for many rounds.
func wantedMultihashes(from, n uint64, seed uint64) *deal[[]byte] {
	const all = 1_000_000
	random := rand.New(rand.NewPCG(seed, 0))
	d := new(deal[[]byte])
	for range all {
		d.all = append(d.all, appendMultihash(make([]byte, 0, 34), from+random.Uint64N(n)))
	}
	return d
}

var errWrongAnswer = errors.New("wrong answer")

// BenchmarkTopLevelLookUp looks multihashes up among 50M records in 1,000 shards, and
// in 10,000. Bars: 2 µs of CPU for one that is there, 0.5 µs for one that is not, 1.3
// times that in 10,000 shards; in batches of 1,000 0.6 times, of eight once, what one
// by one takes. Floor: touching a random place in 256 MiB.
func BenchmarkTopLevelLookUp(b *testing.B) {
	const each = 50_000 // look-ups of a round
	n := recordsOr(b, 50*aMillion)
	x, y := makeToplevel(b, n, 1000), makeToplevel(b, n, 10_000)
	var c contest
	floor := c.add(touchAnywhere(each))
	lookUps := func(x *toplevelIndex, from uint64, want int) *contender {
		wanted := wantedMultihashes(from, uint64(n), from+1)
		return c.add(func() error {
			for _, mh := range wanted.next(each) {
				if keys, err := x.Lookup(mh); err != nil || len(keys) != want {
					return errors.Join(err, errWrongAnswer)
				}
			}
			return nil
		})
	}
	hit, miss := lookUps(x, 0, 1), lookUps(x, absent, 0)
	hitMany, missMany := lookUps(y, 0, 1), lookUps(y, absent, 0)
	batchHit, batchMiss := c.add(x.batches(1000, 0, n, each, 1)), c.add(x.batches(1000, absent, n, each, 0))
	eightHit, eightMiss := c.add(x.batches(8, 0, n, each, 1)), c.add(x.batches(8, absent, n, each, 0))
	c.hold(b)
	b.ReportMetric(hit.nanos(each), "hit-cpu-ns")
	b.ReportMetric(miss.nanos(each), "miss-cpu-ns")
	b.ReportMetric(hitMany.over(hit), "10000-hit-x")
	b.ReportMetric(missMany.over(miss), "10000-miss-x")
	b.ReportMetric(batchHit.nanos(each), "batch-hit-cpu-ns")
	b.ReportMetric(batchMiss.nanos(each), "batch-miss-cpu-ns")
	b.ReportMetric(batchHit.over(hit), "batch-hit-x")
	b.ReportMetric(batchMiss.over(miss), "batch-miss-x")
	b.ReportMetric(eightHit.over(hit), "8-hit-x")
	b.ReportMetric(eightMiss.over(miss), "8-miss-x")
	b.ReportMetric(hit.allocs(each), "hit-allocs")
	b.ReportMetric(miss.allocs(each), "miss-allocs")
	b.ReportMetric(float64(x.layers(b)), "layers")
	b.ReportMetric(float64(y.layers(b)), "10000-layers")
	b.ReportMetric(floor.nanos(each), "floor-cpu-ns")
}

// batches looks multihashes up, so many together.
func (x *toplevelIndex) batches(together int, from uint64, n, each, want int) func() error {
	wanted := wantedMultihashes(from, uint64(n), from+2)
	return func() error {
		for range each / together {
			answers, err := x.LookupMany(wanted.next(together))
			if err != nil {
				return err
			}
			for _, keys := range answers {
				if len(keys) != want {
					return errWrongAnswer
				}
			}
		}
		return nil
	}
}

// touchAnywhere touches random places, one after the other.
func touchAnywhere(times int) func() error {
	memory := make([]byte, 256<<20)
	for i := range memory {
		memory[i] = byte(i >> 12)
	}
	random := rand.New(rand.NewPCG(5, 6))
	return func() error {
		for range times {
			at := random.Uint64N(uint64(len(memory)-8)) + touched&1
			touched += binary.LittleEndian.Uint64(memory[at:])
		}
		return nil
	}
}

// BenchmarkTopLevelBesideMerging looks multihashes up on all cores among 10M records,
// half of them in no shard, while shards of 1M are merged, and just before. Bar: 80 %
// of the speed while merging.
func BenchmarkTopLevelBesideMerging(b *testing.B) {
	x := makeToplevel(b, 10*aMillion, 100)
	var kept []float64
	for b.Loop() {
		kept = append(kept, x.speedKept(b))
	}
	for len(kept) < leastRounds {
		kept = append(kept, x.speedKept(b))
	}
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(100*median(kept), "%-of-speed")
}

// speedKept returns the speed of look-ups while there is something to merge over that
// before there is, in one layer less.
func (x *toplevelIndex) speedKept(b *testing.B) float64 {
	b.Helper()
	const enough = 300 * time.Millisecond
	for {
		var before float64
		for range 2 { // the first touches what is new
			before = x.speed(b, func() { <-time.After(enough) })
		}
		x.add(b, x.fresh(aMillion))
		begin := time.Now()
		beside := x.speed(b, func() { x.settle(b) })
		if time.Since(begin) > enough { // most additions merge nothing
			return beside / before
		}
	}
}

// speed returns how many look-ups are done in a second of CPU time while wait waits.
// The callers use all cores, so that what merging takes is taken from them; what other
// processes take is not counted.
func (x *toplevelIndex) speed(b *testing.B, wait func()) float64 {
	b.Helper()
	over := make(chan struct{})
	var count atomic.Int64
	var wg sync.WaitGroup
	begin := cpu(b)
	for c := range runtime.GOMAXPROCS(0) {
		wg.Go(func() { x.lookUpUntil(b, over, &count, rand.New(rand.NewPCG(x.next, uint64(c)))) })
	}
	wait()
	close(over)
	wg.Wait()
	return float64(count.Load()) / (cpu(b) - begin).Seconds()
}

// lookUpUntil looks up and counts. Half of the multihashes are in no shard.
func (x *toplevelIndex) lookUpUntil(b *testing.B, over <-chan struct{}, count *atomic.Int64, random *rand.Rand) {
	const stride = 100
	var mh []byte
	for {
		select {
		case <-over:
			return
		default:
		}
		for i := range uint64(stride) {
			mh = appendMultihash(mh[:0], random.Uint64N(10*aMillion)+i%2*absent)
			if keys, err := x.Lookup(mh); err != nil || len(keys) != int(1-i%2) {
				b.Error(keys, err)
				return
			}
		}
		count.Add(stride)
	}
}
