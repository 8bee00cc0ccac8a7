package compat

import (
	"bytes"
	"errors"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"testing"

	blocks "github.com/ipfs/go-block-format"
	"github.com/ipfs/go-cid"
	ds "github.com/ipfs/go-datastore"
	dssync "github.com/ipfs/go-datastore/sync"
	leveldb "github.com/ipfs/go-ds-leveldb"
	format "github.com/ipfs/go-ipld-format"
	car "github.com/ipld/go-car/v2"
	"github.com/stretchr/testify/require"

	"github.com/filecoin-project/dagstore"
	"github.com/filecoin-project/dagstore/index"
	"github.com/filecoin-project/dagstore/internal/cartest"
	"github.com/filecoin-project/dagstore/mount"
	"github.com/filecoin-project/dagstore/shard"
)

// A remoteMount is a file that can be read from start to end only, so that the
// store copies it, and indexes it meanwhile.
type remoteMount struct{ mount.FileMount }

func (m *remoteMount) Info() mount.Info {
	return mount.Info{Kind: mount.KindRemote, AccessSequential: true}
}

// blocksOf returns the blocks of a CAR as go-car's block reader gives them, which
// compares them with their hashes.
func blocksOf(t *testing.T, file []byte) (all []blocks.Block) {
	t.Helper()
	r, err := car.NewBlockReader(bytes.NewReader(file), car.ZeroLengthSectionAsEOF(true))
	require.NoError(t, err)
	for {
		b, err := r.Next()
		if errors.Is(err, io.EOF) {
			return all
		}
		require.NoError(t, err)
		all = append(all, b)
	}
}

// newConfig returns a configuration of a store in a new folder.
func newConfig(t *testing.T) dagstore.Config {
	t.Helper()
	dir := t.TempDir()
	indices, err := index.NewFSRepo(filepath.Join(dir, "indices"))
	require.NoError(t, err)
	topLevel, err := leveldb.NewDatastore(filepath.Join(dir, "top-level"), nil) // a map would be searched from end to end
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, topLevel.Close()) })
	registry := mount.NewRegistry()
	require.NoError(t, registry.Register("file", &mount.FileMount{}))
	require.NoError(t, registry.Register("remote", &remoteMount{}))
	return dagstore.Config{
		TransientsDir: filepath.Join(dir, "transients"),
		IndexRepo:     indices,
		TopLevelIndex: index.NewInverted(topLevel),
		Datastore:     dssync.MutexWrap(ds.NewMapDatastore()),
		MountRegistry: registry,
	}
}

func started(t *testing.T, config dagstore.Config) *dagstore.DAGStore {
	t.Helper()
	store, err := dagstore.NewDAGStore(config)
	require.NoError(t, err)
	require.NoError(t, store.Start(t.Context()))
	t.Cleanup(func() { require.NoError(t, store.Close()) })
	return store
}

// placed writes a file to a folder, where its mount finds it again after a
// restart, and returns its mount.
func (f file) placed(t *testing.T, dir string, remote bool) mount.Mount {
	t.Helper()
	path := filepath.Join(dir, strconv.Itoa(len(names(t, dir)))+".car")
	require.NoError(t, os.WriteFile(path, f.read(t), 0o600))
	if remote {
		return &remoteMount{mount.FileMount{Path: path}}
	}
	return &mount.FileMount{Path: path}
}

func names(t *testing.T, dir string) []os.DirEntry {
	t.Helper()
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	return entries
}

// A store is filled, closed and opened again, so that the indices that are read
// are those on disk.
func TestStoreServesEveryBlockOfEveryCar(t *testing.T) {
	for _, remote := range []bool{false, true} {
		t.Run(map[bool]string{false: "local", true: "remote"}[remote], func(t *testing.T) {
			config, dir := newConfig(t), t.TempDir()
			filling := started(t, config)
			for _, f := range cars {
				key := shard.KeyFromString(f.String())
				require.NoError(t, dagstore.Register(t.Context(), filling, key, f.placed(t, dir, remote), dagstore.RegisterOpts{}), key)
			}
			require.NoError(t, filling.Close())

			store := started(t, config)
			for _, f := range cars {
				t.Run(f.String(), func(t *testing.T) { requireServed(t, store, f) })
			}
		})
	}
}

// requireServed compares what a store serves of a CAR with the file.
func requireServed(t *testing.T, store *dagstore.DAGStore, f file) {
	t.Helper()
	content, key := f.read(t), shard.KeyFromString(f.String())
	accessor, err := dagstore.Acquire(t.Context(), store, key)
	require.NoError(t, err)
	defer func() { require.NoError(t, accessor.Close()) }()
	served, err := io.ReadAll(accessor.Reader())
	require.NoError(t, err)
	require.True(t, bytes.Equal(content, served))
	bs, err := accessor.Blockstore()
	require.NoError(t, err)
	bs.HashOnRead(true)
	all := blocksOf(t, content)
	require.Len(t, all, f.blocks)
	for _, want := range all {
		requireBlock(t, bs, want)
		keys, err := store.ShardsContainingMultihash(t.Context(), want.Cid().Hash())
		require.NoError(t, err)
		require.Contains(t, keys, key)
	}
	require.True(t, slices.Equal(multihashes(all), listed(t, bs)), "each multihash is listed once")
	_, err = bs.Get(t.Context(), cartest.Raw([]byte("absent")).Cid)
	require.True(t, format.IsNotFound(err), err)
}

func requireBlock(t *testing.T, bs dagstore.ReadBlockstore, want blocks.Block) {
	t.Helper()
	got, err := bs.Get(t.Context(), want.Cid())
	require.NoError(t, err)
	require.Equal(t, want.Cid(), got.Cid())
	require.True(t, bytes.Equal(want.RawData(), got.RawData()), want.Cid())
	size, err := bs.GetSize(t.Context(), want.Cid())
	require.NoError(t, err)
	require.Equal(t, len(want.RawData()), size)
	has, err := bs.Has(t.Context(), want.Cid())
	require.NoError(t, err)
	require.True(t, has)
}

// multihashes returns each distinct multihash once, sorted.
func multihashes(all []blocks.Block) []string {
	distinct := map[string]bool{}
	for _, b := range all {
		distinct[string(b.Cid().Hash())] = true
	}
	return slices.Sorted(maps.Keys(distinct))
}

// listed returns the multihashes of all keys that a blockstore lists, sorted.
func listed(t *testing.T, bs dagstore.ReadBlockstore) (all []string) {
	t.Helper()
	ch, err := bs.AllKeysChan(t.Context())
	require.NoError(t, err)
	for c := range ch {
		require.Equal(t, cid.NewCidV1(cid.Raw, c.Hash()), c)
		all = append(all, string(c.Hash()))
	}
	slices.Sort(all)
	return all
}

func TestBadCarsAreRefusedByTheStore(t *testing.T) {
	store, dir := started(t, newConfig(t)), t.TempDir()
	for _, remote := range []bool{false, true} {
		for _, f := range refused {
			t.Run(f.String(), func(t *testing.T) {
				key := shard.KeyFromString(t.Name())
				err := dagstore.Register(t.Context(), store, key, f.placed(t, dir, remote), dagstore.RegisterOpts{})
				require.ErrorIs(t, err, f.want)
			})
		}
	}
}
