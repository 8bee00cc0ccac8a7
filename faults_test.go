package dagstore

import (
	"context"
	"fmt"
	"syscall"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"

	"github.com/filecoin-project/dagstore/internal/fault"
)

// workload makes requests of all kinds. Each is answered, whatever fails.
func (r *rig) workload() {
	r.t.Helper()
	answered := func(err error) { r.t.Helper(); require.NotErrorIs(r.t, err, errSilence) }
	answered(r.register("a"))
	answered(r.register("b", lazy))
	r.sources["c"].set(func(s *source) { s.err = errBoom })
	answered(r.register("c"))
	for _, k := range []string{"a", "b", "c"} {
		a, err := r.acquire(k)
		answered(err)
		if err == nil {
			require.NoError(r.t, a.Close())
		}
	}
	_, err := r.GC(context.Background())
	require.NoError(r.t, err)
	r.sources["c"].set(func(s *source) { s.err = nil })
	answered(r.recover("c"))
	answered(r.register("d"))
	answered(r.destroy("d"))
	answered(r.register("e"))
	answered(r.destroy("a"))
	synctest.Wait()
}

// view returns the states that a restart is to find.
func (r *rig) view() map[string]string {
	synctest.Wait()
	view := map[string]string{}
	for k, info := range r.AllShardsInfo() {
		view[k.String()] = info.durable().String()
	}
	return view
}

func TestNoWriteThatFailsMakesTheStoreLieOrHang(t *testing.T) {
	for _, unbatched := range []bool{false, true} {
		for _, kinds := range [][]fault.Kind{{fault.Put, fault.Delete, fault.Commit}, {fault.Flush}, {fault.Batch}} {
			for n := 0; ; n++ {
				fired := false
				t.Run(fmt.Sprint(unbatched, kinds, n), func(t *testing.T) {
					inBubble(t, func(t *testing.T) { fired = oneWriteFails(t, unbatched, fault.OnIndex(n).Match(fault.Is(kinds...))) })
				})
				if !fired || t.Failed() {
					break
				}
			}
		}
	}
}

func oneWriteFails(t *testing.T, unbatched bool, inj *fault.Injector) bool {
	disk := newDisk()
	r := newRig(t, func(c *Config) {
		c.Datastore = fault.Datastore(disk, inj)
		if unbatched {
			c.Datastore = fault.Unbatched(fault.Datastore(disk, inj))
		}
	})
	r.workload()
	view := r.view()
	fired := inj.Fired() > 0
	r.restart(func(c *Config) { c.Datastore = disk })
	require.Empty(t, r.UnreadableRecords())
	require.Equal(t, view, r.view())
	for k, state := range view {
		if state == ShardStateErrored.String() {
			require.NoError(t, r.recover(k))
		}
		r.use(k)
		require.NoError(t, r.destroy(k))
	}
	require.Empty(t, r.transients())
	return fired
}

// A crash is all writes failing from one on.
func TestCrashAfterAnyWriteKeepsWhatWasAnswered(t *testing.T) {
	for n := 0; ; n++ {
		fired := false
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				fired = crashes(t, fault.From(n).Match(fault.Is(fault.Put, fault.Delete, fault.Commit)))
			})
		})
		if !fired || t.Failed() {
			break
		}
	}
}

func crashes(t *testing.T, inj *fault.Injector) bool {
	disk := newDisk()
	r := newRig(t, func(c *Config) { c.Datastore = fault.Datastore(disk, inj) })
	promised := map[string]bool{} // that the shard is there, or is not
	note := func(k string, there bool, err error) {
		require.NotErrorIs(t, err, errSilence)
		if err == nil {
			promised[k] = there
		} else {
			delete(promised, k)
		}
	}
	note("a", true, r.register("a"))
	note("b", true, r.register("b", lazy))
	note("c", true, r.register("c"))
	r.tryUse("b")
	note("a", false, r.destroy("a"))
	note("a", true, r.register("a"))
	note("c", false, r.destroy("c"))
	fired := inj.Fired() > 0
	r.restart(func(c *Config) { c.Datastore = disk })
	require.Empty(t, r.UnreadableRecords())
	for k, there := range promised {
		require.Equal(t, there, r.state(k) != ShardStateUnknown, k)
		if there {
			r.use(k)
		}
	}
	return fired
}

// tryUse acquires and closes, if the shard lets itself be acquired.
func (r *rig) tryUse(k string) {
	if a, err := r.acquire(k); err == nil {
		require.NoError(r.t, a.Close())
	}
}

// Defect 22e.
func TestShardIsNotAvailableBeforeItsBlocksAreFound(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		inverted := &plainInverted{err: errBoom}
		r := newRig(t, func(c *Config) { inverted.Inverted, c.TopLevelIndex = c.TopLevelIndex, inverted })
		require.ErrorIs(t, r.register("a"), errBoom)
		require.Equal(t, ShardStateErrored, r.state("a"))
		_, err := r.ShardsContainingMultihash(t.Context(), blocksOf(0)[0].Cid.Hash())
		require.ErrorIs(t, err, errBoom, "the error of a service's index keeps its identity")
		inverted.fail(nil)
		require.NoError(t, r.recover("a"))
		require.Equal(t, "[a]", r.shardsWith(blocksOf(0)[0]))
		require.NoError(t, r.destroy("a"))
		require.Equal(t, "[]", r.shardsWith(blocksOf(0)[0]), "filtered, although the index cannot remove")
	})
}

// Defect 26.
func TestPassingErrorDoesNotFailTheShard(t *testing.T) {
	for name, err := range map[string]error{"EMFILE": syscall.EMFILE, "ENFILE": syscall.ENFILE, "ENOMEM": syscall.ENOMEM} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				r := newRig(t)
				require.NoError(t, r.register("a"))
				r.config.IndexRepo.(*faultyRepo).fail(fmt.Errorf("open: %w", err))
				_, got := r.acquire("a")
				require.ErrorIs(t, got, err)
				require.Equal(t, ShardStateAvailable, r.state("a"))
				r.config.IndexRepo.(*faultyRepo).fail(nil)
				r.use("a")
				require.Equal(t, 1, r.sources["a"].fetched())
			})
		})
	}
}

func TestDestructionThatFailsCanBeRepeated(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		r := newRig(t)
		require.NoError(t, r.register("a"))
		repo := r.config.IndexRepo.(*faultyRepo)
		repo.fail(errBoom)
		require.ErrorIs(t, r.destroy("a"), errBoom)
		require.Equal(t, ShardStateErrored, r.state("a"))
		repo.fail(nil)
		require.NoError(t, r.destroy("a"))
		r.gone("a")
	})
}

func TestResumedDestructionThatFailsLeavesAShardThatCanBeHandled(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		r := newStoppedRig(t)
		r.plant("a", ShardStateUnknown, false, "")
		repo := r.config.IndexRepo.(*faultyRepo)
		repo.fail(errBoom)
		require.NoError(t, r.Start(t.Context()))
		synctest.Wait()
		require.Equal(t, ShardStateErrored, r.state("a"))
		collect(t, r)
		repo.fail(nil)
		require.NoError(t, r.recover("a"))
		r.use("a")
		require.NoError(t, r.destroy("a"))
		r.gone("a")
	})
}
