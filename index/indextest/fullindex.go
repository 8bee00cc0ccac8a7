package indextest

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"sync"
	"testing"

	"github.com/filecoin-project/dagstore/index"
	"github.com/filecoin-project/dagstore/shard"
)

// FullIndexRepo tests an implementation of index.FullIndexRepo.
func FullIndexRepo(t *testing.T, h Harness[index.FullIndexRepo]) {
	t.Run("nothing there", func(t *testing.T) { testIndexMissing(t, h.New(t)) })
	t.Run("replace and drop", func(t *testing.T) { testReplaceDrop(t, h.New(t)) })
	t.Run("hostile keys stay apart", func(t *testing.T) { testHostileKeys(t, h) })
	t.Run("ForEach stops", func(t *testing.T) { testForEachStops(t, h.New(t)) })
	t.Run("a nil index is refused", func(t *testing.T) { testNilIndex(t, h.New(t)) })
	t.Run("concurrent use", func(t *testing.T) { testConcurrentRepo(t, h.New(t)) })
}

func testIndexMissing(t *testing.T, r index.FullIndexRepo) {
	key := shard.KeyFromString("missing")
	if _, err := r.GetFullIndex(key); !errors.Is(err, index.ErrNotFound) || !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Get: %v, want index.ErrNotFound and fs.ErrNotExist", err)
	}
	if st, err := r.StatFullIndex(key); st != (index.Stat{}) || err != nil {
		t.Errorf("Stat: %v, %v, want the zero Stat", st, err)
	}
	if dropped, err := r.DropFullIndex(key); dropped || err != nil {
		t.Errorf("Drop: %t, %v, want false", dropped, err)
	}
	expectKeys(t, r)
}

func testReplaceDrop(t *testing.T, r index.FullIndexRepo) {
	key, other := shard.KeyFromString("k"), shard.KeyFromString("other")
	check(t, r.AddFullIndex(other, makeIndex(t, "other", 3)))
	for _, n := range []int{5, 50, 0, 1} {
		want := makeIndex(t, "k", n)
		check(t, r.AddFullIndex(key, want))
		got, err := r.GetFullIndex(key)
		check(t, err)
		if !bytes.Equal(serialised(t, got), serialised(t, want)) {
			t.Errorf("another index of %d records came back", n)
		}
		st, err := r.StatFullIndex(key)
		check(t, err)
		if size := uint64(len(serialised(t, want))); !st.Exists || st.Size < size {
			t.Errorf("Stat: %v, want %d bytes or more", st, size)
		}
		expectKeys(t, r, key, other)
	}
	for i, want := range []bool{true, false} {
		if dropped, err := r.DropFullIndex(key); dropped != want || err != nil {
			t.Errorf("Drop %d: %t, %v, want %t", i, dropped, err, want)
		}
	}
	expectKeys(t, r, other)
	check(t, r.AddFullIndex(key, makeIndex(t, "k", 2)))
	expectKeys(t, r, key, other)
}

func testHostileKeys(t *testing.T, h Harness[index.FullIndexRepo]) {
	r, keys := h.New(t), hostileKeys()
	for i, key := range keys {
		if err := r.AddFullIndex(key, makeIndex(t, key.String(), i)); err != nil {
			t.Errorf("Add %s: %v", quoted(key), err)
		}
	}
	r = h.reopened(t, r)
	expectKeys(t, r, keys...)
	for i, key := range keys {
		got, err := r.GetFullIndex(key)
		if err != nil {
			t.Errorf("Get %s: %v", quoted(key), err)
			continue
		}
		if !bytes.Equal(serialised(t, got), serialised(t, makeIndex(t, key.String(), i))) {
			t.Errorf("Get %s: the index of another key", quoted(key))
		}
	}
	for i, key := range keys {
		if dropped, err := r.DropFullIndex(key); !dropped || err != nil {
			t.Errorf("Drop %s: %t, %v", quoted(key), dropped, err)
		}
		if n, err := r.Len(); n != len(keys)-i-1 || err != nil {
			t.Fatalf("Drop %s left %d indices, want %d (%v)", quoted(key), n, len(keys)-i-1, err)
		}
	}
}

func testForEachStops(t *testing.T, r index.FullIndexRepo) {
	for i := range 3 {
		check(t, r.AddFullIndex(shard.KeyFromString(fmt.Sprint(i)), makeIndex(t, "x", i)))
	}
	stop := errors.New("stop")
	for _, want := range []error{nil, stop} {
		calls := 0
		err := r.ForEach(func(shard.Key) (bool, error) {
			calls++
			return want != nil, want
		})
		if calls != 1 || !errors.Is(err, want) {
			t.Errorf("%d calls and error %v after the visitor returned %v", calls, err, want)
		}
	}
	check(t, r.ForEach(func(key shard.Key) (bool, error) { // the visitor uses the repo
		_, err := r.DropFullIndex(key)
		return true, err
	}))
	expectKeys(t, r)
}

func testNilIndex(t *testing.T, r index.FullIndexRepo) {
	key := shard.KeyFromString("k")
	check(t, r.AddFullIndex(key, makeIndex(t, "k", 3)))
	if err := r.AddFullIndex(key, nil); err == nil {
		t.Error("Add accepted a nil index")
	}
	got, err := r.GetFullIndex(key)
	check(t, err)
	if !bytes.Equal(serialised(t, got), serialised(t, makeIndex(t, "k", 3))) {
		t.Error("the refused index has taken the place of the old one")
	}
}

func testConcurrentRepo(t *testing.T, r index.FullIndexRepo) {
	key := shard.KeyFromString("shared")
	var wg sync.WaitGroup
	for g := range 4 {
		own := shard.KeyFromString(fmt.Sprint("own/", g))
		small, large := makeIndex(t, "small", 1), makeIndex(t, "large", 200)
		wg.Go(func() {
			for range 10 {
				errs := []error{r.AddFullIndex(key, small), r.AddFullIndex(own, large), r.AddFullIndex(key, large)}
				idx, err := r.GetFullIndex(key)
				if err == nil {
					if n := len(serialised(t, idx)); n != len(serialised(t, small)) && n != len(serialised(t, large)) {
						t.Errorf("an index of %d bytes, which nobody has added", n)
					}
				}
				_, errLen := r.Len()
				_, errSize := r.Size()
				_, errDrop := r.DropFullIndex(own)
				if err := errors.Join(append(errs, err, errLen, errSize, errDrop)...); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	expectKeys(t, r, key)
}

// expectKeys fails unless the repo has indices of exactly these keys.
func expectKeys(t *testing.T, r index.FullIndexRepo, want ...shard.Key) {
	t.Helper()
	missing := make(map[shard.Key]bool)
	for _, key := range want {
		missing[key] = true
	}
	var size uint64
	check(t, r.ForEach(func(key shard.Key) (bool, error) {
		if !missing[key] {
			t.Errorf("ForEach: unknown or repeated key %s", quoted(key))
		}
		delete(missing, key)
		st, err := r.StatFullIndex(key)
		size += st.Size
		return true, err
	}))
	for key := range missing {
		t.Errorf("ForEach: no key %s", quoted(key))
	}
	if n, err := r.Len(); n != len(want) || err != nil {
		t.Errorf("Len: %d, %v, want %d", n, err, len(want))
	}
	if s, err := r.Size(); s != size || err != nil {
		t.Errorf("Size: %d, %v, want the sum %d", s, err, size)
	}
}
