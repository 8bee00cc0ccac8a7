package dagstore

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/filecoin-project/dagstore/mount"
	"github.com/filecoin-project/dagstore/shard"
)

// Defect 20.
func TestMisuseIsRefusedAtOnce(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		r := newRig(t)
		ctx, out := context.Background(), make(chan ShardResult, 1)
		require.Error(t, r.RegisterShard(ctx, key("a"), nil, out, RegisterOpts{}))
		require.Error(t, r.RegisterShard(ctx, key("a"), (*fakeMount)(nil), out, RegisterOpts{}))
		require.Error(t, r.RegisterShard(ctx, key(""), r.mount("a"), out, RegisterOpts{}))
		require.Error(t, r.RegisterShard(nil, key("a"), r.mount("a"), out, lazy)) //nolint:staticcheck // the misuse under test
		require.Error(t, r.AcquireShard(nil, key("a"), out, AcquireOpts{}))       //nolint:staticcheck // the misuse under test
		require.NoError(t, r.register("a"))
		require.ErrorIs(t, r.register("a"), ErrShardExists)
		require.ErrorIs(t, r.recover("x"), ErrShardUnknown)
		require.Equal(t, ErrShardUnknown, r.destroy("x"))
		_, err := r.acquire("x")
		require.ErrorIs(t, err, ErrShardUnknown)
		info, err := r.GetShardInfo(key("x"))
		require.Equal(t, ErrShardUnknown, err)
		require.Equal(t, ShardInfo{}, info)
		require.Error(t, r.Start(ctx), "a second start")
		r.use("a")
		require.Empty(t, out)
		require.ErrorIs(t, r.recover("a"), ErrShardNotErrored)
	})
}

// Defects 22i, 22m.
func TestMountThatWouldBeLostAtRestartIsRefused(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		r := newRig(t)
		err := r.RegisterShard(context.Background(), key("a"), &mount.BytesMount{Bytes: []byte("x")}, nil, RegisterOpts{})
		require.ErrorIs(t, err, mount.ErrUnrecognizedType)
		require.ErrorContains(t, err, "register a template")
		r.restart(func(c *Config) { c.Datastore = nil })
		err = r.RegisterShard(context.Background(), key("a"), &mount.BytesMount{Bytes: r.sources["a"].data}, nil, RegisterOpts{})
		require.NoError(t, err, "without a datastore any mount will do")
		r.use("a")
	})
}

func TestNobodyNeedsToBeTold(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		r := newRig(t)
		ctx := context.Background()
		require.NoError(t, r.ask(ctx, "a", nil))
		require.NoError(t, r.AcquireShard(ctx, key("a"), nil, AcquireOpts{}))
		require.NoError(t, r.RecoverShard(ctx, key("a"), nil, RecoverOpts{}))
		synctest.Wait()
		require.Equal(t, ShardStateAvailable, r.state("a"))
		require.NoError(t, r.DestroyShard(ctx, key("a"), nil, DestroyOpts{}))
		synctest.Wait()
		require.Equal(t, ShardStateUnknown, r.state("a"))
		require.Zero(t, r.sources["a"].open())
	})
}

// Defects 6, 15.
func TestUnreadResultsDelayNobody(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		r := newRig(t)
		r.sources["a"].remote = false
		require.NoError(t, r.register("a"))
		require.NoError(t, r.register("b"))
		unread := make(chan ShardResult)
		for range 400 {
			require.NoError(t, r.AcquireShard(context.Background(), key("a"), unread, AcquireOpts{}))
		}
		r.use("b")
		collect(t, r)
		require.NoError(t, r.register("c"))
		began := time.Now()
		require.NoError(t, r.Close())
		require.LessOrEqual(t, time.Since(began), 2*time.Second)
		require.Zero(t, r.sources["a"].open(), "readers nobody got")
	})
}

func TestResultsOnOneChannelKeepTheirOrder(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		r := newRig(t)
		out := make(chan ShardResult)
		for i := range 50 {
			require.NoError(t, r.ask(context.Background(), fmt.Sprintf("a%02d", i), out, lazy))
			if i%7 == 0 {
				synctest.Wait()
			}
		}
		for i := range 50 {
			require.Equal(t, key(fmt.Sprintf("a%02d", i)), resultOn(out).Key)
		}
	})
}

// Defect 13.
func TestCancelledAcquirersHoldNothing(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		r := newRig(t)
		s := r.sources["a"]
		s.remote = false
		require.NoError(t, r.register("a"))
		done, cancel := context.WithCancel(context.Background())
		cancel()
		require.NoError(t, r.AcquireShard(done, key("a"), make(chan ShardResult), AcquireOpts{}), "done before")

		ctx, cancel := context.WithCancel(context.Background())
		unread := make(chan ShardResult)
		for range 20 {
			require.NoError(t, r.AcquireShard(ctx, key("a"), unread, AcquireOpts{}))
		}
		synctest.Wait()
		cancel() // while the results are not read
		synctest.Wait()
		require.Zero(t, s.open())
		require.Equal(t, ShardStateAvailable, r.state("a"))

		s.set(func(s *source) { s.hold = make(chan struct{}) })
		ctx, cancel = context.WithCancel(context.Background())
		require.NoError(t, r.AcquireShard(ctx, key("a"), unread, AcquireOpts{}))
		synctest.Wait()
		cancel() // while it fetches
		synctest.Wait()
		require.Equal(t, ShardStateAvailable, r.state("a"))
		close(s.hold)
		synctest.Wait()
		require.Zero(t, s.open())
		require.NoError(t, r.destroy("a"))
	})
}

func TestCancelledAcquirersOfAShardBeingInitializedAreForgotten(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		r := newRig(t)
		s := r.sources["a"]
		s.hold = make(chan struct{})
		require.NoError(t, r.register("a", lazy))
		ctx, cancel := context.WithCancel(context.Background())
		out := make(chan ShardResult, 2)
		require.NoError(t, r.AcquireShard(ctx, key("a"), out, AcquireOpts{}))
		synctest.Wait()
		cancel()
		synctest.Wait()
		require.Equal(t, ShardStateInitializing, r.state("a"), "the work goes on")
		close(s.hold)
		synctest.Wait()
		require.Equal(t, ShardStateAvailable, r.state("a"))
		require.Empty(t, out)
		r.use("a")
		require.Equal(t, 1, s.fetched())
	})
}

// Defects 2, 2b, 22j.
func TestOneCallersCancelFailsNobodyElse(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		r := newRig(t)
		s := r.sources["a"]
		ctx, cancel := context.WithCancel(context.Background())
		require.NoError(t, r.ask(ctx, "a", nil))
		cancel()
		synctest.Wait()
		require.Equal(t, ShardStateAvailable, r.state("a"), "the registration outlives its context")
		collect(t, r)
		s.set(func(s *source) { s.hold = make(chan struct{}) })
		ctx, cancel = context.WithCancel(context.Background())
		require.NoError(t, r.AcquireShard(ctx, key("a"), nil, AcquireOpts{}))
		synctest.Wait()
		out := make(chan ShardResult, 1)
		require.NoError(t, r.AcquireShard(context.Background(), key("a"), out, AcquireOpts{}))
		synctest.Wait()
		cancel()
		synctest.Wait()
		close(s.hold)
		res := resultOn(out)
		require.NoError(t, res.Error)
		require.NoError(t, res.Accessor.Close())
		synctest.Wait()
		require.Equal(t, ShardStateAvailable, r.state("a"))
	})
}

func TestHundredAcquiresFetchOnce(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		r := newRig(t)
		require.NoError(t, r.register("a", lazy))
		for _, want := range []int{1, 2} {
			out := make(chan ShardResult)
			for range 100 {
				require.NoError(t, r.AcquireShard(context.Background(), key("a"), out, AcquireOpts{}))
			}
			for range 100 {
				res := resultOn(out)
				require.NoError(t, res.Error)
				require.NoError(t, res.Accessor.Close())
			}
			require.Equal(t, want, r.sources["a"].fetched())
			synctest.Wait()
			collect(t, r)
		}
	})
}

func TestOneOfManyRegistrationsOfAKeyWins(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		r := newRig(t)
		out, refused := make(chan ShardResult, 20), make(chan error, 20)
		for range 20 {
			go func() { refused <- r.ask(context.Background(), "a", out) }()
		}
		won := 0
		for range 20 {
			if err := <-refused; err == nil {
				won++
			} else {
				require.ErrorIs(t, err, ErrShardExists)
			}
		}
		require.Equal(t, 1, won)
		require.NoError(t, resultOn(out).Error)
	})
}

// Defect 15.
func TestCloseAnswersEverybodyAndEndsAllWork(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		r := newRig(t)
		r.sources["a"].hold = make(chan struct{})
		outs := make([]chan ShardResult, 3)
		for i := range outs {
			outs[i] = make(chan ShardResult, 1)
		}
		ctx := context.Background()
		require.NoError(t, r.ask(ctx, "a", outs[0]))
		require.NoError(t, r.AcquireShard(ctx, key("a"), outs[1], AcquireOpts{}))
		synctest.Wait()
		require.NoError(t, r.DestroyShard(ctx, key("a"), outs[2], DestroyOpts{}))
		require.NoError(t, r.Close())
		require.NoError(t, r.Close())
		for _, out := range outs {
			res := resultOn(out)
			require.NotErrorIs(t, res.Error, errSilence)
		}
		require.ErrorIs(t, r.register("b"), ErrClosed)
		_, err := r.acquire("a")
		require.ErrorIs(t, err, ErrClosed)
		_, err = r.GC(ctx)
		require.ErrorIs(t, err, ErrClosed)
		require.Error(t, r.Start(ctx))
	})
}

func TestRequestsBeforeStartAreServedAfterIt(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		r := newStoppedRig(t)
		ctx := context.Background()
		registered, acquired, unknown := make(chan ShardResult, 1), make(chan ShardResult, 1), make(chan ShardResult, 1)
		require.NoError(t, r.ask(ctx, "a", registered))
		require.NoError(t, r.AcquireShard(ctx, key("a"), acquired, AcquireOpts{}))
		require.NoError(t, r.AcquireShard(ctx, key("x"), unknown, AcquireOpts{}))
		synctest.Wait()
		require.Empty(t, registered)
		require.NoError(t, r.Start(ctx))
		require.NoError(t, resultOn(registered).Error)
		res := resultOn(acquired)
		require.NoError(t, res.Error)
		require.NoError(t, res.Accessor.Close())
		require.ErrorIs(t, resultOn(unknown).Error, ErrShardUnknown)
	})
}

func TestStoreThatWasNeverStartedCloses(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		r := newStoppedRig(t)
		out := make(chan ShardResult, 1)
		require.NoError(t, r.ask(context.Background(), "a", out))
		require.NoError(t, r.Close())
		require.ErrorIs(t, resultOn(out).Error, ErrClosed)
		require.Error(t, r.Start(context.Background()))
	})
}

// Defect 2b: the context of Start is not that of the work.
func TestContextOfStartEndsNothing(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		r := newStoppedRig(t)
		ctx, cancel := context.WithCancel(context.Background())
		require.NoError(t, r.Start(ctx))
		cancel()
		require.NoError(t, r.register("a"))
		r.use("a")
	})
}

// Defect 22r.
func TestExistingTransient(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		r := newRig(t)
		mine := filepath.Join(t.TempDir(), "mine.car")
		require.ErrorIs(t, r.register("a", RegisterOpts{ExistingTransient: mine}), os.ErrNotExist)
		require.NoError(t, os.WriteFile(mine, r.sources["a"].data, 0o600))
		require.NoError(t, r.register("a", RegisterOpts{ExistingTransient: mine}))
		r.use("a")
		require.Zero(t, r.sources["a"].fetched())
		r.restart()
		r.use("a")
		require.Zero(t, r.sources["a"].fetched())
		collect(t, r)
		require.FileExists(t, mine)
		r.use("a")
		require.NoError(t, r.destroy("a"))
		require.FileExists(t, mine, "the user's file")
	})
}

func TestShardsContainingMultihashOfSeveralShards(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		r := newRig(t)
		require.NoError(t, r.register("a1"))
		require.NoError(t, r.register("a2"))
		require.NoError(t, r.register("b"))
		keys, err := r.ShardsContainingMultihash(context.Background(), blocksOf(0)[0].Cid.Hash())
		require.NoError(t, err)
		require.ElementsMatch(t, []shard.Key{key("a1"), key("a2")}, keys)
		require.Equal(t, "[]", r.shardsWith(blocksOf(4)[0]))
		idx, err := r.GetIterableIndex(key("b"))
		require.NoError(t, err)
		require.NotNil(t, idx)
		require.Equal(t, map[ShardState]int{ShardStateAvailable: 3}, r.Stats())
		require.Len(t, r.AllShardsInfo(), 3)
	})
}
