package dagstore

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"

	ds "github.com/ipfs/go-datastore"
	dssync "github.com/ipfs/go-datastore/sync"
	"github.com/stretchr/testify/require"

	"github.com/filecoin-project/dagstore/internal/fault"
)

var (
	seed   = flag.Uint64("seed", 0, "seed of the property test; 0 takes a new one for each run")
	rounds = flag.Int("rounds", 40, "runs of the property test")
)

// A promise is what the store has acknowledged of a shard.
type promise int

const (
	uncertain promise = iota // a request is under way, or ended in an error
	present                  // its registration was acknowledged
	absent                   // its destruction was acknowledged, or it never was
)

// A gambler does random things to a store and remembers what was promised.
type gambler struct {
	*rig
	rand     *rand.Rand
	faults   *fault.Injector
	promises map[string]promise
	pending  []*bet
	open     []*ShardAccessor
}

// A bet is a request that was taken on.
type bet struct {
	key    string
	kind   eventKind
	out    chan ShardResult
	ctx    context.Context
	cancel context.CancelFunc
}

// TestWhatWasAcknowledgedSurvivesWhateverHappens lets many callers do random
// things to a store whose mounts fail and panic, whose datastore fails at every
// n-th write, whose readers are slow, cancelled or absent, and which is closed
// and reopened in between.
func TestWhatWasAcknowledgedSurvivesWhateverHappens(t *testing.T) {
	fired := 0
	for range *rounds {
		s := *seed
		if s == 0 {
			s = rand.Uint64()
		}
		t.Logf("again with: go test -run %s -seed %d -rounds 1", t.Name(), s)
		synctest.Test(t, func(t *testing.T) { fired += gamble(t, s) })
		if t.Failed() {
			return
		}
	}
	require.Positive(t, fired, "no write ever failed")
}

func gamble(t *testing.T, s uint64) (fired int) {
	random := rand.New(rand.NewPCG(s, 0))
	faults := fault.Every(2 + random.IntN(20)).Match(fault.Writing)
	if random.IntN(3) == 0 {
		faults = fault.Never()
	}
	g := &gambler{rand: random, faults: faults, promises: map[string]promise{}}
	base := dssync.MutexWrap(ds.NewMapDatastore())
	g.rig = newRig(t, func(c *Config) {
		c.Datastore = fault.Datastore(base, faults)
		c.RecoverOnStart = RecoverOnStartPolicy(random.IntN(3))
		c.MaxConcurrentIndex = random.IntN(3)
		c.MaxConcurrentReadyFetches = random.IntN(3)
		if random.IntN(2) == 0 {
			c.TraceCh = make(chan Trace) // nobody reads it
		}
	})
	for _, k := range []string{"a", "b", "c", "d", "e"} {
		g.promises[k] = absent
	}
	for range 80 {
		for range 1 + random.IntN(6) { // some at once, so that the loop finds several in its inbox
			g.act()
		}
		synctest.Wait()
		g.collect()
		g.check()
	}
	g.reopen()
	require.NoError(t, g.Close())
	synctest.Wait()
	g.collect()
	for _, a := range g.open {
		require.NoError(t, a.Close())
	}
	synctest.Wait()
	for id, src := range g.sources {
		require.Zero(t, src.open(), "readers of %s were leaked", id)
	}
	return faults.Fired()
}

func (g *gambler) act() {
	k := string("abcde"[g.rand.IntN(5)])
	switch n := g.rand.IntN(24); {
	case n < 5:
		g.bet(k, evRegister)
	case n < 11:
		g.bet(k, evAcquire)
	case n < 13:
		g.bet(k, evRecover)
	case n < 15:
		g.bet(k, evDestroy)
	case n < 18:
		g.closeOne()
	case n == 18:
		g.breakOrMend(k)
	case n == 19:
		g.hold(k)
	case n == 20:
		g.collectGarbage()
	case n == 21:
		g.giveUpOne()
	case n == 22:
		time.Sleep(time.Duration(g.rand.IntN(5000)) * time.Millisecond)
	default:
		g.reopen()
	}
}

// bet makes a request. Of registrations and destructions of one key, only one
// is under way at a time, so that it is clear what was promised.
func (g *gambler) bet(k string, kind eventKind) {
	b := &bet{key: k, kind: kind, out: make(chan ShardResult, g.rand.IntN(2))}
	b.ctx, b.cancel = context.WithCancel(context.Background())
	switch kind {
	case evRegister, evDestroy:
		for _, other := range g.pending {
			if other.key == k && (other.kind == evRegister || other.kind == evDestroy) {
				return
			}
		}
	}
	if err := g.request(b); err != nil {
		require.True(g.t, errors.Is(err, ErrShardExists) || errors.Is(err, ErrShardUnknown), "%v", err)
		return
	}
	if kind == evRegister || kind == evDestroy {
		g.promises[k] = uncertain
	}
	g.pending = append(g.pending, b)
}

func (g *gambler) request(b *bet) error {
	switch b.kind {
	case evRegister:
		return g.ask(b.ctx, b.key, b.out, RegisterOpts{LazyInitialization: g.rand.IntN(2) == 0})
	case evAcquire:
		return g.AcquireShard(b.ctx, key(b.key), b.out, AcquireOpts{})
	case evRecover:
		return g.RecoverShard(b.ctx, key(b.key), b.out, RecoverOpts{})
	default:
		return g.DestroyShard(b.ctx, key(b.key), b.out, DestroyOpts{})
	}
}

// collect takes the results that are there, of most callers.
func (g *gambler) collect() {
	var rest []*bet
	for _, b := range g.pending {
		if b.ctx.Err() != nil {
			require.Empty(g.t, b.taken(), "a result for a caller who gave up")
			continue
		}
		if g.rand.IntN(4) == 0 {
			rest = append(rest, b) // a slow reader
			continue
		}
		select {
		case res := <-b.out:
			g.settle(b, res)
		default:
			rest = append(rest, b)
		}
	}
	g.pending = rest
	synctest.Wait()
}

// taken returns a result on an unbuffered channel: one that has room may have
// got its result before its caller gave up.
func (b *bet) taken() []ShardResult {
	if cap(b.out) > 0 {
		return nil
	}
	select {
	case res := <-b.out:
		return []ShardResult{res}
	default:
		return nil
	}
}

func (g *gambler) settle(b *bet, res ShardResult) {
	require.Equal(g.t, key(b.key), res.Key)
	switch {
	case b.kind == evRegister && res.Error == nil:
		g.promises[b.key] = present
	case b.kind == evDestroy && res.Error == nil:
		g.promises[b.key] = absent
	case b.kind == evAcquire && res.Error == nil:
		got, err := io.ReadAll(res.Accessor.Reader())
		require.NoError(g.t, err)
		require.Equal(g.t, g.sources[b.key].data, got)
		g.open = append(g.open, res.Accessor)
	}
	b.cancel()
}

// check compares what the store shows with what it promised.
func (g *gambler) check() {
	infos := g.AllShardsInfo()
	for k, p := range g.promises {
		info, ok := infos[key(k)]
		require.True(g.t, p == uncertain || ok == (p == present), "%s: promise %d, found %v", k, p, ok)
		require.Equal(g.t, ok && (info.ShardState == ShardStateErrored || info.ShardState == ShardStateRecovering), info.Error != nil, "%s: %v", k, info)
		switch info.ShardState {
		case ShardStateServing:
			require.Positive(g.t, info.References())
		case ShardStateAvailable, ShardStateNew:
			require.Zero(g.t, info.References())
		}
		if ok && (info.ShardState == ShardStateAvailable || info.ShardState == ShardStateServing) {
			require.Contains(g.t, g.shardsWith(blocksOf(int(k[0] - 'a'))[1]), k, "available, and in no index")
			_, err := g.GetIterableIndex(key(k))
			require.NoError(g.t, err)
		}
	}
}

func (g *gambler) closeOne() {
	if len(g.open) > 0 {
		require.NoError(g.t, g.open[0].Close())
		require.NoError(g.t, g.open[0].Close(), "closing twice")
		g.open = g.open[1:]
	}
}

func (g *gambler) giveUpOne() {
	for _, b := range g.pending {
		if cap(b.out) == 0 && (b.kind == evAcquire || b.kind == evRecover) {
			b.cancel()
			return
		}
	}
}

func (g *gambler) breakOrMend(k string) {
	g.sources[k].set(func(s *source) {
		s.err, s.panics = nil, nil
		switch g.rand.IntN(4) {
		case 0:
			s.err = fmt.Errorf("%s is broken", k)
		case 1:
			s.panics = "mount of " + k
		}
	})
}

func (g *gambler) hold(k string) {
	g.sources[k].set(func(s *source) {
		if s.hold == nil {
			s.hold = make(chan struct{})
			return
		}
		close(s.hold)
		s.hold = nil
	})
}

func (g *gambler) collectGarbage() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	res, err := g.GC(ctx)
	require.NoError(g.t, err)
	require.Zero(g.t, res.ShardFailures())
}

// reopen closes the store with all that is under way, and opens it again. Those
// who wait and listen are answered.
func (g *gambler) reopen() {
	answered := make(chan struct{})
	waiting := g.pending
	g.pending = nil
	go func() {
		defer close(answered)
		for _, b := range waiting {
			select {
			case res := <-b.out:
				g.settle(b, res)
			case <-b.ctx.Done():
			case <-time.After(time.Minute):
				g.t.Errorf("%s of %s was never answered", b.kind, b.key)
			}
		}
	}()
	require.NoError(g.t, g.Close())
	<-answered
	g.renew()
	require.NoError(g.t, g.Start(context.Background()))
	synctest.Wait()
	g.check()
}
