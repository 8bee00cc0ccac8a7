package bench

import (
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"runtime"
	"slices"
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
// of the speed while merging. Another figure is that of one caller.
func BenchmarkTopLevelBesideMerging(b *testing.B) {
	x := makeToplevel(b, 10*aMillion, 100)
	var all, one []float64
	round := func() {
		all = append(all, x.speedBesideMerging(b, runtime.GOMAXPROCS(0)))
		one = append(one, x.speedBesideMerging(b, 1))
	}
	for b.Loop() {
		round()
	}
	for len(all) < leastRounds {
		round()
	}
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(100*median(all), "%-of-speed")
	b.ReportMetric(100*median(one), "%-of-speed-of-one")
}

// speedBesideMerging returns the speed of look-ups while there is something to merge
// over that before there is, in one layer less.
func (x *toplevelIndex) speedBesideMerging(b *testing.B, callers int) float64 {
	b.Helper()
	const enough = 300 * time.Millisecond
	for {
		var before float64
		for range 2 { // the first touches what is new
			before = x.speed(b, callers, func() { <-time.After(enough) })
		}
		x.add(b, x.fresh(aMillion))
		begin := time.Now()
		beside := x.speed(b, callers, func() { x.settle(b) })
		if time.Since(begin) > enough { // most additions merge nothing
			return beside / before
		}
	}
}

// speed returns how many look-ups are done in a second while wait waits. It is that
// of the best tenth of all slices of time: in the others the machine did something
// else. There is merging in each slice, if there is any.
func (x *toplevelIndex) speed(b *testing.B, callers int, wait func()) float64 {
	b.Helper()
	const slice = 20 * time.Millisecond
	over := make(chan struct{})
	var count atomic.Int64
	var wg sync.WaitGroup
	for c := range callers {
		wg.Go(func() { x.lookUpUntil(b, over, &count, rand.New(rand.NewPCG(x.next, uint64(c)))) })
	}
	wg.Go(func() {
		wait()
		close(over)
	})
	speeds := []float64{0}
	tick := time.NewTicker(slice)
	defer tick.Stop()
	for last, from := time.Now(), int64(0); ; {
		select {
		case <-over:
			wg.Wait()
			slices.Sort(speeds)
			return speeds[len(speeds)*9/10]
		case <-tick.C:
			now, to := time.Now(), count.Load()
			speeds = append(speeds, float64(to-from)/now.Sub(last).Seconds())
			last, from = now, to
		}
	}
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
