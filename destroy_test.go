package dagstore

import (
	"context"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"

	"github.com/filecoin-project/dagstore/index"
	"github.com/filecoin-project/dagstore/internal/cartest"
)

// gone asserts that nothing is left of the shard.
func (r *rig) gone(k string) {
	r.t.Helper()
	synctest.Wait()
	require.Equal(r.t, ShardStateUnknown, r.state(k))
	_, err := r.GetIterableIndex(key(k))
	require.ErrorIs(r.t, err, index.ErrNotFound)
	require.Empty(r.t, r.transients())
	require.Equal(r.t, "[]", r.shardsWith(blocksOf(int(k[0] - 'a'))[0]))
}

// Defect 9.
func TestDestroyedShardLeavesNothingBehind(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		r := newRig(t)
		require.NoError(t, r.register("a"))
		require.Equal(t, "[a]", r.shardsWith(blocksOf(0)[0]))
		require.NotEmpty(t, r.transients())
		require.NoError(t, r.destroy("a"))
		r.gone("a")
		r.restart()
		r.gone("a")
		require.Empty(t, r.AllShardsInfo())
	})
}

// Defect 9b.
func TestKeyThatIsReusedServesTheNewData(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		r := newRig(t)
		require.NoError(t, r.register("a"))
		require.NoError(t, r.destroy("a"))
		r.sources["a"].set(func(s *source) { s.data = cartest.V1(nil, blocksOf(9)) })
		require.NoError(t, r.register("a"))
		a := r.mustAcquire("a")
		bs, err := a.Blockstore()
		require.NoError(t, err)
		_, err = bs.Get(t.Context(), blocksOf(9)[2].Cid)
		require.NoError(t, err)
		has, err := bs.Has(t.Context(), blocksOf(0)[0].Cid)
		require.NoError(t, err)
		require.False(t, has)
		require.NoError(t, a.Close())
		require.Equal(t, "[]", r.shardsWith(blocksOf(0)[0]))
		require.Equal(t, "[a]", r.shardsWith(blocksOf(9)[0]))
	})
}

// Defect 17c.
func TestShardInUseIsNotDestroyed(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		r := newRig(t)
		require.NoError(t, r.register("a"))
		a, b := r.mustAcquire("a"), r.mustAcquire("a")
		err := r.destroy("a")
		require.ErrorIs(t, err, ErrShardInUse)
		require.ErrorContains(t, err, "failed to destroy shard; active references: 2")
		require.Equal(t, ShardStateServing, r.state("a"))
		require.NoError(t, b.Close())
		r.use("a")
		require.NoError(t, a.Close())
		out := make(chan ShardResult, 1) // at once: a caller's operations keep their order
		require.NoError(t, r.DestroyShard(context.Background(), key("a"), out, DestroyOpts{}))
		require.NoError(t, resultOn(out).Error)
		r.gone("a")
	})
}

// Defect 8.
func TestShardDestroyedDuringInitializationStaysGone(t *testing.T) {
	for _, opts := range []RegisterOpts{{}, lazy} {
		inBubble(t, func(t *testing.T) {
			r := newRig(t)
			r.sources["a"].hold = make(chan struct{})
			registered, acquired := make(chan ShardResult, 2), make(chan ShardResult, 2)
			ctx := context.Background()
			require.NoError(t, r.ask(ctx, "a", registered, opts))
			require.NoError(t, r.AcquireShard(ctx, key("a"), acquired, AcquireOpts{}))
			synctest.Wait()
			require.Equal(t, ShardStateInitializing, r.state("a"))
			require.NoError(t, r.destroy("a"))
			if opts.LazyInitialization {
				require.NoError(t, resultOn(registered).Error)
			} else {
				require.Error(t, resultOn(registered).Error)
			}
			require.ErrorIs(t, resultOn(acquired).Error, ErrShardUnknown)
			r.gone("a")
			r.sources["a"].set(func(s *source) { s.hold = nil })
			r.restart()
			r.gone("a")
			require.NoError(t, r.register("a"))
			r.use("a")
		})
	}
}

func TestShardDestroyedDuringRecoveryStaysGone(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		r := newRig(t)
		s := r.sources["a"]
		s.err = errBoom
		require.Error(t, r.register("a"))
		s.set(func(s *source) { s.err, s.hold = nil, make(chan struct{}) })
		out := make(chan ShardResult, 1)
		require.NoError(t, r.RecoverShard(context.Background(), key("a"), out, RecoverOpts{}))
		synctest.Wait()
		r.drain()
		require.NoError(t, r.destroy("a"))
		require.Error(t, resultOn(out).Error)
		r.expect("Destroy")
		r.gone("a")
		r.restart()
		r.gone("a")
	})
}

// Defect 8.
func TestAcquireBehindDestroyFails(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		r := newRig(t)
		require.NoError(t, r.register("a"))
		destroyed, acquired := make(chan ShardResult, 1), make(chan ShardResult, 1)
		ctx := context.Background()
		require.NoError(t, r.DestroyShard(ctx, key("a"), destroyed, DestroyOpts{}))
		if err := r.AcquireShard(ctx, key("a"), acquired, AcquireOpts{}); err == nil {
			err = resultOn(acquired).Error
			require.ErrorIs(t, err, ErrShardUnknown)
		}
		require.NoError(t, resultOn(destroyed).Error)
		require.NoError(t, r.register("a"), "its key is free at once")
		r.use("a")
	})
}

func TestSecondDestroyIsToldThatTheShardIsUnknown(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		r := newRig(t)
		require.NoError(t, r.register("a"))
		out := make(chan ShardResult, 2)
		for range 2 {
			if err := r.DestroyShard(context.Background(), key("a"), out, DestroyOpts{}); err != nil {
				out <- ShardResult{Error: err}
			}
		}
		errs := []error{resultOn(out).Error, resultOn(out).Error}
		require.Contains(t, errs, nil)
		require.Contains(t, errs, ErrShardUnknown)
	})
}

// Defect 4.
func TestErroredShardStaysErroredWhenItsLastReaderCloses(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		r := newRig(t)
		require.NoError(t, r.register("a"))
		a := r.mustAcquire("a")
		r.breakShard("a")
		require.Equal(t, ShardStateErrored, r.state("a"))
		require.NotContains(t, collect(t, r).Shards, key("a"), "defect 17: a reader is open")
		require.ErrorIs(t, r.destroy("a"), ErrShardInUse)
		r.drain()
		require.NoError(t, a.Close())
		r.expect("Release→Errored")
		require.Error(t, func() error { _, err := r.acquire("a"); return err }())
		require.NoError(t, r.recover("a"))
		r.use("a")
	})
}

// Defect 4.
func TestShardWithReadersIsServingAfterItsRecovery(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		r := newRig(t)
		require.NoError(t, r.register("a"))
		a := r.mustAcquire("a")
		r.breakShard("a")
		require.NoError(t, r.recover("a"))
		require.Equal(t, ShardStateServing, r.state("a"))
		require.NoError(t, a.Close())
		synctest.Wait()
		require.Equal(t, ShardStateAvailable, r.state("a"))
	})
}

// breakShard makes a shard with open readers errored: its index and its data
// are gone for a moment.
func (r *rig) breakShard(k string) {
	r.t.Helper()
	s := r.sources[k[:1]]
	dropped, err := r.config.IndexRepo.DropFullIndex(key(k))
	require.NoError(r.t, err)
	require.True(r.t, dropped)
	r.config.IndexRepo.(*faultyRepo).fail(errBoom)
	_, err = r.acquire(k)
	require.ErrorIs(r.t, err, errBoom)
	r.config.IndexRepo.(*faultyRepo).fail(nil)
	s.set(func(s *source) { s.err = nil })
}

// Defect 5.
func TestClosingTwiceReleasesOnce(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		r := newRig(t)
		require.NoError(t, r.register("a"))
		a, b := r.mustAcquire("a"), r.mustAcquire("a")
		require.NoError(t, a.Close())
		require.NoError(t, a.Close())
		synctest.Wait()
		info, err := r.GetShardInfo(key("a"))
		require.NoError(t, err)
		require.Equal(t, 1, info.References())
		require.NotContains(t, collect(t, r).Shards, key("a"))
		require.ErrorIs(t, r.destroy("a"), ErrShardInUse)
		require.NoError(t, b.Close())
		require.NoError(t, r.destroy("a"))
	})
}
