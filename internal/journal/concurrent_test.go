package journal_test

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"

	"github.com/filecoin-project/dagstore/internal/fault"
	"github.com/filecoin-project/dagstore/internal/files"
	"github.com/filecoin-project/dagstore/internal/journal"
)

// A slowDisk makes each sync wait for a permit.
type slowDisk struct {
	files.FS
	permits chan struct{}
}

func (d slowDisk) OpenFile(path string, flag int, perm os.FileMode) (files.File, error) {
	f, err := d.FS.OpenFile(path, flag, perm)
	return slowFile{f, d.permits}, err
}

type slowFile struct {
	files.File
	permits chan struct{}
}

func (f slowFile) Sync() error {
	<-f.permits
	return f.File.Sync()
}

// slow returns a journal of one entry whose next sync waits for a permit.
func slow(t *testing.T, inj *fault.Injector, path string) (*journal.Journal, chan struct{}) {
	d := slowDisk{fault.FS(files.OS, inj), make(chan struct{}, 100)}
	d.permits <- struct{}{}
	j, err := journal.Create(d, path, entries("begin"))
	require.NoError(t, err)
	inj.Reset()
	return j, d.permits
}

func TestThoseThatWaitTogetherShareOneWriteAndOneSync(t *testing.T) {
	path := newPath(t)
	synctest.Test(t, func(t *testing.T) {
		inj := fault.Never()
		j, permits := slow(t, inj, path)
		var wg sync.WaitGroup
		var order []string // without a lock: done is never called at the same time
		appends := func(texts ...string) {
			for _, text := range texts {
				wg.Go(func() {
					done := false
					require.NoError(t, j.Append(ctx, []byte(text), func() {
						order = append(order, text)
						done = true
					}))
					require.True(t, done, "done comes before the answer")
				})
			}
			synctest.Wait()
		}
		appends("first")
		appends(numbered(20)...)
		require.Equal(t, 1, inj.Count(fault.Write), "of the first, which is being synced")
		require.Empty(t, order, "nothing is durable yet")

		permits <- struct{}{}
		synctest.Wait()
		require.Equal(t, []string{"first"}, order)
		require.Equal(t, 2, inj.Count(fault.Write))
		permits <- struct{}{}
		wg.Wait()
		require.Len(t, order, 21)
		require.Equal(t, 2, inj.Count(fault.Write))
		require.Equal(t, 2, inj.Count(fault.Sync))
		require.NoError(t, j.Close())
		require.Equal(t, append([]string{"begin"}, order...), reopened(t, path))
	})
}

func TestGroupsAreBounded(t *testing.T) {
	path := newPath(t)
	synctest.Test(t, func(t *testing.T) {
		inj := fault.Never()
		j, permits := slow(t, inj, path)
		var wg sync.WaitGroup
		entry := []byte(strings.Repeat("x", 400<<10))
		for range 7 {
			wg.Go(func() { require.NoError(t, j.Append(ctx, entry, nil)) })
			synctest.Wait()
		}
		for range 4 {
			permits <- struct{}{}
		}
		wg.Wait()
		require.Equal(t, 3, inj.Count(fault.Write), "one, three and three entries")
		require.NoError(t, j.Close())
	})
}

func TestFailedGroupFailsForEachOfIt(t *testing.T) {
	path := newPath(t)
	synctest.Test(t, func(t *testing.T) {
		inj := fault.OnIndex(1).Match(fault.Is(fault.Sync))
		j, permits := slow(t, inj, path)
		var wg sync.WaitGroup
		wg.Go(func() { require.NoError(t, j.Append(ctx, []byte("good"), nil)) })
		synctest.Wait()
		for range 5 {
			wg.Go(func() {
				require.ErrorIs(t, j.Append(ctx, []byte("bad"), func() { t.Error("done") }), fault.ErrInjected)
			})
		}
		synctest.Wait()
		for range 3 { // the last one for taking back
			permits <- struct{}{}
		}
		wg.Wait()
		require.Equal(t, 2, inj.Count(fault.Write))
		require.NoError(t, j.Close())
	})
}

func TestCancelledAppendIsWrittenOrNot(t *testing.T) {
	path := newPath(t)
	synctest.Test(t, func(t *testing.T) {
		j, permits := slow(t, fault.Never(), path)
		cancelled, cancel := context.WithCancel(ctx)
		var wg sync.WaitGroup
		wg.Go(func() {
			require.NoError(t, j.Append(cancelled, []byte("begun"), nil), "its write had begun")
		})
		synctest.Wait()
		gone := make(chan error, 1)
		go func() { gone <- j.Append(cancelled, []byte("waiting"), func() { t.Error("done") }) }()
		synctest.Wait()
		cancel()
		require.ErrorIs(t, <-gone, context.Canceled, "it does not wait for the sync of another")
		permits <- struct{}{}
		wg.Wait()
		for range 20 {
			require.ErrorIs(t, j.Append(cancelled, []byte("late"), nil), context.Canceled)
		}
		require.NoError(t, j.Close())
		require.Equal(t, []string{"begin", "begun"}, reopened(t, path))
	})
}

func TestCloseWaitsForWhatIsBeingWritten(t *testing.T) {
	path := newPath(t)
	synctest.Test(t, func(t *testing.T) {
		j, permits := slow(t, fault.Never(), path)
		var wg sync.WaitGroup
		wg.Go(func() { require.NoError(t, j.Append(ctx, []byte("begun"), nil)) })
		synctest.Wait()
		refused := make(chan error, 1)
		go func() { refused <- j.Append(ctx, []byte("waiting"), nil) }()
		synctest.Wait()
		var closed atomic.Bool
		for range 2 {
			wg.Go(func() {
				require.NoError(t, j.Close())
				closed.Store(true)
			})
			synctest.Wait()
			require.False(t, closed.Load())
		}
		require.ErrorIs(t, <-refused, fs.ErrClosed)
		permits <- struct{}{}
		wg.Wait()
		require.Equal(t, []string{"begin", "begun"}, reopened(t, path))
	})
}

func TestManyAppendersAndAReaderThatFollows(t *testing.T) {
	const appenders, each = 16, 40
	path := newPath(t)
	inj := fault.Never()
	j, err := journal.Create(faulty(inj), path, entries("begin"))
	require.NoError(t, err)
	order := []string{"begin"} // without a lock: done is never called at the same time
	var wg sync.WaitGroup
	for a := range appenders {
		wg.Go(func() {
			for i := range each {
				text := fmt.Sprint(a, " ", i, strings.Repeat(".", a*i))
				require.NoError(t, j.Append(ctx, []byte(text), func() { order = append(order, text) }))
			}
		})
	}
	var seen []string
	var at journal.Position
	for len(seen) < 1+appenders*each {
		acknowledged := j.Size()
		texts, to, err := followed(path, at)
		require.NoError(t, err)
		require.GreaterOrEqual(t, to.Offset, acknowledged, "what is acknowledged is seen")
		seen, at = append(seen, texts...), to
	}
	wg.Wait()
	require.NoError(t, j.Close())
	require.Equal(t, order, seen)
	require.Equal(t, order, reopened(t, path))
	require.Less(t, inj.Count(fault.Sync), appenders*each, "syncs are shared")
	t.Log("syncs", inj.Count(fault.Sync), "of", appenders*each)
}

func TestReaderFindsThatItSawWhatWasTakenBack(t *testing.T) {
	for _, next := range []string{"Good", "another length"} { // "Good" ends where "lost" ended
		path := newPath(t)
		write(t, path, "kept")
		_, before, err := followed(path, journal.Position{})
		require.NoError(t, err)

		write := func(text string) {
			j, _, err := open(files.OS, path)
			require.NoError(t, err)
			require.NoError(t, j.Append(ctx, []byte(text), nil))
			require.NoError(t, j.Close())
		}
		write("lost")
		seen, at, err := followed(path, before)
		require.NoError(t, err)
		require.Equal(t, []string{"lost"}, seen)

		require.NoError(t, os.Truncate(path, before.Offset))
		_, _, err = followed(path, at)
		require.ErrorIs(t, err, journal.ErrDamaged, "it has become shorter")

		write(next)
		write("more")
		seen, _, err = followed(path, at)
		require.ErrorIs(t, err, journal.ErrDamaged)
		require.Empty(t, seen)
		seen, _, err = followed(path, journal.Position{})
		require.NoError(t, err)
		require.Equal(t, []string{"begin", "snapshot", "kept", next, "more"}, seen)
	}
}

func TestReaderTakesATornTailForTheEnd(t *testing.T) {
	path := newPath(t)
	_, ends := small(t, path)
	whole := contents(t, path)
	last := ends[len(ends)-2]
	replace(t, path, whole[:last])
	_, at, err := followed(path, journal.Position{})
	require.NoError(t, err)
	for size := last; size < int64(len(whole)); size++ {
		replace(t, path, whole[:size])
		seen, to, err := followed(path, at)
		require.NoError(t, err)
		require.Empty(t, seen)
		require.Equal(t, at, to)
	}
	replace(t, path, whole)
	seen, to, err := followed(path, at)
	require.NoError(t, err)
	require.Equal(t, []string{"a longer entry"}, seen)
	require.Equal(t, int64(len(whole)), to.Offset)
}
