package journal_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/filecoin-project/dagstore/internal/fault"
	"github.com/filecoin-project/dagstore/internal/files"
	"github.com/filecoin-project/dagstore/internal/journal"
)

var ctx = context.Background()

// A disk is a file system whose files can be truncated, as those of the
// operating system, and fail where the injector wants it.
type disk struct {
	files.FS
	inj  *fault.Injector
	dead bool  // the first failure is a crash: nothing is truncated after it
	err  error // of Truncate
	cuts int   // calls of Truncate
}

func faulty(inj *fault.Injector) *disk { return &disk{FS: fault.FS(files.OS, inj), inj: inj} }

func (d *disk) OpenFile(path string, flag int, perm os.FileMode) (files.File, error) {
	f, err := d.FS.OpenFile(path, flag, perm)
	if err != nil {
		return nil, err
	}
	return diskFile{f, d}, nil
}

type diskFile struct {
	files.File
	d *disk
}

func (f diskFile) Truncate(size int64) error {
	f.d.cuts++
	if f.d.dead && f.d.inj.Fired() > 0 {
		return errors.New("dead")
	}
	if f.d.err != nil {
		return f.d.err
	}
	return os.Truncate(f.Name(), size)
}

// newPath returns the path of a file that is not there.
func newPath(t testing.TB) string { return filepath.Join(t.TempDir(), "journal-1") }

func entries(texts ...string) (out [][]byte) {
	for _, text := range texts {
		out = append(out, []byte(text))
	}
	return out
}

// write makes a journal of two entries, with which it is created, and more.
func write(t testing.TB, path string, more ...string) {
	j, err := journal.Create(files.OS, path, entries("begin", "snapshot"))
	require.NoError(t, err)
	for _, text := range more {
		require.NoError(t, j.Append(ctx, []byte(text), nil))
	}
	require.NoError(t, j.Close())
}

// collect returns a visit that appends the entries to texts.
func collect(texts *[]string) func([]byte) error {
	return func(entry []byte) error {
		*texts = append(*texts, string(entry))
		return nil
	}
}

func open(fsys files.FS, path string) (*journal.Journal, []string, error) {
	var texts []string
	j, err := journal.Open(fsys, path, collect(&texts))
	return j, texts, err
}

// reopened returns the entries of a journal that must open.
func reopened(t testing.TB, path string) []string {
	j, texts, err := open(files.OS, path)
	require.NoError(t, err)
	require.NoError(t, j.Close())
	return texts
}

// followed returns what a reader finds.
func followed(path string, from journal.Position) ([]string, journal.Position, error) {
	var texts []string
	to, err := journal.Read(files.OS, path, from, collect(&texts))
	return texts, to, err
}

func contents(t testing.TB, path string) []byte {
	b, err := os.ReadFile(path)
	require.NoError(t, err)
	return b
}

// replace makes the file anew: some file systems sync one that is truncated and
// written again.
func replace(t testing.TB, path string, b []byte) {
	_ = os.Remove(path)
	require.NoError(t, os.WriteFile(path, b, 0o600))
}

func sizeOf(t testing.TB, path string) int64 {
	info, err := os.Stat(path)
	require.NoError(t, err)
	return info.Size()
}

// numbered returns texts of various lengths that tell their number.
func numbered(n int) (out []string) {
	for i := range n {
		out = append(out, fmt.Sprintf("%d:%s", i, strings.Repeat("x", i*7%50)))
	}
	return out
}
