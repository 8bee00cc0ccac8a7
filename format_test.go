package dagstore_test

import (
	"bytes"
	"context"
	"encoding/json"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"

	ds "github.com/ipfs/go-datastore"
	"github.com/ipfs/go-datastore/query"
	dssync "github.com/ipfs/go-datastore/sync"
	carindex "github.com/ipld/go-car/v2/index"
	"github.com/multiformats/go-multicodec"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/filecoin-project/dagstore"
	"github.com/filecoin-project/dagstore/index"
	"github.com/filecoin-project/dagstore/internal/cartest"
	"github.com/filecoin-project/dagstore/internal/folderlock"
	"github.com/filecoin-project/dagstore/internal/keyname"
	"github.com/filecoin-project/dagstore/mount"
	"github.com/filecoin-project/dagstore/shard"
)

// A keptStore is all that is left of a store when its process has ended: the
// folders cars, index and transients in dir, and the datastore.
type keptStore struct {
	dir     string
	records ds.Batching
	fetches atomic.Int32 // of archive mounts
}

// keptByV07 returns a copy of the store in testdata/format-v0.7.
func keptByV07(t *testing.T) *keptStore {
	t.Helper()
	kept := &keptStore{dir: t.TempDir(), records: dssync.MutexWrap(ds.NewMapDatastore())}
	require.NoError(t, os.CopyFS(kept.dir, os.DirFS("testdata/format-v0.7")))
	b, err := os.ReadFile(filepath.Join(kept.dir, "records.json"))
	require.NoError(t, err)
	var texts map[string]string
	require.NoError(t, json.Unmarshal(b, &texts))
	for key, text := range texts {
		kept.put(t, key, text)
	}
	return kept
}

// put writes a value with this store's folder in the place of $DIR, and of
// $ESCAPED_DIR as v0.7 escaped the hosts of URLs.
func (k *keptStore) put(t *testing.T, key, text string) {
	t.Helper()
	escaped := strings.TrimPrefix((&url.URL{Host: k.dir}).String(), "//")
	text = strings.NewReplacer("$ESCAPED_DIR", escaped, "$DIR", k.dir).Replace(text)
	require.NoError(t, k.records.Put(t.Context(), ds.NewKey(key), []byte(text)))
}

func (k *keptStore) path(parts ...string) string {
	return filepath.Join(append([]string{k.dir}, parts...)...)
}

// all returns the datastore.
func (k *keptStore) all(t *testing.T) map[string]string {
	t.Helper()
	res, err := k.records.Query(t.Context(), query.Query{})
	require.NoError(t, err)
	entries, err := res.Rest()
	require.NoError(t, err)
	values := map[string]string{}
	for _, e := range entries {
		values[e.Key] = string(e.Value)
	}
	return values
}

// open returns a store that is not started.
func (k *keptStore) open(t *testing.T) *dagstore.DAGStore {
	t.Helper()
	indices, err := index.NewFSRepo(k.path("index"))
	require.NoError(t, err)
	mounts := mount.NewRegistry()
	require.NoError(t, mounts.Register("file", &mount.FileMount{}))
	require.NoError(t, mounts.Register("bytes", &mount.BytesMount{}))
	require.NoError(t, mounts.Register("archive", &archiveMount{folder: k.path("cars"), fetches: &k.fetches}))
	store, err := dagstore.NewDAGStore(dagstore.Config{
		TransientsDir: k.path("transients"),
		IndexRepo:     indices,
		TopLevelIndex: index.NewInverted(k.records),
		Datastore:     k.records,
		MountRegistry: mounts,
	})
	require.NoError(t, err)
	t.Cleanup(func() { _ = store.Close() })
	return store
}

// start returns a store that has done all that its start began. It needs a
// bubble.
func (k *keptStore) start(t *testing.T) *dagstore.DAGStore {
	t.Helper()
	store := k.open(t)
	require.NoError(t, store.Start(t.Context()))
	synctest.Wait()
	return store
}

// An archiveMount is a mount as services have them: its data comes from front to
// back, so that the store keeps copies.
type archiveMount struct {
	mount.FileMount
	folder  string
	fetches *atomic.Int32
}

func (a *archiveMount) Fetch(context.Context) (mount.Reader, error) {
	a.fetches.Add(1)
	b, err := os.ReadFile(filepath.Join(a.folder, a.Path))
	return &mount.NopCloser{Reader: bytes.NewReader(b)}, err
}

func (a *archiveMount) Info() mount.Info { return mount.Info{AccessSequential: true} }

func (a *archiveMount) Stat(context.Context) (mount.Stat, error) {
	return mount.Stat{Exists: true}, nil
}

func keyOf(s string) shard.Key { return shard.KeyFromString(s) }

// requireServes acquires a shard and gets the blocks with these contents.
func requireServes(t *testing.T, store *dagstore.DAGStore, key string, contents ...string) {
	t.Helper()
	accessor, err := dagstore.Acquire(t.Context(), store, keyOf(key))
	require.NoError(t, err, "%q", key)
	bs, err := accessor.Blockstore()
	require.NoError(t, err)
	for _, content := range contents {
		b, err := bs.Get(t.Context(), cartest.Raw([]byte(content)).Cid)
		require.NoError(t, err, "%s in %q", content, key)
		require.Equal(t, content, string(b.RawData()))
	}
	require.NoError(t, accessor.Close())
	synctest.Wait()
}

// The keys in the store of v0.7 whose records can be read.
var (
	indexedInV07 = []string{"plain", "serving", "old-index", "remote", "bytes", "initializing"}
	inV07        = append([]string{"lazy", "recovering", "errored", "a/b"}, indexedInV07...)
)

func requireServesV07(t *testing.T, store *dagstore.DAGStore, keys ...string) {
	t.Helper()
	for _, key := range keys {
		requireServes(t, store, key, key+" 0", key+" 1", key+" 2", "common")
	}
}

// Defects 1 and 7: file and bytes shards were not found after a restart, and
// recovering ones never answered again.
func TestNoShardIsLostByUpgradingFromV07(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		kept := keptByV07(t)
		store := kept.start(t)
		infos := store.AllShardsInfo()
		require.Len(t, infos, len(inV07))
		for _, key := range indexedInV07 {
			require.Equal(t, dagstore.ShardInfo{ShardState: dagstore.ShardStateAvailable}, infos[keyOf(key)], key)
		}
		require.Equal(t, dagstore.ShardInfo{ShardState: dagstore.ShardStateNew}, infos[keyOf("lazy")])
		for key, reason := range map[string]string{"recovering": "connection refused", "errored": "", "a/b": "failed to add index"} {
			require.Equal(t, dagstore.ShardStateErrored, infos[keyOf(key)].ShardState, key)
			require.ErrorContains(t, infos[keyOf(key)].Error, reason)
		}
		require.ErrorIs(t, infos[keyOf("errored")].Error, dagstore.ErrShardInitializationFailed)

		requireServesV07(t, store, append(indexedInV07, "lazy")...)
		require.EqualValues(t, 2, kept.fetches.Load(), "of initializing and lazy; remote has its copy, the partial one is not trusted")
		for _, key := range []string{"recovering", "errored", "a/b"} {
			require.NoError(t, dagstore.Recover(t.Context(), store, keyOf(key)), key)
			requireServesV07(t, store, key)
		}
		require.NoError(t, store.Close())

		store = kept.start(t)
		requireServesV07(t, store, inV07...)
		require.EqualValues(t, 2, kept.fetches.Load(), "nothing is fetched twice")
	})
}

// The top-level index of v0.7 is not believed, and what it lacks or had wrong
// can be found.
func TestEveryBlockIsFoundAfterUpgradingFromV07(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		kept := keptByV07(t)
		store := kept.start(t)
		keys, err := store.ShardsContainingMultihash(t.Context(), cartest.Raw([]byte("common")).Cid.Hash())
		require.NoError(t, err)
		require.Len(t, keys, len(indexedInV07))
		for _, key := range indexedInV07 {
			require.Contains(t, keys, keyOf(key))
			found, err := store.ShardsContainingMultihash(t.Context(), cartest.Raw([]byte(key+" 2")).Cid.Hash())
			require.NoError(t, err, key)
			require.Equal(t, []shard.Key{keyOf(key)}, found)
		}
		found, err := store.ShardsContainingMultihash(t.Context(), cartest.Identity([]byte("plain identity")).Cid.Hash())
		require.NoError(t, err)
		require.Equal(t, []shard.Key{keyOf("plain")}, found)

		_, err = store.ShardsContainingMultihash(t.Context(), cartest.Identity([]byte("alice")).Cid.Hash())
		require.ErrorIs(t, err, ds.ErrNotFound)
		require.Equal(t, `["plain"]`, kept.all(t)["/inverted/index/\x00\x05alice"])
	})
}

// Defect 18: files of others, and of shards that could not be read, were deleted.
func TestUpgradingFromV07DeletesNoFileOfAnybodyElse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		kept := keptByV07(t)
		before := kept.all(t)
		require.NoError(t, os.Symlink(kept.path("cars", "plain.car"), kept.path("transients", "link")))
		store := kept.start(t)

		unread := map[string]error{}
		for _, u := range store.UnreadableRecords() {
			unread[u.Name] = u.Err
		}
		require.Len(t, unread, 2)
		require.Contains(t, unread, "damaged")
		require.ErrorIs(t, unread["unknown-scheme"], mount.ErrUnrecognizedScheme)
		for name := range unread {
			require.Equal(t, before["/dagstore/"+name], kept.all(t)["/dagstore/"+name])
			require.FileExists(t, kept.path("transients", "transient-"+name+".complete"))
		}
		require.FileExists(t, kept.path("index", "damaged.full.idx"))
		require.FileExists(t, kept.path("transients", "folder", "wallet.key"))
		require.FileExists(t, kept.path("transients", "link"))
		for _, leftover := range []string{"stray", "transient-nobody.complete", "transient-initializing.partial"} {
			require.NoFileExists(t, kept.path("transients", leftover))
		}
	})
}

// The copy of a long key is not named after its record, and one that the user
// put into the folder is not either.
func TestCopyOfAnUnreadableShardIsKeptWhateverItsName(t *testing.T) {
	long := strings.Repeat("k", 300)
	copies := map[string]string{long: "transient-" + keyname.File(long) + ".complete", "given": "given.car"}
	synctest.Test(t, func(t *testing.T) {
		kept := keptByV07(t)
		for key, file := range copies {
			kept.put(t, "/dagstore/"+key, `{"k":"`+key+`","u":"lotus://x","t":"$DIR/transients/`+file+`","s":2,"l":false,"e":""}`)
			require.NoError(t, os.WriteFile(kept.path("transients", file), []byte("copy"), 0o600))
		}
		require.NoError(t, kept.start(t).Close())
		for key, file := range copies {
			assert.FileExists(t, kept.path("transients", file), "copy of %.10s", key)
		}
	})
}

// A v0.7 that is given the folders again, and the next release, find in them
// what docs/format.md says.
func TestWhatAnUpgradedStoreWritesFitsTheFormat(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		kept := keptByV07(t)
		before := kept.all(t)
		store := kept.start(t)
		requireServesV07(t, store, "plain", "serving", "lazy")
		require.NoError(t, dagstore.Recover(t.Context(), store, keyOf("recovering")))
		require.NoError(t, dagstore.Recover(t.Context(), store, keyOf("a/b")))
		require.NoError(t, store.Close())

		after := kept.all(t)
		for _, key := range []string{"plain", "serving", "old-index", "remote", "bytes", "errored", "damaged", "unknown-scheme"} {
			require.Equal(t, before["/dagstore/"+key], after["/dagstore/"+key], "nothing about %s changed", key)
		}
		require.NotContains(t, after, "/dagstore/a/b")
		for _, key := range []string{"initializing", "lazy", "recovering", "a/b"} {
			require.Regexp(t, `^{"k":"`+key+`","u":"[^"]+","t":"[^"]*","s":2,"l":(true|false),"e":""}$`, after["/dagstore/"+keyname.Escape(key)])
		}
		for _, name := range append(indexedInV07, "lazy", "recovering", "%a%2Fb") {
			requireIndexFile(t, kept.path("index", name+".full.idx"))
		}
	})
}

// requireIndexFile reads an index file as go-car does.
func requireIndexFile(t *testing.T, path string) {
	t.Helper()
	b, err := os.ReadFile(path)
	require.NoError(t, err)
	idx, err := carindex.ReadFrom(bytes.NewReader(b))
	require.NoError(t, err, path)
	require.Equal(t, multicodec.CarMultihashIndexSorted, idx.Codec(), path)
	_, err = carindex.GetFirst(idx, cartest.Raw([]byte("common")).Cid)
	require.NoError(t, err, path)
}

// Defect 18: a second store deleted the copies of the first one.
func TestSecondStoreDoesNotTakeTheCopiesOfTheFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		kept := keptByV07(t)
		first := kept.start(t)
		second := kept.open(t)
		err := second.Start(t.Context())
		require.ErrorIs(t, err, folderlock.ErrLocked)
		require.ErrorContains(t, err, kept.path("transients"))
		require.NoError(t, second.Close())
		requireServesV07(t, first, "remote")
		require.NoError(t, first.Close())
		kept.start(t)
	})
}

// Defect 11: of six keys two were left after a restart, and some wrote files
// outside the folders of the store.
func TestEveryKeyIsAShardOfItsOwnAfterARestart(t *testing.T) {
	keys := []string{
		"x", "/x", "x/", "a//b", "a/b", "p/../x", "../../esc", "..", ".", "%", "%2F", "%a%2Fb", `c:\x`, ".tmp-x", "nul\x00", "\xff", "\xfe", "\ufffd",
		strings.Repeat("k", 300), strings.Repeat("k", 301), strings.Repeat("/", 300), strings.Repeat("v", 5000), strings.Repeat("\xff", 5000),
	}
	synctest.Test(t, func(t *testing.T) {
		root := t.TempDir()
		kept := &keptStore{dir: filepath.Join(root, "deep", "store"), records: dssync.MutexWrap(ds.NewMapDatastore())}
		require.NoError(t, os.MkdirAll(kept.path("cars"), 0o700))
		store := kept.start(t)
		for _, key := range keys {
			name := cartest.Raw([]byte(key)).Cid.String()
			require.NoError(t, os.WriteFile(kept.path("cars", name), cartest.V1(nil, []cartest.Block{cartest.Raw([]byte(key))}), 0o600))
			mnt := &archiveMount{mount.FileMount{Path: name}, kept.path("cars"), &kept.fetches}
			require.NoError(t, dagstore.Register(t.Context(), store, keyOf(key), mnt, dagstore.RegisterOpts{}), "%q", key)
		}
		require.NoError(t, store.Close())

		store = kept.start(t)
		require.Len(t, store.AllShardsInfo(), len(keys))
		for _, key := range keys {
			requireServes(t, store, key, key)
			found, err := store.ShardsContainingMultihash(t.Context(), cartest.Raw([]byte(key)).Cid.Hash())
			require.NoError(t, err)
			require.Equal(t, []shard.Key{keyOf(key)}, found)
		}
		require.EqualValues(t, len(keys), kept.fetches.Load(), "every copy was found again")
		require.NoError(t, store.Close())

		for name := range kept.all(t) {
			rest, ok := strings.CutPrefix(name, "/dagstore/")
			require.True(t, ok && !strings.Contains(rest, "/") || strings.HasPrefix(name, "/inverted/v2/"), name)
		}
		require.Equal(t, len(keys), countFiles(t, kept.path("transients")))
		require.Equal(t, len(keys)+1, countFiles(t, kept.path("index")))
		require.Equal(t, 3*len(keys)+1, countFiles(t, root), "nothing lies elsewhere")
	})
}

func countFiles(t *testing.T, dir string) (n int) {
	t.Helper()
	require.NoError(t, filepath.WalkDir(dir, func(_ string, e fs.DirEntry, err error) error {
		if err == nil && !e.IsDir() {
			n++
		}
		return err
	}))
	return n
}

// v0.7 kept "x/" where "x" belongs, and "%x%2F" where "x/" does.
func TestShardUnderACleanedKeyOutlivesANewOneOfThatName(t *testing.T) {
	for fresh, old := range map[string][]string{"x": {"x/", "%x%2F"}, "a/c": {"%a%2Fc"}} {
		synctest.Test(t, func(t *testing.T) { requireOutlives(t, fresh, old) })
	}
}

// requireOutlives registers fresh in a store in which v0.7 had the keys old.
func requireOutlives(t *testing.T, fresh string, old []string) {
	t.Helper()
	kept := keptByV07(t)
	for _, key := range old {
		kept.put(t, "/dagstore/"+key, `{"k":"`+key+`","u":"file://$ESCAPED_DIR%2Fcars%2Fplain.car","t":"","s":240,"l":false,"e":"no such folder"}`)
	}
	store := kept.start(t)
	mnt := &mount.FileMount{Path: kept.path("cars", "serving.car")}
	require.NoError(t, dagstore.Register(t.Context(), store, keyOf(fresh), mnt, dagstore.RegisterOpts{}))
	require.NoError(t, store.Close())

	store = kept.start(t)
	requireServes(t, store, fresh, "serving 0")
	for _, key := range old {
		require.NoError(t, dagstore.Recover(t.Context(), store, keyOf(key)), key)
		requireServes(t, store, key, "plain 0")
	}
}
