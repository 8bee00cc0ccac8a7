package index

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"

	ds "github.com/ipfs/go-datastore"
	"github.com/ipfs/go-datastore/query"
	dssync "github.com/ipfs/go-datastore/sync"
	"github.com/multiformats/go-multihash"
	"github.com/stretchr/testify/require"

	"github.com/filecoin-project/dagstore/internal/fault"
	"github.com/filecoin-project/dagstore/shard"
)

type multihashes []multihash.Multihash

func (m multihashes) ForEach(f func(multihash.Multihash) error) error {
	for _, mh := range m {
		if err := f(mh); err != nil {
			return err
		}
	}
	return nil
}

func newStore() ds.Batching { return dssync.MutexWrap(ds.NewMapDatastore()) }

func contents(t testing.TB, store ds.Batching) map[string]string {
	results, err := store.Query(context.Background(), query.Query{})
	require.NoError(t, err)
	entries, err := results.Rest()
	require.NoError(t, err)
	out := make(map[string]string)
	for _, e := range entries {
		out[e.Key] = string(e.Value)
	}
	return out
}

// shardsFor returns the shards that hold mh, nil if none does.
func shardsFor(t testing.TB, x Inverted, mh multihash.Multihash) []string {
	keys, err := x.GetShardsForMultihash(context.Background(), mh)
	if !errors.Is(err, ds.ErrNotFound) {
		require.NoError(t, err)
	}
	var out []string
	for _, k := range keys {
		out = append(out, k.String())
	}
	return out
}

func TestKeysInTheDatastore(t *testing.T) {
	store := newStore()
	x := NewInverted(store)
	long, err := multihash.Encode([]byte(strings.Repeat("x", 200)), multihash.IDENTITY)
	require.NoError(t, err)
	require.NoError(t, x.AddMultihashesForShard(t.Context(), multihashes{mhOf(t, "a")}, shard.KeyFromString("a/b")))
	require.NoError(t, x.AddMultihashesForShard(t.Context(), multihashes{long}, shard.KeyFromString("\xff")))
	require.Equal(t, map[string]string{
		"/inverted/v2/next":      "0000074",
		"/inverted/v2/s/0000000": "a/b",
		"/inverted/v2/s/0000001": "\xff",
		"/inverted/v2/m/uEiDKl4ESyhu9yvrCMbOaI9xNp4bv-BR8TnK5gHeFr-5Iuw/0000000": "\x01",
		multihashKey(long).String() + "/0000001":                                 "\x01",
	}, contents(t, store))
	require.True(t, strings.HasPrefix(multihashKey(long).String(), "/inverted/v2/m/~"))
}

func TestShardsComeInTheOrderOfRegistration(t *testing.T) {
	x := NewInverted(newStore())
	var want []string
	for i := range 40 {
		s := fmt.Sprint(100 - i)
		want = append(want, s)
		require.NoError(t, x.AddMultihashesForShard(t.Context(), multihashes{mhOf(t, "a")}, shard.KeyFromString(s)))
	}
	require.Equal(t, want, shardsFor(t, x, mhOf(t, "a")))
}

func TestWritesAreBlindBatchedAndSyncedOnce(t *testing.T) {
	inj := fault.Never()
	x := NewInverted(fault.Datastore(newStore(), inj))
	require.NoError(t, x.AddMultihashesForShard(t.Context(), multihashes{mhOf(t, "a")}, shard.KeyFromString("first")))
	inj.Reset()
	mhs := make(multihashes, 2*maxBatch+1)
	for i := range mhs {
		mhs[i] = mhOf(t, fmt.Sprint(i))
	}
	require.NoError(t, x.AddMultihashesForShard(t.Context(), mhs, shard.KeyFromString("second")))
	require.Equal(t, 3, inj.Count(fault.Commit))
	require.Equal(t, 2, inj.Count(fault.Flush)) // the entries, then the name
	require.Zero(t, inj.Count(fault.Get, fault.Has, fault.Query))
	require.Equal(t, []string{"second"}, shardsFor(t, x, mhs[2*maxBatch]))
}

// Every write fails in turn, with all later ones as in a crash or alone. A shard
// is then in all answers or in none, also after a restart, and adding it again
// gives the whole of it.
func TestFailedAddShowsAShardWhollyOrNotAtAll(t *testing.T) {
	mhs := multihashes{mhOf(t, "a"), mhOf(t, "b"), mhOf(t, "c")}
	forEachFailure(t, func(t *testing.T, store ds.Batching, faulty ds.Batching, fired func() bool) {
		require.NoError(t, NewInverted(store).AddMultihashesForShard(t.Context(), mhs, shard.KeyFromString("other")))
		x := NewInverted(faulty)
		err := x.AddMultihashesForShard(t.Context(), mhs, key)
		require.Equal(t, fired(), err != nil)
		for _, now := range []*DatastoreInverted{x, NewInverted(store)} {
			first := shardsFor(t, now, mhs[0])
			require.Equal(t, "other", first[0])
			for _, mh := range mhs {
				require.Equal(t, first, shardsFor(t, now, mh))
			}
		}
		again := NewInverted(store)
		require.NoError(t, again.AddMultihashesForShard(t.Context(), mhs[:2], key))
		require.Equal(t, []string{"other", "k"}, shardsFor(t, again, mhs[0]))
	})
}

// Defect 9: what remains of a destroyed shard must be in no answer, whenever
// the destruction was interrupted.
func TestFailedRemovalCanBeRetried(t *testing.T) {
	mhs := multihashes{mhOf(t, "a"), mhOf(t, "b")}
	forEachFailure(t, func(t *testing.T, store, faulty ds.Batching, fired func() bool) {
		require.NoError(t, NewInverted(store).AddMultihashesForShard(t.Context(), mhs, key))
		x := NewInverted(faulty)
		err := x.RemoveShard(t.Context(), key, mhs)
		require.Equal(t, fired(), err != nil)
		now := NewInverted(store)
		require.Equal(t, shardsFor(t, now, mhs[0]), shardsFor(t, now, mhs[1]))
		require.NoError(t, now.RemoveShard(t.Context(), key, mhs))
		for _, mh := range mhs {
			require.Nil(t, shardsFor(t, NewInverted(store), mh))
		}
	})
}

// An add whose last step failed may have reached the datastore all the same.
func TestShardAddedTwiceAfterAFailureIsRemovedWholly(t *testing.T) {
	mhs := multihashes{mhOf(t, "a")}
	forEachFailure(t, func(t *testing.T, store, faulty ds.Batching, _ func() bool) {
		x := NewInverted(faulty)
		if x.AddMultihashesForShard(t.Context(), mhs, key) != nil {
			_ = x.AddMultihashesForShard(t.Context(), mhs, key)
		}
		again := NewInverted(store)
		require.NoError(t, again.AddMultihashesForShard(t.Context(), mhs, key))
		require.Equal(t, []string{"k"}, shardsFor(t, again, mhs[0]))
		if x.RemoveShard(t.Context(), key, mhs) != nil || again.RemoveShard(t.Context(), key, mhs) != nil {
			return
		}
		require.Nil(t, shardsFor(t, again, mhs[0]))
		require.NotContains(t, slices.Collect(maps.Values(contents(t, store))), "k")
	})
}

// forEachFailure runs test with each writing operation of a datastore failing
// in turn, until none fails.
func forEachFailure(t *testing.T, test func(t *testing.T, store, faulty ds.Batching, fired func() bool)) {
	for name, unbatched := range map[string]bool{"batching": false, "unbatched": true} {
		for n, fired := 0, true; fired; n++ {
			require.Less(t, n, 100)
			for kind, inj := range map[string]*fault.Injector{
				"one": fault.OnIndex(n), "rest": fault.From(n), "short": fault.From(n).Short(),
			} {
				t.Run(fmt.Sprint(name, "/", n, "/", kind), func(t *testing.T) {
					store := newStore()
					faulty := fault.Datastore(store, inj.Match(fault.Writing))
					if unbatched {
						faulty = fault.Unbatched(faulty)
					}
					test(t, store, faulty, func() bool { return inj.Fired() > 0 })
					fired = inj.Fired() > 0
				})
			}
		}
	}
}

func TestNumbersOfCrashedAddsAreNotUsedAgain(t *testing.T) {
	store := newStore()
	crash := fault.Always().Match(func(op fault.Op) bool {
		return strings.HasPrefix(op.Name, shardPrefix.String()) && op.Kind == fault.Put
	})
	x := NewInverted(fault.Datastore(store, crash))
	require.Error(t, x.AddMultihashesForShard(t.Context(), multihashes{mhOf(t, "victim")}, shard.KeyFromString("crashed")))
	require.Equal(t, 1, crash.Fired())

	x = NewInverted(store)
	require.NoError(t, x.AddMultihashesForShard(t.Context(), multihashes{mhOf(t, "a")}, key))
	require.Nil(t, shardsFor(t, x, mhOf(t, "victim")))

	require.NoError(t, store.Delete(t.Context(), nextKey)) // then the names tell
	x = NewInverted(store)
	require.NoError(t, x.AddMultihashesForShard(t.Context(), multihashes{mhOf(t, "b")}, shard.KeyFromString("l")))
	require.Equal(t, []string{"k"}, shardsFor(t, x, mhOf(t, "a")))
}

func TestReservesNumbersManyAtATime(t *testing.T) {
	inj := fault.Never()
	store := newStore()
	x := NewInverted(fault.Datastore(store, inj))
	for i := range reservation + 1 {
		require.NoError(t, x.AddMultihashesForShard(t.Context(), multihashes{}, shard.KeyFromString(fmt.Sprint(i))))
	}
	require.Equal(t, reservation+1+2, inj.Count(fault.Put))
	keys, err := NewInverted(store).Shards(t.Context())
	require.NoError(t, err)
	require.Len(t, keys, reservation+1)
}

func TestDamagedDatastore(t *testing.T) {
	store := newStore()
	x := NewInverted(store)
	require.NoError(t, x.AddMultihashesForShard(t.Context(), multihashes{mhOf(t, "a")}, key))
	for _, k := range []string{"x", "0000000x", "ZZZZZZZ", "0000000/1"} {
		require.NoError(t, store.Put(t.Context(), shardPrefix.ChildString(k), []byte("foreign")))
		require.NoError(t, store.Put(t.Context(), multihashKey(mhOf(t, "a")).ChildString(k), nil))
	}
	require.NoError(t, store.Put(t.Context(), multihashKey(mhOf(t, "a")).ChildString("a/0000000"), nil))
	require.Equal(t, []string{"k"}, shardsFor(t, NewInverted(store), mhOf(t, "a")))

	require.NoError(t, store.Put(t.Context(), nextKey, []byte("?")))
	x = NewInverted(store)
	_, err := x.Shards(t.Context())
	require.ErrorIs(t, err, ErrDamaged)
	require.ErrorIs(t, x.RemoveShard(t.Context(), key, nil), ErrDamaged)
	require.ErrorIs(t, x.AddMultihashesForShard(t.Context(), multihashes{}, key), ErrDamaged)

	require.NoError(t, store.Put(t.Context(), nextKey, []byte("zzzzzzz")))
	require.ErrorIs(t, NewInverted(store).AddMultihashesForShard(t.Context(), multihashes{}, shard.KeyFromString("l")), errExhausted)
}

func TestFailedReadIsAnErrorAndNotAMissingShard(t *testing.T) {
	store := newStore()
	require.NoError(t, NewInverted(store).AddMultihashesForShard(t.Context(), multihashes{mhOf(t, "a")}, key))
	for n, fired := 0, true; fired; n++ {
		inj := fault.OnIndex(n)
		x := NewInverted(fault.Datastore(store, inj))
		_, err := x.GetShardsForMultihash(t.Context(), mhOf(t, "a"))
		if fired = inj.Fired() > 0; fired {
			require.ErrorIs(t, err, fault.ErrInjected)
			require.NotErrorIs(t, err, ds.ErrNotFound)
			require.Equal(t, []string{"k"}, shardsFor(t, x, mhOf(t, "a")))
		}
	}
}

// iteratorFunc is a MultihashIterator.
type iteratorFunc func(f func(multihash.Multihash) error) error

func (i iteratorFunc) ForEach(f func(multihash.Multihash) error) error { return i(f) }

func TestContextEndsALongAddBetweenBatches(t *testing.T) {
	x := NewInverted(newStore())
	ctx, cancel := context.WithCancel(t.Context())
	n := 0
	endless := iteratorFunc(func(f func(multihash.Multihash) error) error {
		for ; n < 10*maxBatch; n++ {
			if n == 10 {
				cancel()
			}
			if f(mhOf(t, fmt.Sprint(n))) != nil {
				return nil // an iterator that loses errors
			}
		}
		return nil
	})
	require.ErrorIs(t, x.AddMultihashesForShard(ctx, endless, key), context.Canceled)
	require.LessOrEqual(t, n, maxBatch)
	require.Nil(t, shardsFor(t, x, mhOf(t, "0")))
}

func TestAddsOfAShardWaitForEachOtherUntilTheirContextEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := NewInverted(newStore())
		var running atomic.Int32
		resume := make(chan struct{})
		slow := iteratorFunc(func(f func(multihash.Multihash) error) error {
			running.Add(1)
			<-resume
			return f(mhOf(t, "a"))
		})
		done := make(chan error, 3)
		ctx, cancel := context.WithCancel(t.Context())
		go func() { done <- x.AddMultihashesForShard(t.Context(), slow, key) }()
		synctest.Wait()
		go func() { done <- x.AddMultihashesForShard(ctx, slow, key) }()
		go func() { done <- x.RemoveShard(ctx, key, nil) }()
		synctest.Wait()
		require.EqualValues(t, 1, running.Load())
		require.Nil(t, shardsFor(t, x, mhOf(t, "a")))                                              // does not wait
		require.NoError(t, x.AddMultihashesForShard(ctx, multihashes{}, shard.KeyFromString("l"))) // neither

		cancel()
		require.ErrorIs(t, <-done, context.Canceled)
		require.ErrorIs(t, <-done, context.Canceled)
		close(resume)
		require.NoError(t, <-done)
		require.Equal(t, []string{"k"}, shardsFor(t, x, mhOf(t, "a")))
	})
}
