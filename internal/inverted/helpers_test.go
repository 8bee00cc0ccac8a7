package inverted

import (
	"context"
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/multiformats/go-multihash"
	"github.com/stretchr/testify/require"

	"github.com/filecoin-project/dagstore/internal/files"
)

// tiny makes everything happen with few records.
var tiny = sizes{small: 8, sorted: 64, gathered: 100, journal: 2048, pause: time.Millisecond, freshness: time.Nanosecond}

// numbered multihashes have the form of sha2-256.
func multihashOf(i int) []byte {
	var digest [32]byte
	binary.BigEndian.PutUint64(digest[:], uint64(i)*0x9e3779b97f4a7c15)
	binary.BigEndian.PutUint64(digest[24:], uint64(i))
	mh, err := multihash.Encode(digest[:], multihash.SHA2_256)
	if err != nil {
		panic(err)
	}
	return mh
}

// span yields the multihashes from one number up to another.
func span(from, to int) func(func([]byte) error) error {
	return func(yield func([]byte) error) error {
		for i := from; i < to; i++ {
			if err := yield(multihashOf(i)); err != nil {
				return err
			}
		}
		return nil
	}
}

func these(mhs ...[]byte) func(func([]byte) error) error {
	return func(yield func([]byte) error) error {
		for _, mh := range mhs {
			if err := yield(mh); err != nil {
				return err
			}
		}
		return nil
	}
}

// mustOpen opens an index, without waiting for the disk unless o says so.
func mustOpen(t testing.TB, dir string, o Options) *Index {
	t.Helper()
	if o.FS == nil {
		o.FS = unsynced{files.OS}
	}
	x, err := Open(t.Context(), dir, o)
	require.NoError(t, err)
	t.Cleanup(func() { _ = x.Close() })
	return x
}

func mustOpenReader(t testing.TB, dir string, o Options) *Index {
	t.Helper()
	x, err := OpenReader(t.Context(), dir, o)
	require.NoError(t, err)
	t.Cleanup(func() { _ = x.Close() })
	return x
}

func mustAdd(t testing.TB, x *Index, key string, multihashes func(func([]byte) error) error) {
	t.Helper()
	require.NoError(t, x.Add(t.Context(), key, multihashes))
}

func mustWait(t testing.TB, x *Index) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	require.NoError(t, x.Wait(ctx))
}

func requireShards(t testing.TB, x *Index, mh []byte, want ...string) {
	t.Helper()
	got, err := x.Lookup(mh)
	require.NoError(t, err)
	require.Equal(t, want, got)
	first, ok, err := x.First(mh)
	require.NoError(t, err)
	require.Equal(t, len(want) > 0, ok)
	if ok {
		require.Equal(t, want[0], first)
	}
}

// filesIn returns how many files of each kind a folder has.
func filesIn(t testing.TB, dir string) map[string]int {
	t.Helper()
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	kinds := map[string]int{}
	for _, e := range entries {
		kind, _, _ := strings.Cut(e.Name(), "-")
		kinds[kind]++
	}
	return kinds
}

// requireNoLeaks checks that a folder has the files that an index uses, and no others.
func requireNoLeaks(t testing.TB, x *Index, dir string) {
	t.Helper()
	want := map[string]bool{currentName: true, filepath.Base(x.folder.journal(x.log.number)): true}
	for _, table := range x.view.Load().tables {
		if !inMemory(table) {
			want[filepath.Base(x.folder.layer(table.number))] = true
		}
	}
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	got := map[string]bool{}
	for _, e := range entries {
		got[e.Name()] = true
	}
	require.Equal(t, want, got)
}

func shardName(i int) string { return fmt.Sprintf("shard %d", i) }
