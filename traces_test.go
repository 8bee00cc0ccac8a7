package dagstore

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"
)

var lazy = RegisterOpts{LazyInitialization: true}

func TestTraces(t *testing.T) {
	for name, f := range map[string]func(t *testing.T, r *rig){
		"register": func(t *testing.T, r *rig) {
			require.NoError(t, r.register("a"))
			r.expect("Register→New", "Initialize→Initializing", "MakeAvailable→Available")
		},
		"register that fails": func(t *testing.T, r *rig) {
			r.sources["a"].err = errBoom
			err := r.register("a")
			require.ErrorIs(t, err, errBoom)
			require.ErrorIs(t, err, ErrShardInitializationFailed)
			r.expect("Register→New", "Initialize→Initializing", "Fail→Errored")
		},
		"register lazily": func(t *testing.T, r *rig) {
			require.NoError(t, r.register("a", lazy))
			r.expect("Register→New")
			require.Zero(t, r.sources["a"].fetched())
		},
		"acquire of a lazy new shard": func(t *testing.T, r *rig) {
			require.NoError(t, r.register("a", lazy))
			r.drain()
			a := r.mustAcquire("a")
			r.expect("Acquire→New", "Initialize→Initializing", "MakeAvailable→Serving")
			require.NoError(t, a.Close())
			r.expect("Release→Available")
		},
		"acquire and release": func(t *testing.T, r *rig) {
			require.NoError(t, r.register("a"))
			r.drain()
			a := r.mustAcquire("a")
			b := r.mustAcquire("a")
			require.NoError(t, a.Close())
			require.NoError(t, b.Close())
			r.expect("Acquire→Serving", "Acquire→Serving", "Release→Serving", "Release→Available")
		},
		"acquire that fails through the shard": func(t *testing.T, r *rig) {
			require.NoError(t, r.register("a"))
			collect(t, r)
			r.sources["a"].set(func(s *source) { s.err = errBoom })
			r.drain()
			_, err := r.acquire("a")
			require.ErrorIs(t, err, errBoom)
			r.expect("Acquire→Serving", "Release→Available", "Fail→Errored")
		},
		"acquire of an errored shard": func(t *testing.T, r *rig) {
			r.sources["a"].err = errBoom
			require.Error(t, r.register("a"))
			r.drain()
			_, err := r.acquire("a")
			require.ErrorIs(t, err, errBoom)
			r.expect("Acquire→Errored")
		},
		"recover": func(t *testing.T, r *rig) {
			s := r.sources["a"]
			s.err = errBoom
			require.Error(t, r.register("a"))
			r.drain()
			require.ErrorIs(t, r.recover("a"), errBoom)
			r.expect("Recover→Recovering", "Fail→Errored")
			s.set(func(s *source) { s.err = nil })
			require.NoError(t, r.recover("a"))
			r.expect("Recover→Recovering", "MakeAvailable→Available")
			r.use("a")
		},
		"destroy": func(t *testing.T, r *rig) {
			require.NoError(t, r.register("a"))
			r.drain()
			require.NoError(t, r.destroy("a"))
			r.expect("Destroy")
		},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T) { f(t, newRig(t)) })
		})
	}
}

func TestErrorIsKeptWhileRecovering(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		r := newRig(t)
		s := r.sources["a"]
		s.err = errBoom
		require.Error(t, r.register("a"))
		s.set(func(s *source) { s.err, s.hold = nil, make(chan struct{}) })
		out := make(chan ShardResult, 1)
		require.NoError(t, r.RecoverShard(context.Background(), key("a"), out, RecoverOpts{}))
		r.drain()
		info, err := r.GetShardInfo(key("a"))
		require.NoError(t, err)
		require.Equal(t, ShardStateRecovering, info.ShardState)
		require.ErrorIs(t, info.Error, errBoom)
		close(s.hold)
		require.NoError(t, resultOn(out).Error)
		info, err = r.GetShardInfo(key("a"))
		require.NoError(t, err)
		require.NoError(t, info.Error)
	})
}

func collect(t *testing.T, r *rig) *GCResult {
	t.Helper()
	res, err := r.GC(context.Background())
	require.NoError(t, err)
	require.Zero(t, res.ShardFailures())
	return res
}
