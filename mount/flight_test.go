package mount_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"runtime"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"

	"github.com/filecoin-project/dagstore/mount"
	"github.com/filecoin-project/dagstore/throttle"
)

var content = []byte("the data of the shard")

// upgraded returns an Upgrader of m for "key" in dir.
func upgraded(t *testing.T, m mount.Mount, dir string) *mount.Upgrader {
	t.Helper()
	u, err := mount.Upgrade(m, nil, dir, "key", "")
	require.NoError(t, err)
	return u
}

// fetched returns what a Fetch of m delivers.
func fetched(t *testing.T, m mount.Mount) []byte {
	t.Helper()
	r, err := m.Fetch(t.Context())
	require.NoError(t, err)
	got, err := io.ReadAll(r)
	require.NoError(t, err)
	require.NoError(t, r.Close())
	return got
}

// names returns the names of the files in dir.
func names(t *testing.T, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	list := []string{}
	for _, e := range entries {
		list = append(list, e.Name())
	}
	return list
}

// outcome fetches in a goroutine and returns where the error will be.
func outcome(ctx context.Context, m mount.Mount) chan error {
	out := make(chan error, 1)
	go func() {
		r, err := m.Fetch(ctx)
		if err == nil {
			err = r.Close()
		}
		out <- err
	}()
	return out
}

// Defect 2b: the caller who gave up first took the shard from all others.
func TestOneCallersCancellationLeavesTheOthersTheirData(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		source := newBlocked()
		m := &remote{fetch: func(context.Context) (mount.Reader, error) { return source, nil }}
		u := upgraded(t, m, t.TempDir())
		ctx, cancel := context.WithCancel(t.Context())
		first := outcome(ctx, u)
		synctest.Wait()
		second := outcome(t.Context(), u)
		synctest.Wait()
		cancel()
		require.ErrorIs(t, <-first, context.Canceled, "who gives up is answered at once")
		synctest.Wait()
		require.Empty(t, second)
		close(source.release)
		require.NoError(t, <-second)
		require.Equal(t, "x", string(fetched(t, u)))
		require.EqualValues(t, 1, m.fetched.Load())
		require.Equal(t, 1, u.TimesFetched())
	})
}

// A download that nobody waits for any more goes on for nobody.
func TestLastCallerToGiveUpEndsTheDownload(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		source, dir := newBlocked(), t.TempDir()
		var fetching context.Context
		u := upgraded(t, &remote{fetch: func(ctx context.Context) (mount.Reader, error) {
			fetching = ctx
			return source, nil
		}}, dir)
		ctx, cancel := context.WithCancel(t.Context())
		first, second := outcome(ctx, u), outcome(ctx, u)
		synctest.Wait()
		require.Equal(t, []string{"transient-key.partial"}, names(t, dir))
		require.NoError(t, fetching.Err())
		cancel()
		require.ErrorIs(t, <-first, context.Canceled)
		require.ErrorIs(t, <-second, context.Canceled)
		require.Empty(t, names(t, dir), "and has ended when the last one is answered")
		require.ErrorIs(t, fetching.Err(), context.Canceled)
		<-source.closed
		require.Empty(t, u.TransientPath())
	})
}

func TestSourceThatHeedsNothingDoesNotFillTheDisk(t *testing.T) {
	dir := t.TempDir()
	ctx, cancel := context.WithCancel(t.Context())
	u := upgraded(t, &remote{fetch: func(context.Context) (mount.Reader, error) { return &endless{reading: cancel}, nil }}, dir)
	_, err := u.Fetch(ctx)
	require.ErrorIs(t, err, context.Canceled)
	require.Empty(t, names(t, dir))
}

// The files of a cancelled download and of the next one are the same.
func TestFetchAfterCancellationWaitsForItsEndAndStartsAnew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		stubborn := make(chan struct{})
		m := &remote{}
		m.fetch = func(context.Context) (mount.Reader, error) {
			if m.fetched.Load() == 1 {
				<-stubborn // whatever becomes of the context
				return nil, errors.New("too late")
			}
			return &mount.NopCloser{Reader: bytes.NewReader(content)}, nil
		}
		u := upgraded(t, m, t.TempDir())
		ctx, cancel := context.WithCancel(t.Context())
		first := outcome(ctx, u)
		synctest.Wait()
		cancel()
		synctest.Wait()
		require.Empty(t, first, "the last one waits for the download to end")

		impatient, giveUp := context.WithCancel(t.Context())
		second, third := outcome(impatient, u), outcome(t.Context(), u)
		synctest.Wait()
		giveUp()
		require.ErrorIs(t, <-second, context.Canceled)
		require.EqualValues(t, 1, m.fetched.Load())
		close(stubborn)
		require.ErrorIs(t, <-first, context.Canceled)
		require.NoError(t, <-third)
		require.EqualValues(t, 2, m.fetched.Load())
	})
}

// Defect 2: after one failure the mount was never fetched again.
func TestFailedFetchIsTriedAgain(t *testing.T) {
	m := &remote{content: content}
	failure := errors.New("the network is down")
	down := func(context.Context) (mount.Reader, error) { return nil, failure }
	m.fetch = down
	dir := t.TempDir()
	u := upgraded(t, m, dir)
	for range 3 {
		_, err := u.Fetch(t.Context())
		require.ErrorIs(t, err, failure)
	}
	require.ErrorIs(t, u.Prepare(t.Context()), failure)
	require.Empty(t, names(t, dir))
	m.fetch = nil
	require.Equal(t, content, fetched(t, u))
	require.Equal(t, 5, u.TimesFetched())
}

func TestHundredFetchesAreOneDownload(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		source := newBlocked()
		m := &remote{fetch: func(context.Context) (mount.Reader, error) { return source, nil }}
		u := upgraded(t, m, t.TempDir())
		var all []chan error
		for range 100 {
			all = append(all, outcome(t.Context(), u))
		}
		synctest.Wait()
		close(source.release)
		for _, out := range all {
			require.NoError(t, <-out)
		}
		require.EqualValues(t, 1, m.fetched.Load())
	})
}

// Defect 21: a panic in a mount ended the process.
func TestPanicsInAMountAreErrors(t *testing.T) {
	boom := func() { panic("boom") }
	for name, m := range map[string]*remote{
		"Fetch": {fetch: func(context.Context) (mount.Reader, error) { boom(); return nil, nil }},
		"Stat":  {stat: func(context.Context) (mount.Stat, error) { boom(); return mount.Stat{}, nil }},
		"Read":  {fetch: func(context.Context) (mount.Reader, error) { return &misbehaving{f: boom}, nil }},
		"nil":   {fetch: func(context.Context) (mount.Reader, error) { return &mount.NopCloser{}, nil }},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			u := upgraded(t, m, dir)
			_, err := u.Fetch(t.Context())
			require.ErrorContains(t, err, "panic")
			require.Empty(t, names(t, dir))
			m.fetch, m.stat, m.content = nil, nil, content
			require.Equal(t, content, fetched(t, u))
		})
	}
	_, err := mount.Upgrade(&remote{info: func() mount.Info { panic("boom") }}, nil, t.TempDir(), "key", "")
	require.ErrorContains(t, err, "boom")
	u := upgraded(t, &remote{fetch: func(context.Context) (mount.Reader, error) {
		return &misbehavingClose{mount.NopCloser{Reader: bytes.NewReader(content)}}, nil
	}}, t.TempDir())
	require.Equal(t, content, fetched(t, u))
	_, err = upgraded(t, &panicking{}, t.TempDir()).Fetch(t.Context())
	require.ErrorContains(t, err, "boom")
	_, err = upgraded(t, &panicking{}, t.TempDir()).Stat(t.Context())
	require.ErrorContains(t, err, "boom")
	require.ErrorContains(t, upgraded(t, &panicking{}, t.TempDir()).Close(), "boom")
}

// panicking is a mount that is passed through and panics.
type panicking struct{ mount.BytesMount }

func (*panicking) Fetch(context.Context) (mount.Reader, error) { panic("boom") }
func (*panicking) Stat(context.Context) (mount.Stat, error)    { panic("boom") }
func (*panicking) Close() error                                { panic("boom") }

// A test's mount may call t.FailNow, which ends the goroutine it is called in.
func TestMountThatEndsItsGoroutineHangsNobody(t *testing.T) {
	for _, m := range []*remote{
		{fetch: func(context.Context) (mount.Reader, error) { runtime.Goexit(); return nil, nil }},
		{fetch: func(context.Context) (mount.Reader, error) { return &misbehaving{f: runtime.Goexit}, nil }},
	} {
		dir := t.TempDir()
		u := upgraded(t, m, dir)
		_, err := u.Fetch(t.Context())
		require.ErrorContains(t, err, "ended the fetching goroutine")
		require.Empty(t, names(t, dir))
		m.fetch, m.content = nil, content
		require.Equal(t, content, fetched(t, u))
	}
}

// 10,000 registrations must not open 10,000 connections that then wait.
func TestReadyMountsAreThrottledBeforeAnythingIsOpened(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		throttler, dir := throttle.Fixed(1), t.TempDir()
		source := newBlocked()
		first := &remote{fetch: func(context.Context) (mount.Reader, error) { return source, nil }}
		ready := &remote{content: content}
		slow := &remote{content: content, stat: func(context.Context) (mount.Stat, error) {
			return mount.Stat{Exists: true, Size: int64(len(content))}, nil
		}}
		var outs []chan error
		for key, m := range map[string]*remote{"first": first, "slow": slow} {
			u, err := mount.Upgrade(m, throttler, dir, key, "")
			require.NoError(t, err)
			outs = append(outs, outcome(t.Context(), u))
		}
		synctest.Wait()
		u, err := mount.Upgrade(ready, throttler, dir, "ready", "")
		require.NoError(t, err)
		outs = append(outs, outcome(t.Context(), u))
		synctest.Wait()
		require.Zero(t, ready.fetched.Load())
		require.Equal(t, []string{"transient-first.partial", "transient-slow.complete"}, names(t, dir))

		ctx, cancel := context.WithCancel(t.Context())
		other, err := mount.Upgrade(ready, throttler, dir, "other", "")
		require.NoError(t, err)
		waiting := outcome(ctx, other)
		synctest.Wait()
		cancel()
		require.ErrorIs(t, <-waiting, context.Canceled)

		close(source.release)
		for _, out := range outs {
			require.NoError(t, <-out)
		}
		require.EqualValues(t, 1, ready.fetched.Load())
	})
}

func TestSourceThatIsGoneIsTold(t *testing.T) {
	m := &remote{stat: func(context.Context) (mount.Stat, error) { return mount.Stat{}, nil }}
	_, err := upgraded(t, m, t.TempDir()).Fetch(t.Context())
	require.ErrorIs(t, err, fs.ErrNotExist)
	m.stat = func(context.Context) (mount.Stat, error) { return mount.Stat{}, io.ErrNoProgress }
	_, err = upgraded(t, m, t.TempDir()).Fetch(t.Context())
	require.ErrorIs(t, err, io.ErrNoProgress)
	require.Zero(t, m.fetched.Load())
	_, err = upgraded(t, &remote{fetch: func(context.Context) (mount.Reader, error) { return nil, nil }}, t.TempDir()).Fetch(t.Context())
	require.ErrorContains(t, err, "no reader")
}

func TestDoneContextStartsNothing(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	m := &remote{content: content}
	_, err := upgraded(t, m, t.TempDir()).Fetch(ctx)
	require.ErrorIs(t, err, context.Canceled)
	require.Zero(t, m.fetched.Load())
}

type valueKey struct{}

func TestDownloadHasTheValuesOfItsFirstCaller(t *testing.T) {
	m := &remote{fetch: func(ctx context.Context) (mount.Reader, error) {
		return &mount.NopCloser{Reader: bytes.NewReader(ctx.Value(valueKey{}).([]byte))}, nil
	}}
	r, err := upgraded(t, m, t.TempDir()).Fetch(context.WithValue(t.Context(), valueKey{}, content))
	require.NoError(t, err)
	require.NoError(t, r.Close())
}

// Defect 16: Stat raced with Fetch.
func TestAllMethodsMayRunAtOnce(t *testing.T) {
	m := &remote{content: content}
	u := upgraded(t, m, t.TempDir())
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for range 20 {
				if r, err := u.Fetch(t.Context()); err == nil {
					_ = r.Close()
				} else if !errors.Is(err, fs.ErrNotExist) && u.TimesFetched() == 0 {
					t.Error(err)
				}
			}
		})
		wg.Go(func() {
			for range 20 {
				if st, err := u.Stat(t.Context()); err != nil || st.Size != int64(len(content)) {
					t.Error(st, err)
				}
				_ = u.TransientPath()
				_ = u.DeleteTransient()
				u.AssumeTransient(false)
			}
		})
	}
	wg.Wait()
	require.Equal(t, content, fetched(t, u))
}
