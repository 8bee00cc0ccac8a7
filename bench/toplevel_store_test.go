package bench

import (
	"context"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/filecoin-project/dagstore/internal/files"
	"github.com/filecoin-project/dagstore/internal/inverted"
)

// benchRecords is how many records the large top-level indices have, if not as many
// as the bars are for.
const benchRecords = "DAGSTORE_BENCH_RECORDS"

func recordsOr(tb testing.TB, usual int) int {
	tb.Helper()
	s := os.Getenv(benchRecords)
	if s == "" {
		return usual
	}
	n, err := strconv.Atoi(s)
	require.NoError(tb, err)
	return n
}

// A toplevelIndex is a top-level index in a folder, whose multihashes are numbered
// from 0 on.
type toplevelIndex struct {
	*inverted.Index
	dir    string
	next   uint64 // number of the next multihash that is in no shard
	shards int
}

// makeToplevel makes an index in a folder that is there as long as tb. While it is
// made nothing waits for the disk. It returns the index when all is merged.
func makeToplevel(tb testing.TB, records, shards int) *toplevelIndex {
	tb.Helper()
	x := &toplevelIndex{dir: tb.TempDir()}
	tb.Cleanup(func() { _ = x.Close() })
	x.open(tb, hastyFS{files.OS})
	for range shards {
		x.add(tb, x.fresh(records/shards))
	}
	x.settle(tb)
	require.NoError(tb, x.Close())
	x.open(tb, files.OS)
	x.settle(tb)
	return x
}

func (x *toplevelIndex) open(tb testing.TB, fsys files.FS) {
	tb.Helper()
	var err error
	x.Index, err = inverted.Open(context.Background(), x.dir, inverted.Options{FS: fsys})
	require.NoError(tb, err)
}

// fresh returns so many multihashes that are in no shard.
func (x *toplevelIndex) fresh(n int) span {
	x.next += uint64(n)
	return span{x.next - uint64(n), x.next}
}

// add adds a shard with these multihashes.
func (x *toplevelIndex) add(tb testing.TB, s span) {
	tb.Helper()
	require.NoError(tb, x.Add(context.Background(), toplevelKey(x.shards), multihashes(s)))
	x.shards++
}

// settle waits until all is merged.
func (x *toplevelIndex) settle(tb testing.TB) {
	tb.Helper()
	require.NoError(tb, x.Wait(context.Background()))
}

// size returns the bytes of all files.
func (x *toplevelIndex) size(tb testing.TB) (bytes int64) {
	tb.Helper()
	for _, name := range filesIn(tb, x.dir) {
		info, err := os.Stat(filepath.Join(x.dir, name))
		require.NoError(tb, err)
		bytes += info.Size()
	}
	return bytes
}

// layers returns how many files of records there are.
func (x *toplevelIndex) layers(tb testing.TB) int {
	tb.Helper()
	return len(filesIn(tb, x.dir)) - 2 // CURRENT and a journal
}

// hastyFS is a file system where syncing does nothing.
type hastyFS struct{ files.FS }

// A hastyFile is written and never synced. Files that are only read are not hasty,
// and can be mapped.
type hastyFile struct{ files.File }

func (hastyFile) Sync() error        { return nil }
func (hastyFS) SyncDir(string) error { return nil }

func (f hastyFS) OpenFile(path string, flag int, perm fs.FileMode) (files.File, error) {
	file, err := f.FS.OpenFile(path, flag, perm)
	if err != nil {
		return nil, err
	}
	return hastyFile{file}, nil
}

func (f hastyFS) CreateTemp(dir string) (files.File, error) {
	file, err := f.FS.CreateTemp(dir)
	if err != nil {
		return nil, err
	}
	return hastyFile{file}, nil
}
