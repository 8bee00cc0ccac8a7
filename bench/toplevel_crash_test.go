package bench

import (
	"context"
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
	require.Positive(t, r.end())
}

// untilKilled gives orders to a child until it is dead, and returns how many it has
// answered.
func (m *toplevelModel) untilKilled(t *testing.T, dir string, random *rand.Rand) (answers int) {
	t.Helper()
	c := startChild(t, dir)
	kill := func() { _ = c.cmd.Process.Kill() } // a child that has ended by itself shows later
	isEarly := random.IntN(4) == 0
	if isEarly { // perhaps while it opens the index
		defer time.AfterFunc(time.Duration(random.IntN(100))*time.Millisecond, kill).Stop()
	}
	orders := make(chan order)
	isDone := make(chan struct{})
	var isWaiting [toplevelShards]chan struct{}
	for i := range isWaiting {
		isWaiting[i] = make(chan struct{}, 1)
	}
	var workers sync.WaitGroup
	for w := range toplevelWorkers {
		own := rand.New(rand.NewPCG(random.Uint64(), uint64(w)))
		workers.Go(func() {
			for {
				shard := w + toplevelWorkers*own.IntN(toplevelShards/toplevelWorkers)
				select {
				case orders <- m.ask(shard, own):
				case <-isDone:
					return
				}
				select {
				case <-isWaiting[shard]:
				case <-isDone:
					return
				}
			}
		})
	}
	for c.answers.Scan() {
		shard, err := strconv.Atoi(c.answers.Text())
		require.NoError(t, err)
		if shard != ready {
			m.settle(shard, true)
			isWaiting[shard] <- struct{}{}
			answers++
			continue
		}
		if !isEarly {
			defer time.AfterFunc(time.Duration(random.IntN(600))*time.Millisecond, kill).Stop()
		}
		workers.Go(func() {
			for {
				select {
				case o := <-orders:
					_ = c.orders.Encode(o) // it fails when the child is dead
				case <-isDone:
					return
				}
			}
		})
	}
	close(isDone)
	workers.Wait()
	c.requireKilled(t)
	return answers
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

func (r *toplevelReader) end() int { return r.stop() }

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
