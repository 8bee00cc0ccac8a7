package indextest

import (
	"errors"
	"io/fs"
	"slices"
	"testing"

	"github.com/multiformats/go-multihash"

	"github.com/filecoin-project/dagstore/index"
	"github.com/filecoin-project/dagstore/shard"
)

// ManifestRepo tests an implementation of index.ManifestRepo.
func ManifestRepo(t *testing.T, h Harness[index.ManifestRepo]) {
	t.Run("nothing there", func(t *testing.T) { testManifestMissing(t, h.New(t)) })
	t.Run("replace and drop", func(t *testing.T) { testManifestReplace(t, h.New(t)) })
	t.Run("hostile keys stay apart", func(t *testing.T) { testHostileManifests(t, h) })
	t.Run("a malformed multihash is refused", func(t *testing.T) {
		bad := index.Manifest{Multihashes: []multihash.Multihash{[]byte("no multihash")}}
		if err := h.New(t).AddManifest(bad); err == nil {
			t.Error("Add accepted it")
		}
	})
	t.Run("the caller owns what it gets", func(t *testing.T) { testManifestOwner(t, h.New(t)) })
}

func testManifestMissing(t *testing.T, r index.ManifestRepo) {
	key := index.ManifestKey{Shard: shard.KeyFromString("s"), Name: "n"}
	if _, err := r.GetManifest(key); !errors.Is(err, index.ErrNotFound) || !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Get: %v, want index.ErrNotFound and fs.ErrNotExist", err)
	}
	if dropped, err := r.DropManifest(key); dropped || err != nil {
		t.Errorf("Drop: %t, %v, want false", dropped, err)
	}
	if n, err := r.DropManifests(key.Shard); n != 0 || err != nil {
		t.Errorf("DropManifests: %d, %v, want 0", n, err)
	}
	expectManifests(t, r, key.Shard)
}

func testManifestReplace(t *testing.T, r index.ManifestRepo) {
	s := shard.KeyFromString("s")
	key := index.ManifestKey{Shard: s, Name: "n"}
	all := hostileMultihashes(t)
	for _, mhs := range [][]multihash.Multihash{all, nil, all[:3]} {
		check(t, r.AddManifest(index.Manifest{Key: key, Multihashes: mhs}))
		expectManifest(t, r, index.Manifest{Key: key, Multihashes: mhs})
	}
	expectManifests(t, r, s, "n")
	for i, want := range []bool{true, false} {
		if dropped, err := r.DropManifest(key); dropped != want || err != nil {
			t.Errorf("Drop %d: %t, %v, want %t", i, dropped, err, want)
		}
	}
	expectManifests(t, r, s)
}

func testHostileManifests(t *testing.T, h Harness[index.ManifestRepo]) {
	r, keys := h.New(t), hostileKeys()
	victim := sum(t, "victim")
	var names []string
	for _, key := range keys {
		names = append(names, key.String())
		m := index.Manifest{Key: index.ManifestKey{Shard: key, Name: "n"}, Multihashes: []multihash.Multihash{victim}}
		if err := r.AddManifest(m); err != nil {
			t.Errorf("Add %s: %v", quoted(key), err)
		}
		m.Key = index.ManifestKey{Shard: shard.KeyFromString("one"), Name: key.String()}
		if err := r.AddManifest(m); err != nil {
			t.Errorf("Add with name %s: %v", quoted(key), err)
		}
	}
	r = h.reopened(t, r)
	expectManifests(t, r, shard.KeyFromString("one"), names...)
	for _, key := range keys {
		expectManifests(t, r, key, "n")
		expectManifest(t, r, index.Manifest{Key: index.ManifestKey{Shard: key, Name: "n"}, Multihashes: []multihash.Multihash{victim}})
		if n, err := r.DropManifests(key); n != 1 || err != nil {
			t.Errorf("DropManifests %s: %d, %v, want 1", quoted(key), n, err)
		}
	}
	if n, err := r.DropManifests(shard.KeyFromString("one")); n != len(keys) || err != nil {
		t.Errorf("DropManifests: %d, %v, want %d", n, err, len(keys))
	}
}

func testManifestOwner(t *testing.T, r index.ManifestRepo) {
	key := index.ManifestKey{Shard: shard.KeyFromString("s"), Name: "n"}
	mine := index.Manifest{Key: key, Multihashes: []multihash.Multihash{sum(t, "a"), sum(t, "b")}}
	check(t, r.AddManifest(mine))
	mine.Multihashes[0][5]++
	got, err := r.GetManifest(key)
	check(t, err)
	if len(got.Multihashes) != 2 {
		t.Fatalf("%d multihashes, want 2", len(got.Multihashes))
	}
	got.Multihashes[1][5]++
	got.Multihashes[0] = nil
	expectManifest(t, r, index.Manifest{Key: key, Multihashes: []multihash.Multihash{sum(t, "a"), sum(t, "b")}})
}

func expectManifest(t *testing.T, r index.ManifestRepo, want index.Manifest) {
	t.Helper()
	got, err := r.GetManifest(want.Key)
	if err != nil {
		t.Errorf("Get %s: %v", quoted(want.Key.Shard), err)
		return
	}
	same := func(a, b multihash.Multihash) bool { return string(a) == string(b) }
	if got.Key != want.Key || !slices.EqualFunc(got.Multihashes, want.Multihashes, same) {
		t.Errorf("another manifest than that of %s came back", quoted(want.Key.Shard))
	}
}

// expectManifests fails unless the shard has manifests of exactly these names.
func expectManifests(t *testing.T, r index.ManifestRepo, s shard.Key, names ...string) {
	t.Helper()
	keys, err := r.ListManifests(s)
	check(t, err)
	got := make([]string, len(keys))
	for i, key := range keys {
		got[i] = key.Name
		if key.Shard != s {
			t.Errorf("List %s: a manifest of %s", quoted(s), quoted(key.Shard))
		}
	}
	if want := slices.Sorted(slices.Values(names)); !slices.Equal(got, want) {
		t.Errorf("List %s: %.200q, want %.200q", quoted(s), got, want)
	}
}
