package indextest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"

	ds "github.com/ipfs/go-datastore"
	"github.com/multiformats/go-multihash"

	"github.com/filecoin-project/dagstore/index"
	"github.com/filecoin-project/dagstore/shard"
)

// Inverted tests an implementation of index.Inverted, and of index.ShardRemover
// and index.ShardLister if it is one.
func Inverted(t *testing.T, h Harness[index.Inverted]) {
	t.Run("nothing there", func(t *testing.T) {
		x := h.New(t)
		expectShards(t, x, sum(t, "missing"))
		check(t, add(t, x, "k", sum(t, "a")))
		expectShards(t, x, sum(t, "missing"))
		expectShards(t, x, nil)
	})
	t.Run("many shards of a multihash", func(t *testing.T) { testManyShards(t, h) })
	t.Run("hostile keys stay apart", func(t *testing.T) { testInvertedKeys(t, h) })
	t.Run("hostile multihashes stay apart", func(t *testing.T) { testInvertedMultihashes(t, h) })
	t.Run("what the iterator does wrong is an error", func(t *testing.T) { testIterators(t, h.New(t)) })
	t.Run("concurrent use", func(t *testing.T) { testConcurrentInverted(t, h.New(t)) })
	if _, ok := h.New(t).(index.ShardRemover); ok {
		t.Run("remove and add again", func(t *testing.T) { testRemove(t, h) })
	}
	if _, ok := h.New(t).(index.ShardLister); ok {
		t.Run("list", func(t *testing.T) { testList(t, h) })
	}
}

// multihashes is an index.MultihashIterator.
type multihashes []multihash.Multihash

func (m multihashes) ForEach(f func(multihash.Multihash) error) error {
	for _, mh := range m {
		if err := f(mh); err != nil {
			return err
		}
	}
	return nil
}

// iterator is an index.MultihashIterator.
type iterator func(f func(multihash.Multihash) error) error

func (i iterator) ForEach(f func(multihash.Multihash) error) error { return i(f) }

func add(t *testing.T, x index.Inverted, s string, mhs ...multihash.Multihash) error {
	return x.AddMultihashesForShard(t.Context(), multihashes(mhs), shard.KeyFromString(s))
}

func testManyShards(t *testing.T, h Harness[index.Inverted]) {
	x := h.New(t)
	mh := sum(t, "everywhere")
	var want []string
	for i := range 60 {
		s := fmt.Sprintf("shard %d", 100-i)
		check(t, add(t, x, s, mh, sum(t, s), mh))
		want = append(want, s)
	}
	check(t, add(t, x, want[3], mh, sum(t, want[3]))) // is held already
	x = h.reopened(t, x)
	expectShards(t, x, mh, want...)
	for _, s := range want {
		expectShards(t, x, sum(t, s), s)
	}
}

func testInvertedKeys(t *testing.T, h Harness[index.Inverted]) {
	x := h.New(t)
	var want []string
	mh := sum(t, "a")
	for _, key := range hostileKeys() {
		if err := x.AddMultihashesForShard(t.Context(), multihashes{mh}, key); err != nil {
			t.Fatalf("Add %s: %v", quoted(key), err)
		}
		want = append(want, key.String())
	}
	expectShards(t, h.reopened(t, x), mh, want...)
}

// Defect 12: an identity multihash that is made for it must not put its shard
// into the answer for another multihash.
func testInvertedMultihashes(t *testing.T, h Harness[index.Inverted]) {
	x, mhs := h.New(t), hostileMultihashes(t)
	for i, mh := range mhs {
		check(t, add(t, x, fmt.Sprint("shard ", i), mh))
	}
	x = h.reopened(t, x)
	for i, mh := range mhs {
		expectShards(t, x, mh, fmt.Sprint("shard ", i))
	}
}

func testIterators(t *testing.T, x index.Inverted) {
	mh, broken := sum(t, "a"), errors.New("broken")
	key := shard.KeyFromString("k")
	for name, it := range map[string]index.MultihashIterator{
		"error": iterator(func(f func(multihash.Multihash) error) error { return errors.Join(f(mh), broken) }),
		"panic": iterator(func(f func(multihash.Multihash) error) error {
			if err := f(mh); err != nil {
				return err
			}
			panic(broken)
		}),
		"nil": nil,
	} {
		err := x.AddMultihashesForShard(t.Context(), it, key)
		if err == nil || it != nil && !errors.Is(err, broken) {
			t.Errorf("%s: error %v", name, err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := x.AddMultihashesForShard(ctx, multihashes{mh}, key); !errors.Is(err, context.Canceled) {
		t.Errorf("Add after the context has ended: %v", err)
	}
	check(t, add(t, x, "k", mh))
	expectShards(t, x, mh, "k")
}

func testConcurrentInverted(t *testing.T, x index.Inverted) {
	common := sum(t, "common")
	var wg sync.WaitGroup
	for g := range 6 {
		own := sum(t, fmt.Sprint("own ", g/2))
		wg.Go(func() { // each shard is added by two at the same time
			for range 5 {
				if err := add(t, x, fmt.Sprint(g/2), common, own); err != nil {
					t.Error(err)
				}
				keys, err := x.GetShardsForMultihash(t.Context(), own)
				if err != nil || len(keys) != 1 {
					t.Errorf("shards %v, error %v", keys, err)
				}
			}
		})
	}
	wg.Wait()
	keys, err := x.GetShardsForMultihash(t.Context(), common)
	if err != nil || len(keys) != 3 {
		t.Errorf("shards %v, error %v, want 3 shards", keys, err)
	}
}

// Defect 9: a shard that was destroyed must be in no answer.
func testRemove(t *testing.T, h Harness[index.Inverted]) {
	x := h.New(t)
	a, b := sum(t, "a"), sum(t, "b")
	remove := func(s string, mhs index.MultihashIterator) {
		t.Helper()
		check(t, x.(index.ShardRemover).RemoveShard(t.Context(), shard.KeyFromString(s), mhs))
		expectShards(t, x, b, "other")
	}
	check(t, add(t, x, "other", a, b))
	remove("never added", nil)
	for _, mhs := range []index.MultihashIterator{nil, multihashes{a}, multihashes{a, sum(t, "never added")}} {
		check(t, add(t, x, "k", a))
		expectShards(t, x, a, "other", "k")
		remove("k", mhs)
		expectShards(t, x, a, "other")
		remove("k", mhs)
		x = h.reopened(t, x)
		expectShards(t, x, a, "other")
	}
	check(t, add(t, x, "k", sum(t, "c"))) // without a, this time
	x = h.reopened(t, x)
	expectShards(t, x, a, "other")
	expectShards(t, x, sum(t, "c"), "k")
}

func testList(t *testing.T, h Harness[index.Inverted]) {
	x := h.New(t)
	broken := iterator(func(func(multihash.Multihash) error) error { return errors.New("broken") })
	check(t, add(t, x, "z", sum(t, "a")))
	check(t, add(t, x, "empty"))
	check(t, add(t, x, "a", sum(t, "a")))
	if err := x.AddMultihashesForShard(t.Context(), broken, shard.KeyFromString("broken")); err == nil {
		t.Error("Add with a broken iterator succeeded")
	}
	keys, err := h.reopened(t, x).(index.ShardLister).Shards(t.Context())
	check(t, err)
	if got := texts(keys); !slices.Equal(got, []string{"z", "empty", "a"}) {
		t.Errorf("Shards: %q", got)
	}
}

func texts(keys []shard.Key) []string {
	out := make([]string, len(keys))
	for i, key := range keys {
		out[i] = key.String()
	}
	return out
}

// expectShards fails unless exactly these shards hold the multihash.
func expectShards(t *testing.T, x index.Inverted, mh multihash.Multihash, want ...string) {
	t.Helper()
	keys, err := x.GetShardsForMultihash(t.Context(), mh)
	if len(want) == 0 && !errors.Is(err, ds.ErrNotFound) || len(want) > 0 && err != nil {
		t.Errorf("Get %x: error %v", []byte(mh), err)
	}
	got := texts(keys)
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("Get %x: %.300q, want %.300q", []byte(mh), got, want)
	}
}
