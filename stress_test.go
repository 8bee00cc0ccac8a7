package dagstore

import (
	"context"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// Whatever is done at once: everybody is answered, nothing stays open, nothing
// is left.
func TestManyCallersAtOnce(t *testing.T) {
	for seed := range uint64(8) {
		inBubble(t, func(t *testing.T) {
			failures := make(chan ShardResult)
			r := newRig(t, func(c *Config) { c.FailureCh, c.MaxConcurrentReadyFetches = failures, 1+int(seed%3) })
			r.sources["a"].remote = false
			go RecoverImmediately(t.Context(), r.DAGStore, failures, 2, nil)
			var callers sync.WaitGroup
			for i := range uint64(8) {
				callers.Go(func() { r.callAtRandom(t, rand.New(rand.NewPCG(seed, i))) })
			}
			callers.Wait()
			r.setAll(func(s *source) { s.err = nil })
			synctest.Wait()
			for k, info := range r.AllShardsInfo() {
				require.Zero(t, info.References(), k)
				require.Contains(t, []ShardState{ShardStateNew, ShardStateAvailable, ShardStateErrored}, info.ShardState, k)
				require.NoError(t, r.destroy(k.String()))
			}
			for k, s := range r.sources {
				require.Zero(t, s.open(), k)
			}
			require.Empty(t, r.transients())
			n, err := r.config.IndexRepo.Len()
			require.NoError(t, err)
			require.Zero(t, n)
			require.NoError(t, r.Close())
		})
	}
}

func (r *rig) setAll(f func(*source)) {
	for _, s := range r.sources {
		s.set(f)
	}
}

// callAtRandom makes calls and takes their results, or gives them up.
func (r *rig) callAtRandom(t *testing.T, rnd *rand.Rand) {
	out := make(chan ShardResult)
	for range 60 {
		k := string("abc"[rnd.IntN(3)])
		ctx, cancel := context.WithCancel(context.Background())
		var err error
		switch rnd.IntN(8) {
		case 0, 1:
			err = r.ask(ctx, k, out, RegisterOpts{LazyInitialization: rnd.IntN(2) == 0})
		case 2, 3, 4:
			err = r.AcquireShard(ctx, key(k), out, AcquireOpts{})
		case 5:
			err = r.DestroyShard(ctx, key(k), out, DestroyOpts{})
		case 6:
			err = r.RecoverShard(ctx, key(k), out, RecoverOpts{})
		default:
			_, _ = r.GC(ctx)
			r.sources[k].set(func(s *source) {
				s.err = nil
				if rnd.IntN(3) == 0 {
					s.err = errBoom
				}
			})
			cancel()
			continue
		}
		if err == nil && rnd.IntN(3) > 0 {
			r.take(t, out)
		}
		cancel()
	}
}

// take takes a result, and closes its accessor, once or twice.
func (r *rig) take(t *testing.T, out chan ShardResult) {
	select {
	case res := <-out:
		if res.Accessor != nil {
			_, _ = res.Accessor.Blockstore()
			_ = res.Accessor.Close()
			_ = res.Accessor.Close()
		}
	case <-time.After(time.Hour):
		t.Error("not answered")
	}
}
