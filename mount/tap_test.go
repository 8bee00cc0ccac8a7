package mount_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"testing"
	"testing/iotest"
	"testing/synctest"

	"github.com/stretchr/testify/require"

	"github.com/filecoin-project/dagstore/internal/cartest"
	"github.com/filecoin-project/dagstore/internal/fault"
	"github.com/filecoin-project/dagstore/internal/files"
	"github.com/filecoin-project/dagstore/mount"
)

// writerFunc is a tap.
type writerFunc func(p []byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

// untouched is a tap that must not get anything.
func untouched(t *testing.T) io.Writer {
	return writerFunc(func(p []byte) (int, error) {
		t.Errorf("tap got %d bytes", len(p))
		return len(p), nil
	})
}

// A prepared is what PrepareTapped returned.
type prepared struct {
	complete bool
	err      error
}

// tapped calls PrepareTapped in a goroutine and returns where its results will be.
func tapped(ctx context.Context, u *mount.Upgrader, tap io.Writer) chan prepared {
	out := make(chan prepared, 1)
	go func() {
		complete, err := u.PrepareTapped(ctx, tap)
		out <- prepared{complete, err}
	}()
	return out
}

// reading returns a mount whose Fetch returns r.
func reading(r io.Reader) *remote {
	return &remote{fetch: func(context.Context) (mount.Reader, error) { return &mount.NopCloser{Reader: r}, nil }}
}

func TestTapSeesEveryByteBeforeTheFileDoes(t *testing.T) {
	for _, size := range []int{0, 1, 64 << 10, 1_000_000} {
		data := cartest.Bytes(rand.New(rand.NewPCG(uint64(size), 0)), size)
		for name, source := range map[string]io.Reader{
			"as it comes": bytes.NewReader(data),
			"half reads":  iotest.HalfReader(bytes.NewReader(data)),
			"end at once": iotest.DataErrReader(bytes.NewReader(data)),
		} {
			dir := t.TempDir()
			u := upgraded(t, reading(source), dir)
			var seen bytes.Buffer
			largest := 0
			complete, err := u.PrepareTapped(t.Context(), writerFunc(func(p []byte) (int, error) {
				largest = max(largest, len(p))
				info, err := os.Stat(filepath.Join(dir, "transient-key.partial"))
				require.NoError(t, err)
				require.Equal(t, int64(seen.Len()), info.Size())
				return seen.Write(p)
			}))
			require.NoError(t, err)
			require.True(t, complete)
			if name == "as it comes" {
				require.Equal(t, min(size, 64<<10), largest, "few, large pieces")
			}
			require.True(t, bytes.Equal(data, seen.Bytes()), "%s, %d bytes", name, size)
			require.True(t, bytes.Equal(data, fetched(t, u)), "%s, %d bytes", name, size)
			require.Equal(t, 1, u.TimesFetched())
		}
	}
}

func TestTapGetsNothingOfWhatIsNotDownloadedForIt(t *testing.T) {
	capable := func() mount.Info { return mount.Info{AccessSequential: true, AccessSeek: true, AccessRandom: true} }
	given := filepath.Join(t.TempDir(), "a.car")
	write(t, given, content)
	earlier := t.TempDir()
	write(t, filepath.Join(earlier, complete), content)
	for name, c := range map[string]struct {
		m            *remote
		dir, initial string
	}{
		"copy of an earlier process": {m: &remote{content: content}, dir: earlier},
		"copy of the user":           {m: &remote{content: content}, dir: t.TempDir(), initial: given},
		"passed through":             {m: &remote{content: content, info: capable}, dir: t.TempDir()},
	} {
		t.Run(name, func(t *testing.T) {
			u, err := mount.Upgrade(c.m, nil, c.dir, "key", c.initial)
			require.NoError(t, err)
			for range 2 {
				complete, err := u.PrepareTapped(t.Context(), untouched(t))
				require.NoError(t, err)
				require.False(t, complete)
			}
			require.Zero(t, c.m.fetched.Load())
		})
	}
	u := upgraded(t, &remote{content: content}, t.TempDir())
	require.NoError(t, u.Prepare(t.Context()))
	complete, err := u.PrepareTapped(t.Context(), untouched(t))
	require.NoError(t, err)
	require.False(t, complete, "copy of this process")

	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = upgraded(t, &remote{content: content}, t.TempDir()).PrepareTapped(ctx, untouched(t))
	require.ErrorIs(t, err, context.Canceled)
}

func TestNoTapIsAPrepare(t *testing.T) {
	u := upgraded(t, &remote{content: content}, t.TempDir())
	complete, err := u.PrepareTapped(t.Context(), nil)
	require.NoError(t, err)
	require.False(t, complete)
	require.Equal(t, content, fetched(t, u))
	require.Equal(t, 1, u.TimesFetched())
}

func TestTapSeesTheFetchOfWhatReplacesAUselessCopy(t *testing.T) {
	dir := t.TempDir()
	write(t, filepath.Join(dir, complete), content[1:]) // of the wrong size
	u := upgraded(t, &remote{content: content}, dir)
	for range 2 {
		var seen bytes.Buffer
		complete, err := u.PrepareTapped(t.Context(), &seen)
		require.NoError(t, err)
		require.True(t, complete)
		require.Equal(t, content, seen.Bytes())
		require.NoError(t, os.RemoveAll(dir)) // by somebody else
	}
}

func TestOnlyTheCallerWhoStartsADownloadSeesIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		source := newBlocked()
		u := upgraded(t, &remote{fetch: func(context.Context) (mount.Reader, error) { return source, nil }}, t.TempDir())
		var seen bytes.Buffer
		first := tapped(t.Context(), u, &seen)
		synctest.Wait()
		second := tapped(t.Context(), u, untouched(t))
		synctest.Wait()
		close(source.release)
		require.Equal(t, prepared{complete: true}, <-first)
		require.Equal(t, prepared{}, <-second)
		require.Equal(t, "x", seen.String())
	})
}

func TestFailingTapEndsTheDownloadForAll(t *testing.T) {
	full := errors.New("this is not a CAR")
	for name, c := range map[string]struct {
		tap  writerFunc
		want error
	}{
		"error":       {func(p []byte) (int, error) { return 3, full }, full},
		"panic":       {func([]byte) (int, error) { panic(full) }, full},
		"short write": {func(p []byte) (int, error) { return len(p) - 1, nil }, io.ErrShortWrite},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				dir, joined := t.TempDir(), make(chan struct{})
				m := &remote{content: content}
				u := upgraded(t, m, dir)
				calls := 0
				first := tapped(t.Context(), u, writerFunc(func(p []byte) (int, error) {
					calls++
					<-joined
					return c.tap(p)
				}))
				synctest.Wait()
				second := outcome(t.Context(), u)
				synctest.Wait()
				close(joined)
				got := <-first
				require.ErrorIs(t, got.err, c.want)
				require.False(t, got.complete)
				require.ErrorIs(t, <-second, c.want)
				require.Empty(t, names(t, dir))
				require.Equal(t, 1, calls)

				require.Equal(t, content, fetched(t, u), "the next fetch works")
				require.EqualValues(t, 2, m.fetched.Load())
			})
		})
	}
}

// A test's tap may call t.FailNow, which ends the goroutine it is called in.
func TestTapThatEndsItsGoroutineHangsNobody(t *testing.T) {
	dir := t.TempDir()
	u := upgraded(t, &remote{content: content}, dir)
	complete, err := u.PrepareTapped(t.Context(), writerFunc(func([]byte) (int, error) { runtime.Goexit(); return 0, nil }))
	require.ErrorContains(t, err, "ended the fetching goroutine")
	require.False(t, complete)
	require.Empty(t, names(t, dir))
	require.Equal(t, content, fetched(t, u))
}

// steps is a reader that delivers what is sent to it, until that is closed.
type steps chan []byte

func (s steps) Read(p []byte) (int, error) {
	b, more := <-s
	if !more {
		return 0, io.EOF
	}
	return copy(p, b), nil
}

// The caller's writer may be gone when PrepareTapped has returned: the race
// detector watches seen, which has no lock.
func TestCallerWhoLeavesTakesTheTapAndTheOthersKeepTheirDownload(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		source := make(steps)
		u := upgraded(t, reading(source), t.TempDir())
		ctx, cancel := context.WithCancel(t.Context())
		var seen bytes.Buffer
		first := tapped(ctx, u, &seen)
		synctest.Wait()
		second := outcome(t.Context(), u)
		source <- []byte("seen,")
		synctest.Wait()
		cancel()
		require.Equal(t, prepared{err: context.Canceled}, <-first)
		require.Equal(t, "seen,", seen.String())
		seen.Reset()
		for range 100 {
			source <- []byte(" unseen")
			seen.WriteString("mine")
		}
		close(source)
		require.NoError(t, <-second)
		require.Equal(t, bytes.Repeat([]byte("mine"), 100), seen.Bytes())
		require.Len(t, fetched(t, u), 5+100*7)
		require.Equal(t, 1, u.TimesFetched())
	})
}

// A tap is busy, or fails, because its caller gives up: no matter of the others'.
func TestWriteInProgressIsWaitedForAndItsErrorIsOfNobodyElse(t *testing.T) {
	for name, end := range map[string]func() (int, error){
		"done":  func() (int, error) { return len(content), nil },
		"error": func() (int, error) { return 0, context.Canceled },
		"panic": func() (int, error) { panic("boom") },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				u := upgraded(t, reading(io.MultiReader(bytes.NewReader(content), bytes.NewReader(content))), t.TempDir())
				ctx, cancel := context.WithCancel(t.Context())
				release, calls := make(chan struct{}), 0
				first := tapped(ctx, u, writerFunc(func([]byte) (int, error) {
					calls++
					<-release
					return end()
				}))
				synctest.Wait()
				second := outcome(t.Context(), u)
				synctest.Wait()
				cancel()
				for range 1000 { // synctest does not wait for who waits for a lock
					runtime.Gosched()
				}
				require.Empty(t, first, "the tap is in use")
				close(release)
				got := <-first
				require.ErrorIs(t, got.err, context.Canceled)
				require.False(t, got.complete)
				require.Equal(t, 1, calls)
				require.NoError(t, <-second)
				require.Equal(t, append(content[:len(content):len(content)], content...), fetched(t, u))
				require.Equal(t, 1, u.TimesFetched())
			})
		})
	}
}

func TestLastCallerToLeaveEndsTheTappedDownload(t *testing.T) {
	dir := t.TempDir()
	ctx, cancel := context.WithCancel(t.Context())
	u := upgraded(t, reading(&endless{reading: func() {}}), dir)
	complete, err := u.PrepareTapped(ctx, writerFunc(func(p []byte) (int, error) {
		cancel()
		return len(p), nil
	}))
	require.ErrorIs(t, err, context.Canceled)
	require.False(t, complete)
	require.Empty(t, names(t, dir))
}

func TestTapOfADownloadThatFailsIsNotComplete(t *testing.T) {
	broken := errors.New("the network is down")
	dir := t.TempDir()
	u := upgraded(t, reading(io.MultiReader(bytes.NewReader(content), iotest.ErrReader(broken))), dir)
	var seen bytes.Buffer
	complete, err := u.PrepareTapped(t.Context(), &seen)
	require.ErrorIs(t, err, broken)
	require.False(t, complete)
	require.Equal(t, content, seen.Bytes())
	require.Empty(t, names(t, dir))
}

func TestTapIsNotCompleteUnlessTheFileIs(t *testing.T) {
	for n := 0; ; n++ {
		inj := fault.OnIndex(n)
		u, err := mount.UpgradeOn(fault.FS(files.OS, inj), &remote{content: content}, nil, t.TempDir(), "key", "")
		require.NoError(t, err)
		var seen bytes.Buffer
		complete, err := u.PrepareTapped(t.Context(), &seen)
		if inj.Fired() == 0 {
			require.NoError(t, err)
			require.True(t, complete)
			require.Greater(t, n, 8, "operations were injected")
			break
		}
		require.ErrorIs(t, err, fault.ErrInjected, "operation %d", n)
		require.False(t, complete, "operation %d", n)
	}
}

// The copy that the tap has seen is removed before it is opened; another is made
// of a source that may have changed.
func TestTapIsNotCompleteWhenItsCopyVanishes(t *testing.T) {
	gone := fault.OnIndex(0).Match(fault.Is(fault.Open)).WithError(os.ErrNotExist)
	m := &remote{content: content}
	u, err := mount.UpgradeOn(fault.FS(files.OS, gone), m, nil, t.TempDir(), "key", "")
	require.NoError(t, err)
	var seen bytes.Buffer
	complete, err := u.PrepareTapped(t.Context(), &seen)
	require.NoError(t, err)
	require.Equal(t, 1, gone.Fired())
	require.False(t, complete)
	require.Equal(t, content, seen.Bytes())
}

// insistent is a throttler that runs an action that failed again.
type insistent struct{}

func (insistent) Do(ctx context.Context, action func(context.Context) error) error {
	if action(ctx) == nil {
		return nil
	}
	return action(ctx)
}

func TestTapSeesOneAttemptOnly(t *testing.T) {
	m := &remote{}
	m.fetch = func(context.Context) (mount.Reader, error) {
		r := io.Reader(bytes.NewReader(content))
		if m.fetched.Load() == 1 {
			r = io.MultiReader(r, iotest.ErrReader(io.ErrUnexpectedEOF))
		}
		return &mount.NopCloser{Reader: r}, nil
	}
	u, err := mount.Upgrade(m, insistent{}, t.TempDir(), "key", "")
	require.NoError(t, err)
	var seen bytes.Buffer
	complete, err := u.PrepareTapped(t.Context(), &seen)
	require.NoError(t, err)
	require.False(t, complete)
	require.Equal(t, content, seen.Bytes())
	require.Equal(t, content, fetched(t, u))
	require.EqualValues(t, 2, m.fetched.Load())
}
