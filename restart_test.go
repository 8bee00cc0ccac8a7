package dagstore

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"

	"github.com/filecoin-project/dagstore/index"
	"github.com/filecoin-project/dagstore/mount"
)

// plant writes a record as an earlier process left it.
func (r *rig) plant(k string, state ShardState, isLazy bool, reason string) {
	r.t.Helper()
	u, err := r.config.MountRegistry.Represent(r.mount(k))
	require.NoError(r.t, err)
	v, err := json.Marshal(PersistedShard{Key: k, URL: u.String(), State: state, Lazy: isLazy, Error: reason})
	require.NoError(r.t, err)
	require.NoError(r.t, r.config.Datastore.Put(context.Background(), StoreNamespace.ChildString(k), v))
}

// Defects 7, 22k.
func TestStartResumesWhatWasUnderWay(t *testing.T) {
	for _, c := range []struct {
		state  ShardState
		lazy   bool
		policy RecoverOnStartPolicy
		after  ShardState
		traces []string
	}{
		{ShardStateNew, false, DoNotRecover, ShardStateAvailable, []string{"Register→New", "Initialize→Initializing", "MakeAvailable→Available"}},
		{ShardStateInitializing, false, DoNotRecover, ShardStateAvailable, []string{"Register→New", "Initialize→Initializing", "MakeAvailable→Available"}},
		{ShardStateNew, true, DoNotRecover, ShardStateNew, nil},
		{ShardStateInitializing, true, DoNotRecover, ShardStateNew, nil},
		{ShardStateErrored, false, DoNotRecover, ShardStateErrored, nil},
		{ShardStateRecovering, false, DoNotRecover, ShardStateErrored, nil},
		{ShardStateErrored, false, RecoverOnAcquire, ShardStateErrored, nil},
		{ShardStateRecovering, true, RecoverNow, ShardStateAvailable, []string{"Recover→Recovering", "MakeAvailable→Available"}},
		{ShardStateErrored, false, RecoverNow, ShardStateAvailable, []string{"Recover→Recovering", "MakeAvailable→Available"}},
		{ShardStateUnknown, false, DoNotRecover, ShardStateUnknown, []string{"Destroy"}},
	} {
		t.Run(fmt.Sprint(c.state, c.lazy, c.policy), func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				r := newStoppedRig(t, func(cfg *Config) { cfg.RecoverOnStart = c.policy })
				r.plant("a", c.state, c.lazy, "it broke")
				require.NoError(t, r.Start(t.Context()))
				require.Equal(t, c.traces, r.drain())
				require.Equal(t, c.after, r.state("a"))
				if c.after == ShardStateErrored {
					info, err := r.GetShardInfo(key("a"))
					require.NoError(t, err)
					require.EqualError(t, info.Error, "it broke")
					if c.policy == DoNotRecover {
						require.NoError(t, r.recover("a"))
					}
				}
				if c.after == ShardStateUnknown {
					require.NoError(t, r.register("a"))
				}
				r.use("a")
				r.restart()
				require.Equal(t, ShardStateAvailable, r.state("a"))
				require.NotContains(t, r.drain(), "Register→New")
				r.use("a")
				require.Equal(t, "[a]", r.shardsWith(blocksOf(0)[1]))
			})
		})
	}
}

func TestAvailableAndServingShardsAreIndexedAnewIfTheirIndexIsGone(t *testing.T) {
	for _, state := range []ShardState{ShardStateAvailable, ShardStateServing} {
		inBubble(t, func(t *testing.T) {
			r := newStoppedRig(t)
			r.plant("a", state, false, "")
			require.NoError(t, r.Start(t.Context()))
			r.use("a")
			require.Equal(t, "[a]", r.shardsWith(blocksOf(0)[1]))
		})
	}
}

func TestRecoverOnAcquireRecoversOnce(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		r := newStoppedRig(t, func(c *Config) { c.RecoverOnStart = RecoverOnAcquire })
		r.plant("a", ShardStateErrored, false, "it broke")
		r.plant("b", ShardStateErrored, false, "it broke")
		r.sources["b"].err = errBoom
		require.NoError(t, r.Start(t.Context()))
		r.use("a")
		r.drain()
		_, err := r.acquire("b")
		require.ErrorIs(t, err, errBoom)
		require.Equal(t, 1, r.sources["b"].fetched())
		_, err = r.acquire("b")
		require.ErrorIs(t, err, errBoom)
		require.Equal(t, 1, r.sources["b"].fetched())
	})
}

func TestWholeTransientIsUsedAfterARestartAndAPartialOneIsNot(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		r := newRig(t)
		require.NoError(t, r.register("a"))
		require.NoError(t, r.register("b"))
		require.NoError(t, r.Close())
		path := filepath.Join(r.config.TransientsDir, "transient-b.complete")
		require.NoError(t, os.Truncate(path, 77))
		r.restart()
		r.use("a")
		r.use("b")
		require.Equal(t, 1, r.sources["a"].fetched())
		require.Equal(t, 2, r.sources["b"].fetched())
	})
}

// Defects 1, 11, 18: the record, and the files.
func TestUnreadableRecordIsKeptAndItsFilesAreSpared(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		r := newStoppedRig(t)
		ctx := context.Background()
		at := StoreNamespace.ChildString("bad")
		require.NoError(t, r.config.Datastore.Put(ctx, at, []byte(`{"k":"bad","u":"gone://x","s":2}`)))
		require.NoError(t, r.config.Datastore.Put(ctx, StoreNamespace.ChildString("worse"), []byte(`{"k`)))
		r.plant("a", ShardStateNew, false, "")
		dir := r.config.TransientsDir
		for _, name := range []string{"transient-bad.complete", "transient-orphan.complete", "leftover"} {
			require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte("x"), 0o600))
		}
		require.NoError(t, os.Mkdir(filepath.Join(dir, "folder"), 0o700))
		require.NoError(t, os.WriteFile(filepath.Join(dir, "folder", "wallet.key"), []byte("x"), 0o600))
		require.NoError(t, os.Symlink(filepath.Join(dir, "folder"), filepath.Join(dir, "link")))
		require.NoError(t, r.Start(ctx))
		synctest.Wait()
		unreadable := r.UnreadableRecords()
		require.Len(t, unreadable, 2)
		require.True(t, errors.Is(unreadable[0].Err, mount.ErrUnrecognizedScheme) || errors.Is(unreadable[1].Err, mount.ErrUnrecognizedScheme))
		require.ElementsMatch(t, []string{"folder", "link", "transient-a.complete", "transient-bad.complete"}, r.transients())
		require.FileExists(t, filepath.Join(dir, "folder", "wallet.key"))
		has, err := r.config.Datastore.Has(ctx, at)
		require.NoError(t, err)
		require.True(t, has)
		r.use("a")
	})
}

// Defect 18.
func TestSecondStoreInOneFolderIsRefused(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		r := newRig(t)
		require.NoError(t, r.register("a"))
		second, err := NewDAGStore(r.config)
		require.NoError(t, err)
		require.ErrorContains(t, second.Start(t.Context()), r.config.TransientsDir)
		require.NoError(t, second.Close())
		require.NotEmpty(t, r.transients())
		r.use("a")
		r.restart()
		r.use("a")
	})
}

// Defect 22f: the crash came between the two indices.
func TestShardThatTheTopLevelIndexLacksIsAddedAtStart(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		r := newRig(t)
		require.NoError(t, r.register("a"))
		r.restart(func(c *Config) { c.TopLevelIndex = nil })
		require.Equal(t, "[a]", r.shardsWith(blocksOf(0)[2]))
		require.Equal(t, 1, r.sources["a"].fetched())
		require.Equal(t, ShardStateAvailable, r.state("a"))
		r.restart(func(c *Config) { c.IndexRepo, c.TopLevelIndex = index.NewMemoryRepo(), nil })
		require.Equal(t, "[a]", r.shardsWith(blocksOf(0)[2]))
		require.Equal(t, ShardStateAvailable, r.state("a"))
	})
}

func TestAdoptedIndexOfOtherDataIsReplacedByTheFirstAccessor(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		r := newRig(t)
		require.NoError(t, r.register("a"))
		idx, err := r.GetIterableIndex(key("a"))
		require.NoError(t, err)
		require.NoError(t, r.config.IndexRepo.AddFullIndex(key("a2"), idx))
		require.NoError(t, r.config.IndexRepo.AddFullIndex(key("b"), idx))
		r.drain()
		require.NoError(t, r.register("a2"))
		require.NoError(t, r.register("b"))
		require.Equal(t, 1, r.sources["a"].fetched(), "adopted without a fetch")
		require.Zero(t, r.sources["b"].fetched(), "adopted without a fetch")
		a := r.mustAcquire("b")
		bs, err := a.Blockstore()
		require.NoError(t, err)
		for _, b := range blocksOf(1) {
			got, err := bs.Get(t.Context(), b.Cid)
			require.NoError(t, err)
			require.Equal(t, b.Data, got.RawData())
		}
		require.NoError(t, a.Close())
		require.Equal(t, "[b]", r.shardsWith(blocksOf(1)[0]))
		r.use("a2")
		require.Equal(t, "[a a2]", r.shardsWith(blocksOf(0)[0]))
	})
}
