package index

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/ipfs/go-cid"
	carindex "github.com/ipld/go-car/v2/index"
	"github.com/multiformats/go-multicodec"
	"github.com/multiformats/go-multihash"
	"github.com/stretchr/testify/require"

	"github.com/filecoin-project/dagstore/internal/files"
	"github.com/filecoin-project/dagstore/shard"
)

func offsetOf(t testing.TB, idx carindex.Index, text string) (offset uint64, found bool) {
	t.Helper()
	err := idx.GetAll(cid.NewCidV1(cid.Raw, mhOf(t, text)), func(o uint64) bool {
		offset, found = o, true
		return false
	})
	if !found {
		require.ErrorIs(t, err, carindex.ErrNotFound)
	}
	return offset, found
}

// manyEntries is an index whose file is too large to be verified at opening.
func manyEntries(t testing.TB) carindex.Index {
	names := make([]string, 4000)
	for i := range names {
		names[i] = fmt.Sprint(i)
	}
	return smallIndex(t, names...)
}

func get(t testing.TB, r *FSIndexRepo, k shard.Key) carindex.Index {
	t.Helper()
	idx, err := r.GetFullIndex(k)
	require.NoError(t, err)
	return idx
}

func release(idx carindex.Index) { idx.(Releaser).Release() }

func TestReplacedIndexIsNotAnsweredFromTheOldFile(t *testing.T) {
	r, _ := newFS(t)
	require.NoError(t, r.AddFullIndex(key, smallIndex(t, "a")))
	old := get(t, r, key)
	require.NoError(t, r.AddFullIndex(key, smallIndex(t, "b")))
	fresh := get(t, r, key)
	_, found := offsetOf(t, fresh, "a")
	require.False(t, found)
	_, found = offsetOf(t, fresh, "b")
	require.True(t, found)
	_, found = offsetOf(t, old, "a")
	require.True(t, found, "who has the old one goes on")
	release(old)
	release(fresh)

	// Damaged in place, by somebody else.
	path := r.path(key)
	require.NoError(t, os.WriteFile(path, []byte("not an index at all"), 0o600))
	require.NoError(t, os.Chtimes(path, time.Now(), time.Now().Add(time.Hour)))
	_, err := r.GetFullIndex(key)
	require.ErrorIs(t, err, ErrDamaged)

	_, err = r.DropFullIndex(key)
	require.NoError(t, err)
	_, err = r.GetFullIndex(key)
	require.ErrorIs(t, err, ErrNotFound)
}

func TestAllUsersOfAnIndexShareOneMapping(t *testing.T) {
	r, _ := newFS(t)
	require.NoError(t, r.AddFullIndex(key, smallIndex(t, "a")))
	first, second := get(t, r, key).(iterableHandle), get(t, r, key).(iterableHandle)
	require.Same(t, first.use.file, second.use.file)
	first.Release()
	first.Release()
	require.Equal(t, 1, second.use.file.users, "releasing twice counts once")
	_, found := offsetOf(t, second, "a")
	require.True(t, found)
	second.Release()
	third := get(t, r, key).(iterableHandle)
	require.Same(t, second.use.file, third.use.file, "an idle file stays open")
	require.NoError(t, third.Close())
}

func TestIdleIndicesDoNotPileUp(t *testing.T) {
	r, _ := newFS(t)
	for i := range idleFiles + 20 {
		k := shard.KeyFromString(fmt.Sprint(i))
		require.NoError(t, r.AddFullIndex(k, smallIndex(t, "a")))
		release(get(t, r, k))
	}
	require.Len(t, r.open.byPath, idleFiles)
	require.Equal(t, idleFiles, r.open.idle.Len())
	used := get(t, r, shard.KeyFromString("0")) // the oldest, opened anew
	require.Len(t, r.open.byPath, idleFiles+1)
	release(used)
	require.Len(t, r.open.byPath, idleFiles)
}

func TestForgottenIndexIsReleasedByTheGarbageCollector(t *testing.T) {
	r, _ := newFS(t)
	require.NoError(t, r.AddFullIndex(key, smallIndex(t, "a")))
	file := get(t, r, key).(iterableHandle).use.file
	users := func() int {
		r.open.mu.Lock()
		defer r.open.mu.Unlock()
		return file.users
	}
	for deadline := time.Now().Add(10 * time.Second); users() > 0 && time.Now().Before(deadline); {
		runtime.GC()
		runtime.Gosched()
	}
	require.Zero(t, users())
}

func TestIndexIsReadWhileItIsReplacedAndDropped(t *testing.T) {
	r, _ := newFS(t)
	require.NoError(t, r.AddFullIndex(key, smallIndex(t, "a")))
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for range 50 {
				idx, err := r.GetFullIndex(key)
				if err != nil {
					require.ErrorIs(t, err, ErrNotFound)
					continue
				}
				_, found := offsetOf(t, idx, "a")
				require.True(t, found)
				release(idx)
			}
		})
	}
	for i := range 20 {
		if i%3 == 0 {
			_, err := r.DropFullIndex(key)
			require.NoError(t, err)
		}
		require.NoError(t, r.AddFullIndex(key, smallIndex(t, "a")))
	}
	wg.Wait()
}

func TestFlippedBitInALargeIndexIsFoundByVerify(t *testing.T) {
	r, _ := newFS(t)
	require.NoError(t, r.AddFullIndex(key, manyEntries(t)))
	path := r.path(key)
	whole, err := os.ReadFile(path)
	require.NoError(t, err)
	require.Greater(t, len(whole), verifiedAtOnce)
	sound := get(t, r, key)
	require.NoError(t, sound.(Verifier).Verify(t.Context()))
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	require.ErrorIs(t, sound.(Verifier).Verify(ended), context.Canceled)
	release(sound)
	for _, at := range []int{50, len(whole) / 2, len(whole) - 30, len(whole) - 10} {
		flipped := bytes.Clone(whole)
		flipped[at] ^= 0x10
		require.NoError(t, os.WriteFile(path, flipped, 0o600))
		r.open.forget(path)
		idx, err := r.GetFullIndex(key)
		if err == nil {
			err = idx.(Verifier).Verify(t.Context())
			release(idx)
		}
		require.ErrorIs(t, err, ErrDamaged, "byte %d", at)
	}
}

func TestIndexOfV07IsServedAndItsTornTailIsFound(t *testing.T) {
	for _, format := range []multicodec.Code{multicodec.CarIndexSorted, multicodec.CarMultihashIndexSorted} {
		r, dir := newFS(t)
		names := make([]string, 4000)
		for i := range names {
			names[i] = fmt.Sprint(i)
		}
		whole := bytesOf(t, indexOf(t, format, names...))
		path := filepath.Join(dir, "k.full.idx")
		require.NoError(t, os.WriteFile(path, whole, 0o600))
		idx := get(t, r, key)
		require.Equal(t, format, idx.Codec())
		require.NoError(t, idx.(Verifier).Verify(t.Context()))
		offset, found := offsetOf(t, idx, "7")
		require.True(t, found)
		require.EqualValues(t, 59+700, offset)
		_, iterable := idx.(carindex.IterableIndex)
		require.Equal(t, format == multicodec.CarMultihashIndexSorted, iterable)
		release(idx)

		clear(whole[len(whole)-4096:])
		require.NoError(t, os.WriteFile(path, whole, 0o600))
		r.open.forget(path)
		idx = get(t, r, key)
		require.ErrorIs(t, idx.(Verifier).Verify(t.Context()), ErrDamaged)
		release(idx)
	}
}

func TestRecordsAreThoseOfForEach(t *testing.T) {
	r, _ := newFS(t)
	require.NoError(t, r.AddFullIndex(key, manyEntries(t)))
	idx := get(t, r, key)
	defer release(idx)
	var want, got []string
	require.NoError(t, idx.(carindex.IterableIndex).ForEach(func(h multihash.Multihash, offset uint64) error {
		want = append(want, fmt.Sprintf("%x %d", []byte(h), offset))
		return nil
	}))
	require.NoError(t, idx.(RecordIterator).ForEachRecord(func(code uint64, digest []byte, offset uint64) error {
		h, err := multihash.Encode(digest, code)
		got = append(got, fmt.Sprintf("%x %d", h, offset))
		return err
	}))
	require.Len(t, got, 4000)
	require.Equal(t, want, got)
}

func TestForgottenRepoClosesItsFiles(t *testing.T) {
	open := func() *openFiles {
		r, _ := newFS(t)
		require.NoError(t, r.AddFullIndex(key, smallIndex(t, "a")))
		release(get(t, r, key))
		require.Len(t, r.open.byPath, 1)
		return r.open
	}()
	left := func() int {
		open.mu.Lock()
		defer open.mu.Unlock()
		return len(open.byPath)
	}
	for deadline := time.Now().Add(10 * time.Second); left() > 0 && time.Now().Before(deadline); {
		runtime.GC()
		runtime.Gosched()
	}
	require.Zero(t, left())
}

// A collectingFS has garbage collected at each write.
type collectingFS struct{ files.FS }

type collectingFile struct{ files.File }

func (c collectingFS) CreateTemp(dir string) (files.File, error) {
	f, err := c.FS.CreateTemp(dir)
	return collectingFile{f}, err
}

func (c collectingFile) Write(p []byte) (int, error) {
	for range 5 {
		runtime.GC()
		runtime.Gosched()
	}
	return c.File.Write(p)
}

func TestIndexIsNotClosedWhileItIsCopiedToAnotherRepo(t *testing.T) {
	from, _ := newFS(t)
	require.NoError(t, from.AddFullIndex(key, manyEntries(t)))
	to, err := openFSRepo(collectingFS{files.OS}, t.TempDir())
	require.NoError(t, err)
	idx := get(t, from, key)
	from.open.forget(from.path(key)) // so that it is closed with its last user
	require.NoError(t, to.AddFullIndex(key, idx))
}
