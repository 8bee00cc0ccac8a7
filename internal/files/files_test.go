package files_test

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/filecoin-project/dagstore/internal/fault"
	"github.com/filecoin-project/dagstore/internal/files"
)

func content(text string) func(io.Writer) error {
	return func(w io.Writer) error {
		_, err := io.WriteString(w, text)
		return err
	}
}

func names(t *testing.T, dir string) []string {
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	var out []string
	for _, e := range entries {
		out = append(out, e.Name())
	}
	return out
}

func requireContent(t *testing.T, want, path string) {
	got, err := os.ReadFile(path)
	require.NoError(t, err)
	require.Equal(t, want, string(got))
}

func TestReplaceMakesAndReplacesAFile(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "f")
	for _, text := range []string{"first", "a longer second", ""} {
		require.NoError(t, files.Replace(files.OS, path, content(text)))
		requireContent(t, text, path)
		require.Equal(t, []string{"f"}, names(t, dir))
	}
}

func TestFilesAreMadeWithTheUsualPermissions(t *testing.T) {
	dir := t.TempDir()
	usual := filepath.Join(dir, "usual")
	f, err := os.Create(usual)
	require.NoError(t, err)
	require.NoError(t, f.Close())
	path := filepath.Join(dir, "f")
	require.NoError(t, files.Replace(files.OS, path, content("x")))

	want, err := os.Stat(usual)
	require.NoError(t, err)
	got, err := os.Stat(path)
	require.NoError(t, err)
	require.Equal(t, want.Mode(), got.Mode())
}

// A crash loses what was not made durable, and keeps the steps in no order but this.
func TestReplaceMakesEachStepDurableBeforeTheNext(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "f")
	var ops []fault.Op
	inj := fault.Never().Match(func(op fault.Op) bool {
		if strings.HasPrefix(filepath.Base(op.Name), files.TempPrefix) {
			op.Name = "temporary"
		}
		ops = append(ops, op)
		return true
	})
	require.NoError(t, files.Replace(fault.FS(files.OS, inj), path, content("new")))
	require.Equal(t, []fault.Op{
		{Kind: fault.Create, Name: dir},
		{Kind: fault.Write, Name: "temporary"},
		{Kind: fault.Sync, Name: "temporary"},
		{Kind: fault.Close, Name: "temporary"},
		{Kind: fault.Rename, Name: path},
		{Kind: fault.SyncDir, Name: dir},
	}, ops)
}

// Every operation of Replace fails in turn, writes also half-way.
func TestFailedReplaceLosesNothingAndLeavesNothing(t *testing.T) {
	for _, short := range []bool{false, true} {
		for n := 0; ; n++ {
			dir := t.TempDir()
			path := filepath.Join(dir, "f")
			require.NoError(t, os.WriteFile(path, []byte("old"), 0o600))
			inj := fault.OnIndex(n)
			if short {
				inj.Short()
			}
			var last fault.Kind
			inj.Match(func(op fault.Op) bool { last = op.Kind; return true })
			err := files.Replace(fault.FS(files.OS, inj), path, content("new"))
			if inj.Fired() == 0 {
				require.NoError(t, err)
				requireContent(t, "new", path)
				break
			}
			require.ErrorIs(t, err, fault.ErrInjected)
			require.Equal(t, []string{"f"}, names(t, dir))
			if last == fault.SyncDir {
				requireContent(t, "new", path)
			} else {
				requireContent(t, "old", path)
			}
		}
	}
}

// From the n-th operation on everything fails, as if the process had died there.
func TestCrashedReplaceLeavesTheOldContentOrTheNew(t *testing.T) {
	for n := 0; ; n++ {
		dir := t.TempDir()
		path := filepath.Join(dir, "f")
		require.NoError(t, os.WriteFile(path, []byte("old"), 0o600))
		inj := fault.From(n).Short()
		err := files.Replace(fault.FS(files.OS, inj), path, content("new"))
		if inj.Fired() == 0 {
			require.NoError(t, err)
			return
		}
		require.Error(t, err)
		got, err := os.ReadFile(path)
		require.NoError(t, err)
		require.Contains(t, []string{"old", "new"}, string(got))
		for _, name := range names(t, dir) {
			require.True(t, name == "f" || strings.HasPrefix(name, files.TempPrefix), name)
		}
	}
}

func TestWriterThatPanicsLeavesTheOldContent(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "f")
	require.NoError(t, files.Replace(files.OS, path, content("old")))
	require.Panics(t, func() {
		_ = files.Replace(files.OS, path, func(io.Writer) error { panic("user code") })
	})
	requireContent(t, "old", path)
	require.Equal(t, []string{"f"}, names(t, dir))
}

func TestMissingFolderIsAnError(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "missing")
	require.ErrorIs(t, files.Replace(files.OS, filepath.Join(dir, "f"), content("x")), fs.ErrNotExist)
	require.ErrorIs(t, files.OS.SyncDir(dir), fs.ErrNotExist)
}

// A File that holds a nil *os.File is not nil, and panics when used.
func TestFileThatDoesNotOpenIsNil(t *testing.T) {
	path := filepath.Join(t.TempDir(), "missing", "f")
	f, err := files.OS.Open(path)
	require.ErrorIs(t, err, fs.ErrNotExist)
	require.True(t, f == nil)
	f, err = files.OS.OpenFile(path, os.O_CREATE, 0o600)
	require.ErrorIs(t, err, fs.ErrNotExist)
	require.True(t, f == nil)
}

func TestOSIsTheFileSystem(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a", "b")
	require.NoError(t, files.OS.MkdirAll(dir, 0o755))
	f, err := files.OS.CreateTemp(dir)
	require.NoError(t, err)
	require.IsType(t, (*os.File)(nil), f)
	require.True(t, strings.HasPrefix(filepath.Base(f.Name()), files.TempPrefix))
	require.NoError(t, errors.Join(content("text")(f), f.Sync(), f.Close()))

	path, link := filepath.Join(dir, "f"), filepath.Join(dir, "l")
	require.NoError(t, files.OS.Rename(f.Name(), path))
	require.NoError(t, os.Symlink("f", link))
	require.NoError(t, files.OS.SyncDir(dir))
	entries, err := files.OS.ReadDir(dir)
	require.NoError(t, err)
	require.Len(t, entries, 2)

	followed, err := files.OS.Stat(link)
	require.NoError(t, err)
	require.True(t, followed.Mode().IsRegular())
	itself, err := files.OS.Lstat(link)
	require.NoError(t, err)
	require.Equal(t, fs.ModeSymlink, itself.Mode().Type())

	require.NoError(t, files.OS.Remove(path))
	_, err = files.OS.Stat(path)
	require.ErrorIs(t, err, fs.ErrNotExist)
}
