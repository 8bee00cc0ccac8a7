package bench

import (
	"runtime"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// leastRounds is how often each contender of a contest runs at least.
const leastRounds = 5

// A contest measures contenders one after the other, round by round, so that what
// disturbs the machine disturbs all of them.
type contest struct{ contenders []*contender }

// A contender is one way to do a job. Its figures are medians of all rounds.
type contender struct {
	prepare func() // before each run, not measured; may be nil
	run     func() error
	costs   []cost
}

// A cost is what one run took.
type cost struct {
	cpu            time.Duration
	mallocs, bytes uint64
}

// add adds a contender. Its runs are all of the same work.
func (c *contest) add(run func() error) *contender {
	p := &contender{run: run}
	c.contenders = append(c.contenders, p)
	return p
}

// hold runs all rounds. The time of a round says nothing and is not reported.
func (c *contest) hold(b *testing.B) {
	b.Helper()
	c.round(b) // caches and mappings are warm after it
	for _, p := range c.contenders {
		p.costs = nil
	}
	for b.Loop() {
		c.round(b)
	}
	for len(c.contenders[0].costs) < leastRounds {
		c.round(b)
	}
	b.ReportMetric(0, "ns/op")
}

func (c *contest) round(b *testing.B) {
	b.Helper()
	for _, p := range c.contenders {
		if p.prepare != nil {
			p.prepare()
		}
		p.costs = append(p.costs, measure(b, p.run))
	}
}

// measure returns what one run costs. It begins without garbage of others.
func measure(tb testing.TB, run func() error) cost {
	tb.Helper()
	runtime.GC()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	begin := cpu(tb)
	err := run()
	used := cpu(tb) - begin
	runtime.ReadMemStats(&after)
	require.NoError(tb, err)
	return cost{used, after.Mallocs - before.Mallocs, after.TotalAlloc - before.TotalAlloc}
}

// cpu returns the CPU time of a run.
func (p *contender) cpu() time.Duration {
	return time.Duration(p.median(func(c cost) float64 { return float64(c.cpu) }))
}

// nanos returns the CPU time, in nanoseconds, of one of n operations of a run.
func (p *contender) nanos(n int) float64 { return float64(p.cpu()) / float64(n) }

// allocs returns how often one of n operations of a run allocates.
func (p *contender) allocs(n int) float64 {
	return p.median(func(c cost) float64 { return float64(c.mallocs) }) / float64(n)
}

// bytes returns what one of n operations of a run allocates.
func (p *contender) bytes(n int) float64 {
	return p.median(func(c cost) float64 { return float64(c.bytes) }) / float64(n)
}

func (p *contender) median(of func(cost) float64) float64 {
	var all []float64
	for _, c := range p.costs {
		all = append(all, of(c))
	}
	return median(all)
}

// over returns how many times the CPU time of other this one took, in the same
// round.
func (p *contender) over(other *contender) float64 {
	var all []float64
	for i, c := range p.costs {
		all = append(all, float64(c.cpu)/float64(other.costs[i].cpu))
	}
	return median(all)
}

// median sorts all and returns what is in the middle.
func median(all []float64) float64 {
	slices.Sort(all)
	return all[len(all)/2]
}
