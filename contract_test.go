package dagstore

import (
	"context"
	"encoding/json"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"

	"github.com/filecoin-project/dagstore/index"
	"github.com/filecoin-project/dagstore/internal/fault"
	"github.com/filecoin-project/dagstore/mount"
	"github.com/filecoin-project/dagstore/shard"
)

func TestConfigWithoutATransientsFolderIsRefused(t *testing.T) {
	_, err := NewDAGStore(Config{})
	require.ErrorContains(t, err, "TransientsDir")
	file := filepath.Join(t.TempDir(), "file")
	require.NoError(t, os.WriteFile(file, nil, 0o600))
	_, err = NewDAGStore(Config{TransientsDir: filepath.Join(file, "sub")})
	require.Error(t, err)
}

func TestStoreThatNeedsNothingButAFolder(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		d, err := NewDAGStore(Config{TransientsDir: filepath.Join(t.TempDir(), "new", "folder")})
		require.NoError(t, err)
		require.Error(t, d.Start(nil)) //nolint:staticcheck // the misuse under test
		require.NoError(t, d.Start(t.Context()))
		out := make(chan ShardResult, 1)
		car := newStoppedRig(t).sources["a"].data
		require.NoError(t, d.RegisterShard(t.Context(), key("a"), &mount.BytesMount{Bytes: car}, out, RegisterOpts{}))
		require.NoError(t, resultOn(out).Error)
		_, err = d.GC(nil) //nolint:staticcheck // the misuse under test
		require.Error(t, err)
		require.NoError(t, d.Close())
	})
}

func TestMissingIndexIsNotFoundInBothTongues(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		r := newRig(t)
		_, err := r.GetIterableIndex(key("x"))
		require.ErrorIs(t, err, index.ErrNotFound)
		require.ErrorIs(t, err, fs.ErrNotExist)
	})
}

func TestRegistrationBeforeStartOfAKeyThatIsRecordedIsRefused(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		r := newStoppedRig(t)
		r.plant("a", ShardStateNew, true, "")
		out := make(chan ShardResult, 1)
		require.NoError(t, r.ask(t.Context(), "a", out))
		require.NoError(t, r.Start(t.Context()))
		require.ErrorIs(t, resultOn(out).Error, ErrShardExists)
		r.use("a")
	})
}

func TestDatastoreThatCannotBeReadFailsTheStart(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		inj := fault.OnIndex(0).Match(fault.Is(fault.Query))
		r := newStoppedRig(t, func(c *Config) { c.Datastore = fault.Datastore(newDisk(), inj) })
		out := make(chan ShardResult, 1)
		require.NoError(t, r.ask(t.Context(), "a", out))
		require.ErrorIs(t, r.Start(t.Context()), fault.ErrInjected)
		require.Equal(t, 1, inj.Fired())
		require.NoError(t, r.Close())
		require.ErrorIs(t, resultOn(out).Error, ErrClosed)
		r.renew()
		require.NoError(t, r.Start(t.Context()), "the folder was given back")
		synctest.Wait()
		require.Empty(t, r.AllShardsInfo(), "what was not served was not written")
	})
}

func TestErrorOfAShardIsStillASentinelAfterARestart(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		r := newRig(t)
		r.sources["a"].data = []byte("this is not a car at all, but it is long enough to be looked at")
		require.Error(t, r.register("a"))
		before := r.errorOf("a")
		r.restart()
		after := r.errorOf("a")
		require.EqualError(t, after, before.Error())
		require.ErrorIs(t, after, ErrShardInitializationFailed)
		require.NotErrorIs(t, after, ErrShardUnknown)
	})
}

func TestRecordSurvivesJSON(t *testing.T) {
	record := PersistedShard{Key: "a", URL: "fake://a", State: ShardStateRecovering, Lazy: true, Error: "it broke"}
	b, err := json.Marshal(record)
	require.NoError(t, err)
	var sh Shard
	require.NoError(t, json.Unmarshal(b, &sh))
	again, err := json.Marshal(&sh)
	require.NoError(t, err)
	record.State = ShardStateErrored
	want, err := json.Marshal(record)
	require.NoError(t, err)
	require.JSONEq(t, string(want), string(again))
	require.Error(t, json.Unmarshal([]byte(`{"s":7}`), &sh), "unknown state")
	require.Error(t, json.Unmarshal([]byte(`[]`), &sh))
}

func TestServingShardKeepsItsReadersWhenItsIndexIsMadeAnew(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		r := newRig(t)
		require.NoError(t, r.register("a"))
		a := r.mustAcquire("a")
		dropped, err := r.config.IndexRepo.DropFullIndex(key("a"))
		require.NoError(t, err)
		require.True(t, dropped)
		r.drain()
		b := r.mustAcquire("a")
		require.Equal(t, ShardStateServing, r.state("a"))
		require.NoError(t, a.Close())
		require.NoError(t, b.Close())
		synctest.Wait()
		require.Equal(t, ShardStateAvailable, r.state("a"))
		require.Equal(t, 1, r.sources["a"].fetched())
	})
}

func TestParkedAcquirersGetTheErrorOfTheInitialization(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		r := newRig(t)
		r.sources["a"].hold = make(chan struct{})
		require.NoError(t, r.register("a", lazy))
		out := make(chan ShardResult, 3)
		for range 3 {
			require.NoError(t, r.AcquireShard(context.Background(), key("a"), out, AcquireOpts{}))
		}
		synctest.Wait()
		r.drain()
		r.sources["a"].set(func(s *source) { s.err = errBoom; close(s.hold) })
		for range 3 {
			require.ErrorIs(t, resultOn(out).Error, errBoom)
		}
		r.expect("Fail→Errored")
		require.Equal(t, 1, r.sources["a"].fetched())
	})
}

// Defect 2.
func TestRecoveryFetchesAnewEachTime(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		r := newRig(t)
		s := r.sources["a"]
		s.err = errBoom
		require.Error(t, r.register("a"))
		for n := range 3 {
			require.ErrorIs(t, r.recover("a"), errBoom)
			require.Equal(t, n+2, s.fetched())
		}
		s.set(func(s *source) { s.err = nil })
		require.NoError(t, r.recover("a"))
		r.use("a")
		require.Equal(t, 5, s.fetched())
	})
}

func TestGCResultCountsFailures(t *testing.T) {
	res := GCResult{Shards: map[shard.Key]error{key("a"): nil, key("b"): errBoom}}
	require.Equal(t, 1, res.ShardFailures())
}
