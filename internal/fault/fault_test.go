package fault_test

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"sync"
	"testing"

	ds "github.com/ipfs/go-datastore"
	"github.com/ipfs/go-datastore/query"
	dssync "github.com/ipfs/go-datastore/sync"
	"github.com/stretchr/testify/require"

	"github.com/filecoin-project/dagstore/internal/fault"
	"github.com/filecoin-project/dagstore/internal/files"
)

var (
	ctx = context.Background()
	key = ds.NewKey("/k")
)

func newStore() ds.Batching { return dssync.MutexWrap(ds.NewMapDatastore()) }

// outcomes removes a missing file n times and tells which removals were injected
// failures.
func outcomes(inj *fault.Injector, n int) []bool {
	fsys := fault.FS(files.OS, inj)
	var out []bool
	for range n {
		out = append(out, errors.Is(fsys.Remove("no such file"), fault.ErrInjected))
	}
	return out
}

func TestWhichOperationsFail(t *testing.T) {
	require.Equal(t, []bool{false, true, false, false}, outcomes(fault.OnIndex(1), 4))
	require.Equal(t, []bool{false, false, true, true}, outcomes(fault.From(2), 4))
	require.Equal(t, []bool{false, true, false, true}, outcomes(fault.Every(2), 4))
	require.Equal(t, []bool{true, true}, outcomes(fault.Always(), 2))
	require.Equal(t, []bool{false, false}, outcomes(fault.Never(), 2))
	require.Equal(t, []bool{false, false}, outcomes(fault.Always().Match(fault.Is(fault.Open)), 2))
	require.Equal(t, []bool{true, true}, outcomes(fault.Always().Match(fault.Writing), 2))
}

func TestCounts(t *testing.T) {
	inj := fault.OnIndex(1).Match(fault.Is(fault.Remove))
	fsys := fault.FS(files.OS, inj)
	run := func() {
		_, _ = fsys.Stat("no such file")
		outcomes(inj, 3)
	}
	run()
	require.Equal(t, 1, inj.Fired())
	require.Equal(t, 3, inj.Count(fault.Remove))
	require.Equal(t, 4, inj.Count(fault.Remove, fault.Stat))
	require.Equal(t, 4, inj.Count())
	require.Zero(t, inj.Count(fault.Write))

	inj.Reset()
	require.Zero(t, inj.Fired()+inj.Count())
	run()
	require.Equal(t, 1, inj.Fired(), "the operations are counted anew")
}

func TestInjectorIsSafeForConcurrentUse(t *testing.T) {
	inj := fault.OnIndex(50)
	var wg sync.WaitGroup
	for range 10 {
		wg.Go(func() { outcomes(inj, 10) })
	}
	wg.Wait()
	require.Equal(t, 1, inj.Fired())
	require.Equal(t, 100, inj.Count())
}

func TestEachOperationOfAFileSystemFails(t *testing.T) {
	mine := errors.New("mine")
	dir := t.TempDir()
	path := filepath.Join(dir, "f")
	require.NoError(t, os.WriteFile(path, []byte("text"), 0o600))
	buf := make([]byte, 2)
	var file files.File
	steps := []struct {
		kind fault.Kind
		do   func(fsys files.FS) error
	}{
		{fault.Mkdir, func(fsys files.FS) error { return fsys.MkdirAll(dir, 0o755) }},
		{fault.Open, func(fsys files.FS) error { f, err := fsys.Open(path); return closed(f, err) }},
		{fault.Create, func(fsys files.FS) error { f, err := fsys.CreateTemp(dir); return closed(f, err) }},
		{fault.Create, func(fsys files.FS) (err error) {
			file, err = fsys.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
			return err
		}},
		{fault.Read, func(files.FS) error { _, err := file.Read(buf); return err }},
		{fault.Read, func(files.FS) error { _, err := file.ReadAt(buf, 1); return err }},
		{fault.Write, func(files.FS) error { _, err := file.Write(buf); return err }},
		{fault.Sync, func(files.FS) error { return file.Sync() }},
		{fault.Stat, func(files.FS) error { _, err := file.Stat(); return err }},
		{fault.Close, func(files.FS) error { return file.Close() }},
		{fault.Stat, func(fsys files.FS) error { _, err := fsys.Stat(path); return err }},
		{fault.Stat, func(fsys files.FS) error { _, err := fsys.Lstat(path); return err }},
		{fault.ReadDir, func(fsys files.FS) error { _, err := fsys.ReadDir(dir); return err }},
		{fault.SyncDir, func(fsys files.FS) error { return fsys.SyncDir(dir) }},
		{fault.Rename, func(fsys files.FS) error { return fsys.Rename(path, path+"2") }},
		{fault.Remove, func(fsys files.FS) error { return fsys.Remove(path + "2") }},
	}
	for _, step := range steps {
		inj := fault.OnIndex(0).Match(fault.Is(step.kind)).WithError(mine)
		fsys := fault.FS(files.OS, inj)
		if file != nil { // it must know this injector
			file = reopened(t, fsys, file)
		}
		require.ErrorIs(t, step.do(fsys), mine, step.kind)
		require.Equal(t, 1, inj.Fired())
		if step.kind == fault.Close {
			require.ErrorIs(t, step.do(fsys), os.ErrClosed, "a file whose Close fails is closed")
			file = nil
			continue
		}
		require.NoError(t, step.do(fsys), step.kind)
	}
}

func closed(f files.File, err error) error {
	if err != nil {
		return err
	}
	return f.Close()
}

// reopened opens the file of f through fsys, and closes f.
func reopened(t *testing.T, fsys files.FS, f files.File) files.File {
	require.NoError(t, f.Close())
	again, err := fsys.OpenFile(f.Name(), os.O_RDWR, 0)
	require.NoError(t, err)
	return again
}

func TestShortWriteWritesHalf(t *testing.T) {
	path := filepath.Join(t.TempDir(), "f")
	for short, want := range map[bool]string{false: "", true: "te"} {
		inj := fault.Always().Match(fault.Is(fault.Write))
		if short {
			inj.Short()
		}
		f, err := fault.FS(files.OS, inj).OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
		require.NoError(t, err)
		n, err := io.WriteString(f, "text")
		require.ErrorIs(t, err, fault.ErrInjected)
		require.Equal(t, len(want), n)
		require.NoError(t, f.Close())
		got, err := os.ReadFile(path)
		require.NoError(t, err)
		require.Equal(t, want, string(got))
	}
}

func TestEachOperationOfADatastoreFails(t *testing.T) {
	for kind, do := range map[fault.Kind]func(ds.Batching) error{
		fault.Put:    func(d ds.Batching) error { return d.Put(ctx, key, nil) },
		fault.Delete: func(d ds.Batching) error { return d.Delete(ctx, ds.NewKey("/other")) },
		fault.Get:    func(d ds.Batching) error { _, err := d.Get(ctx, key); return err },
		fault.Has: func(d ds.Batching) error {
			_, err := d.Has(ctx, key)
			return err
		},
		fault.Query: func(d ds.Batching) error { _, err := d.Query(ctx, query.Query{}); return err },
		fault.Flush: func(d ds.Batching) error { return d.Sync(ctx, key) },
		fault.Batch: func(d ds.Batching) error { _, err := d.Batch(ctx); return err },
	} {
		inj := fault.OnIndex(0).Match(fault.Is(kind))
		inner := newStore()
		require.NoError(t, inner.Put(ctx, key, []byte("v")))
		d := fault.Datastore(inner, inj)
		require.ErrorIs(t, do(d), fault.ErrInjected, kind)
		require.NoError(t, do(d), kind)
		require.Equal(t, 2, inj.Count(kind))
		require.NoError(t, d.Close())
	}
	d := fault.Datastore(newStore(), fault.OnIndex(0))
	_, err := d.GetSize(ctx, key)
	require.ErrorIs(t, err, fault.ErrInjected)
	_, err = d.GetSize(ctx, key)
	require.ErrorIs(t, err, ds.ErrNotFound)
}

// size is the number of entries in a datastore.
func size(t *testing.T, d ds.Batching) int {
	results, err := d.Query(ctx, query.Query{KeysOnly: true})
	require.NoError(t, err)
	entries, err := results.Rest()
	require.NoError(t, err)
	return len(entries)
}

func TestFailedCommitWritesNothingOrHalf(t *testing.T) {
	for short, want := range map[bool]int{false: 0, true: 2} {
		inner := newStore()
		inj := fault.OnIndex(0).Match(fault.Is(fault.Commit))
		if short {
			inj.Short()
		}
		d := fault.Datastore(inner, inj)
		fill := func() error {
			b, err := d.Batch(ctx)
			require.NoError(t, err)
			for _, k := range []string{"/a", "/b", "/c", "/d"} {
				require.NoError(t, b.Put(ctx, ds.NewKey(k), nil))
			}
			require.Equal(t, want*inj.Fired(), size(t, inner), "nothing is written before Commit")
			return b.Commit(ctx)
		}
		require.ErrorIs(t, fill(), fault.ErrInjected)
		require.Equal(t, want, size(t, inner))
		require.NoError(t, fill())
		require.Equal(t, 4, size(t, inner))

		b, err := d.Batch(ctx)
		require.NoError(t, err)
		require.NoError(t, b.Delete(ctx, ds.NewKey("/a")))
		require.NoError(t, b.Commit(ctx))
		require.Equal(t, 3, size(t, inner))
		require.Zero(t, inj.Count(fault.Put, fault.Delete), "a batch is one operation")
	}
}

func TestDatastoreWithoutBatches(t *testing.T) {
	inj := fault.Never()
	d := fault.Datastore(fault.Unbatched(newStore()), inj)
	_, err := d.Batch(ctx)
	require.ErrorIs(t, err, ds.ErrBatchUnsupported)
	require.NoError(t, d.Put(ctx, key, nil))
	require.Equal(t, 1, inj.Count(fault.Put))
}
