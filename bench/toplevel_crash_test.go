package bench

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/filecoin-project/dagstore/internal/inverted"
)

// crashTime is for how long the crash test kills processes, such as "10m".
const crashTime = "DAGSTORE_CRASH_TIME"

// freshness is what a reader promises: it knows what was acknowledged this long ago.
const freshness = 5 * time.Millisecond

func TestTheTopLevelIndexKeepsItsWordAfterAKill(t *testing.T) {
	begin, budget := time.Now(), 4*time.Second
	if s := os.Getenv(crashTime); s != "" {
		var err error
		budget, err = time.ParseDuration(s)
		require.NoError(t, err)
	}
	dir := t.TempDir()
	m := new(toplevelModel)
	m.next.Store(everywhere.To)
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	m.untilKilled(t, dir, random)
	m.check(t, dir, random)
	r := m.startReader(t, dir, seed)
	for time.Since(begin) < budget {
		answers := m.untilKilled(t, dir, random)
		files := m.check(t, dir, random)
		t.Logf("killed after %d answers; %d files; the reader has looked %d times", answers, files, r.looks())
	}
	require.Positive(t, r.stop())
}

// untilKilled gives orders to a child until it is dead, and returns how many it has
// answered.
func (m *toplevelModel) untilKilled(t *testing.T, dir string, random *rand.Rand) (answers int) {
	t.Helper()
	c := startChild(t, dir)
	killWithin := func(d time.Duration) *time.Timer {
		return time.AfterFunc(time.Duration(random.Int64N(int64(d))), func() { _ = c.cmd.Process.Kill() }) // a child that has ended by itself shows later
	}
	isEarly := random.IntN(4) == 0
	if isEarly { // perhaps while it opens the index
		defer killWithin(100 * time.Millisecond).Stop()
	}
	crew := newCrew(m)
	var wg sync.WaitGroup
	for w := range toplevelWorkers {
		own := rand.New(rand.NewPCG(random.Uint64(), uint64(w)))
		wg.Go(func() { crew.work(w, own) })
	}
	for c.answers.Scan() {
		shard, err := strconv.Atoi(c.answers.Text())
		require.NoError(t, err)
		if shard == ready {
			if !isEarly {
				defer killWithin(600 * time.Millisecond).Stop()
			}
			wg.Go(func() { crew.pass(c.orders) })
			continue
		}
		m.settle(shard, true)
		crew.answered[shard] <- struct{}{}
		answers++
	}
	close(crew.isDismissed)
	wg.Wait()
	c.requireKilled(t)
	return answers
}

// A crew is workers that each give an order for one of their own shards and wait
// until it is obeyed.
type crew struct {
	model       *toplevelModel
	orders      chan order
	answered    [toplevelShards]chan struct{} // have room for one
	isDismissed chan struct{}                 // closed when the child is dead
}

func newCrew(m *toplevelModel) *crew {
	c := &crew{model: m, orders: make(chan order), isDismissed: make(chan struct{})}
	for i := range c.answered {
		c.answered[i] = make(chan struct{}, 1)
	}
	return c
}

func (c *crew) work(worker int, random *rand.Rand) {
	for {
		shard := worker + toplevelWorkers*random.IntN(toplevelShards/toplevelWorkers)
		select {
		case c.orders <- c.model.ask(shard, random):
		case <-c.isDismissed:
			return
		}
		select {
		case <-c.answered[shard]:
		case <-c.isDismissed:
			return
		}
	}
}

// pass passes orders on.
func (c *crew) pass(to *json.Encoder) {
	for {
		select {
		case o := <-c.orders:
			_ = to.Encode(o) // it fails when the child is dead
		case <-c.isDismissed:
			return
		}
	}
}

// check opens what a child has left, and holds it against its word. It returns how
// many files there are.
func (m *toplevelModel) check(t *testing.T, dir string, random *rand.Rand) (files int) {
	t.Helper()
	ctx := context.Background()
	x, err := inverted.Open(ctx, dir, inverted.Options{})
	require.NoError(t, err)
	require.NoError(t, x.Close())
	require.Equal(t, namedFiles(t, dir), filesIn(t, dir), "the files of the folder are those that the journal names")

	x, err = inverted.Open(ctx, dir, inverted.Options{})
	require.NoError(t, err)
	var alive []string
	for i := range m.shards {
		m.findOut(t, x, i, random)
		s := &m.shards[i]
		for _, p := range s.spans {
			requireAll(t, x, p, random, toplevelKey(i))
		}
		for _, p := range s.gone {
			requireAll(t, x, p, random)
		}
		if len(s.spans) > 0 {
			alive = append(alive, toplevelKey(i))
		}
	}
	shards, err := x.Shards()
	require.NoError(t, err)
	require.ElementsMatch(t, alive, shards)
	requireAll(t, x, everywhere, random, shards...)
	require.NoError(t, x.Verify(ctx))
	if random.IntN(3) == 0 { // let it merge all that was left
		require.NoError(t, x.Wait(ctx))
		requireAll(t, x, everywhere, random, shards...)
	}
	require.NoError(t, x.Close())
	return len(filesIn(t, dir))
}

// findOut sees what has become of an order that was not answered: it was obeyed, or
// it was not.
func (m *toplevelModel) findOut(t *testing.T, x *inverted.Index, shard int, random *rand.Rand) {
	t.Helper()
	s := &m.shards[shard]
	o := s.pending
	if o == nil {
		return
	}
	asked := o.span
	if o.Remove {
		asked = s.spans[0]
	}
	keys, err := x.Lookup(appendMultihash(nil, asked.From))
	require.NoError(t, err)
	m.settle(shard, o.Remove == (len(keys) == 0))
	if !o.Remove && len(keys) == 0 {
		requireAll(t, x, asked, random)
	}
}

// requireAll looks up some multihashes of a span, which must have these shards.
func requireAll(t *testing.T, x *inverted.Index, s span, random *rand.Rand, want ...string) {
	t.Helper()
	mhs := [][]byte{appendMultihash(nil, s.From), appendMultihash(nil, s.To-1)}
	for range min(100, s.len()) {
		mhs = append(mhs, appendMultihash(nil, s.From+random.Uint64N(uint64(s.len()))))
	}
	answers, err := x.LookupMany(mhs)
	require.NoError(t, err)
	for i, got := range answers {
		require.Equal(t, want, got, "multihash %x of numbers %v", mhs[i], s)
	}
}

// A toplevelReader looks up beside the child, in a process that only reads.
type toplevelReader struct {
	t     *testing.T
	m     *toplevelModel
	dir   string
	ended chan struct{}
	stop  func() int

	mu    sync.Mutex
	count int
}

func (m *toplevelModel) startReader(t *testing.T, dir string, seed uint64) *toplevelReader {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	r := &toplevelReader{t: t, m: m, dir: dir, ended: make(chan struct{})}
	go func() {
		defer close(r.ended)
		if err := r.read(ctx, rand.New(rand.NewPCG(seed, 1))); err != nil {
			t.Errorf("reader: %v", err)
		}
	}()
	r.stop = func() int {
		cancel()
		<-r.ended
		return r.looks()
	}
	t.Cleanup(func() { r.stop() })
	return r
}

func (r *toplevelReader) looks() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.count
}

// read looks at a shard every millisecond, and opens the index anew now and then.
func (r *toplevelReader) read(ctx context.Context, random *rand.Rand) error {
	const anew = 100 // shards that are looked at through one index
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for {
		x, err := inverted.OpenReader(context.WithoutCancel(ctx), r.dir, inverted.Options{})
		if err != nil {
			return err
		}
		for range anew {
			select {
			case <-tick.C:
			case <-ctx.Done():
				return x.Close()
			}
			if err := r.look(x, random); err != nil {
				return err
			}
		}
		if err := x.Close(); err != nil {
			return err
		}
	}
}

// look looks up what a shard has, and what it has no more.
func (r *toplevelReader) look(x *inverted.Index, random *rand.Rand) error {
	i := random.IntN(toplevelShards)
	s := &r.m.shards[i]
	p, ok := s.promise()
	if !ok || time.Since(p.since) <= freshness {
		return nil
	}
	expect := func(all []span, want ...string) error {
		for _, of := range all {
			number := of.From + random.Uint64N(uint64(of.len()))
			got, err := x.Lookup(appendMultihash(nil, number))
			if err != nil {
				return err
			}
			if !slices.Equal(got, want) && s.holds(p) {
				return fmt.Errorf("multihash %d has the shards %q, not %q", number, got, want)
			}
		}
		return nil
	}
	if err := errors.Join(expect(p.spans, toplevelKey(i)), expect(p.gone)); err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.count++
	return nil
}
