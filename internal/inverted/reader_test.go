package inverted

import (
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/filecoin-project/dagstore/internal/files"
	"github.com/filecoin-project/dagstore/internal/folderlock"
)

func TestASecondWriterIsRefused(t *testing.T) {
	dir := t.TempDir()
	x := mustOpen(t, dir, Options{})
	_, err := Open(t.Context(), dir, Options{})
	require.ErrorIs(t, err, folderlock.ErrLocked)
	require.ErrorContains(t, err, dir)
	require.NoError(t, x.Close())
	mustOpen(t, dir, Options{})
}

func TestReadersChangeNothing(t *testing.T) {
	dir := t.TempDir()
	_, err := OpenReader(t.Context(), dir, Options{})
	require.ErrorIs(t, err, fs.ErrNotExist)
	require.Empty(t, filesIn(t, dir))
	mustOpen(t, dir, Options{})
	r := mustOpenReader(t, dir, Options{})
	require.ErrorIs(t, r.Add(t.Context(), "a", span(0, 1)), ErrReadOnly)
	require.ErrorIs(t, r.Remove(t.Context(), "a"), ErrReadOnly)
	require.NoError(t, r.Wait(t.Context()))
}

func TestReadersFollowTheWriter(t *testing.T) {
	dir := t.TempDir()
	x := mustOpen(t, dir, Options{sizes: tiny})
	r := mustOpenReader(t, dir, Options{sizes: tiny})
	requireShards(t, r, multihashOf(0))
	mustAdd(t, x, "small", span(0, 3))
	requireShards(t, r, multihashOf(0), "small")
	mustAdd(t, x, "large", span(0, 100))
	requireShards(t, r, multihashOf(0), "small", "large")
	require.NoError(t, x.Remove(t.Context(), "small"))
	requireShards(t, r, multihashOf(0), "large")

	before := x.log.number
	for i := range 60 { // merges, and begins other journals
		mustAdd(t, x, shardName(i), span(0, 30))
	}
	mustWait(t, x)
	require.Greater(t, x.log.number, before)
	got, err := r.Lookup(multihashOf(0))
	require.NoError(t, err)
	require.Len(t, got, 61)
	require.LessOrEqual(t, len(r.view.Load().tables), 10)

	require.NoError(t, x.Close()) // and another process goes on
	x = mustOpen(t, dir, Options{sizes: tiny})
	mustAdd(t, x, "later", span(1000, 1001))
	requireShards(t, r, multihashOf(1000), "later")
}

func TestReadersAreOnlyAsOldAsPromised(t *testing.T) {
	dir := t.TempDir()
	x := mustOpen(t, dir, Options{})
	slow := sizes{freshness: time.Hour}
	r := mustOpenReader(t, dir, Options{sizes: slow})
	requireShards(t, r, multihashOf(0))
	mustAdd(t, x, "a", span(0, 1))
	requireShards(t, r, multihashOf(0))
	r.follow.checked.Store(-int64(time.Hour)) // an hour later
	requireShards(t, r, multihashOf(0), "a")
}

func TestReadersServeOnWhenTheFolderIsReplaced(t *testing.T) {
	parent := t.TempDir()
	dir, other := filepath.Join(parent, "index"), filepath.Join(parent, "new")
	for path, key := range map[string]string{dir: "old", other: "new"} {
		x := mustOpen(t, path, Options{})
		mustAdd(t, x, key, span(0, 9000))
		mustAdd(t, x, key+" small", span(0, 1))
		require.NoError(t, x.Close())
	}
	r := mustOpenReader(t, dir, Options{sizes: tiny})
	requireShards(t, r, multihashOf(0), "old", "old small")
	require.NoError(t, os.Rename(dir, filepath.Join(parent, "past")))
	require.NoError(t, os.Rename(other, dir))
	requireShards(t, r, multihashOf(0), "new", "new small")
}

// opening calls a function when a journal is opened.
type opening struct {
	files.FS
	do func()
}

func (o *opening) Open(path string) (files.File, error) {
	if o.do != nil && strings.HasPrefix(filepath.Base(path), journalPrefix) {
		o.do()
	}
	return o.FS.Open(path)
}

func TestALookUpThatCloseInterruptsTellsThatTheIndexIsClosed(t *testing.T) {
	dir := t.TempDir()
	x := mustOpen(t, dir, Options{sizes: tiny})
	fsys := &opening{FS: files.OS}
	r := mustOpenReader(t, dir, Options{FS: fsys, sizes: tiny})
	mustAdd(t, x, "a", span(0, 3))
	r.follow.isOff = true // it has to begin anew
	fsys.do = r.cancel
	_, err := r.Lookup(multihashOf(0))
	require.ErrorIs(t, err, fs.ErrClosed)
}

func TestReadersNeverMissAFile(t *testing.T) {
	dir := t.TempDir()
	x := mustOpen(t, dir, Options{sizes: tiny})
	mustAdd(t, x, "always", span(0, 200))
	done := make(chan struct{})
	var readers sync.WaitGroup
	for range 2 {
		readers.Go(func() {
			for n := 0; ; n++ {
				r, err := OpenReader(t.Context(), dir, Options{sizes: tiny})
				if err != nil {
					t.Error(err)
					return
				}
				for i := range 20 {
					got, err := r.Lookup(multihashOf(i))
					if err != nil || len(got) == 0 || got[0] != "always" {
						t.Error(got, err)
					}
				}
				if err := r.Close(); err != nil {
					t.Error(err)
				}
				select {
				case <-done:
					return
				default:
				}
			}
		})
	}
	for i := range 60 {
		mustAdd(t, x, shardName(i%7), span(i, i+60))
		if i%5 == 0 {
			require.NoError(t, x.Remove(t.Context(), shardName((i+3)%7)))
		}
	}
	mustWait(t, x)
	close(done)
	readers.Wait()
}
