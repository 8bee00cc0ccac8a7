package mount

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"sync"

	"github.com/filecoin-project/dagstore/internal/files"
	"github.com/filecoin-project/dagstore/internal/guard"
	"github.com/filecoin-project/dagstore/throttle"
)

// copyBuffer is how many bytes of a download are read, and written, at once.
const copyBuffer = 64 << 10

// A flight is one attempt to get a whole local copy, shared by all who fetch
// meanwhile. It has a goroutine, which alone touches the files of the Upgrader.
type flight struct {
	cancel  context.CancelFunc
	waiters int           // guarded by Upgrader.mu; none left means cancelled
	done    chan struct{} // closed when the goroutine has ended
	err     error         // its outcome, once done
}

// join waits for the flight that is under way, or for a new one, which gets the
// tap, and returns its error; or that of ctx, when ctx ends before.
func (u *Upgrader) join(ctx context.Context, t *tap) error {
	f, err := u.board(ctx, t)
	if err != nil {
		return err
	}
	select {
	case <-f.done:
		return f.err
	case <-ctx.Done():
	}
	u.mu.Lock()
	f.waiters--
	last := f.waiters == 0
	u.mu.Unlock()
	if last {
		f.cancel()
		<-f.done
	}
	return ctx.Err()
}

// board adds a waiter to the flight under way, or starts one. A flight that
// everybody has left is waited out: it may still be using the partial file.
func (u *Upgrader) board(ctx context.Context, t *tap) (*flight, error) {
	for {
		u.mu.Lock()
		f := u.flight
		left := f != nil && f.waiters == 0
		if f == nil {
			f = u.start(ctx, t)
		}
		if !left {
			f.waiters++
		}
		u.mu.Unlock()
		if !left {
			return f, nil
		}
		select {
		case <-f.done:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// start starts a flight that has no waiters yet. The values of ctx go with it,
// its end does not. The caller holds u.mu.
func (u *Upgrader) start(ctx context.Context, t *tap) *flight {
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	f := &flight{cancel: cancel, done: make(chan struct{}), err: errors.New("the mount or the tap ended the fetching goroutine")}
	u.flight = f
	go func() {
		defer func() { // also after runtime.Goexit
			cancel()
			u.mu.Lock()
			u.flight = nil
			u.mu.Unlock()
			close(f.done)
		}()
		f.err = guard.Call(func() error { return u.settle(ctx, t) })
	}()
	return f
}

// settle makes sure that a local copy is trusted: the caller's, else our own,
// else a new one.
func (u *Upgrader) settle(ctx context.Context, t *tap) error {
	if u.usesGiven() {
		info, err := u.find(u.initial)
		if err != nil {
			return err
		}
		if info != nil {
			u.know(&u.given, trusted)
			return nil
		}
		u.know(&u.given, absent)
	}
	info, err := u.find(u.ownPath())
	if err != nil {
		return err
	}
	if info == nil {
		return u.download(ctx, t)
	}
	st, err := statOf(ctx, u.underlying)
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if err != nil || !st.Exists || st.Size <= 0 || st.Size == info.Size() {
		u.know(&u.own, trusted)
		return nil
	}
	log.Warnw("transient has not the size of its source; fetching it anew",
		"shard", u.key, "size", info.Size(), "source", st.Size)
	if err := u.remove(u.ownPath()); err != nil {
		return fmt.Errorf("remove transient of the wrong size: %w", err)
	}
	return u.download(ctx, t)
}

// find returns nil if there is no file at path. Anything but a file there is an
// error, and left alone.
func (u *Upgrader) find(path string) (fs.FileInfo, error) {
	info, err := u.fsys.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err == nil {
		err = requireRegular(path, info)
	}
	if err != nil {
		return nil, fmt.Errorf("local copy: %w", err)
	}
	return info, nil
}

// download fetches from the underlying mount, when the throttler lets it.
func (u *Upgrader) download(ctx context.Context, t *tap) error {
	u.know(&u.own, unknown) // until it is there; removing a failed one may fail
	st, err := statOf(ctx, u.underlying)
	if err != nil {
		return fmt.Errorf("stat mount: %w", err)
	}
	if !st.Exists {
		return fmt.Errorf("the data of the mount does not exist (any more): %w", fs.ErrNotExist)
	}
	throttler := u.throttler
	if !st.Ready {
		throttler = throttle.Noop()
	}
	fetch := func(ctx context.Context) error { return u.fetch(ctx, t) }
	if err := throttler.Do(ctx, fetch); err != nil {
		return fmt.Errorf("fetch mount: %w", err)
	}
	return nil
}

// fetch makes a new transient. When ctx ends, it closes the source's reader, so
// that a Read that is blocked returns. The tap sees one attempt, even if the
// throttler makes several.
func (u *Upgrader) fetch(ctx context.Context, t *tap) error {
	u.mu.Lock()
	u.fetches++
	u.mu.Unlock()
	r, err := fetchFrom(ctx, u.underlying)
	if err != nil {
		return err
	}
	closeReader := sync.OnceValue(func() error { return guard.Call(r.Close) })
	stop := context.AfterFunc(ctx, func() { _ = closeReader() })
	defer func() {
		stop()
		_ = closeReader() // the data was read to its end, or there is another error
	}()
	err = u.write(ctx, io.TeeReader(r, t))
	t.complete = t.close() && err == nil
	return err
}

// write makes the transient of what r reads. On any error, and when r panics, no
// file is left.
func (u *Upgrader) write(ctx context.Context, r io.Reader) (err error) {
	if err := u.fsys.MkdirAll(u.rootdir, 0o777); err != nil {
		return err
	}
	partial, complete := u.partialPath(), u.ownPath()
	if err := u.remove(partial); err != nil { // of an earlier process; or a link, not to be followed
		return err
	}
	file, err := u.fsys.OpenFile(partial, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o666)
	if err != nil {
		return err
	}
	written := partial
	defer func() {
		if written != "" {
			err = errors.Join(err, u.remove(written))
		}
	}()
	if err := fill(ctx, file, r); err != nil {
		return err
	}
	if err := u.fsys.Rename(partial, complete); err != nil {
		return err
	}
	written = complete
	if err := u.fsys.SyncDir(u.rootdir); err != nil {
		return err
	}
	written = ""
	u.know(&u.own, trusted)
	return nil
}

// fill copies r to file, syncs it, and closes it in any case.
func fill(ctx context.Context, file files.File, r io.Reader) (err error) {
	defer func() {
		if closeErr := file.Close(); err == nil {
			err = closeErr
		}
	}()
	defer guard.Recover(&err)
	to := struct{ io.Writer }{file} // its ReadFrom would not use our buffer
	if _, err := io.CopyBuffer(to, contextReader{ctx, r}, make([]byte, copyBuffer)); err != nil {
		return err
	}
	return file.Sync()
}

// contextReader reads until its context ends. It also hides what else a reader
// can do, which a mount may not claim.
type contextReader struct {
	ctx context.Context
	r   io.Reader
}

func (r contextReader) Read(p []byte) (int, error) {
	if err := r.ctx.Err(); err != nil {
		return 0, err
	}
	return r.r.Read(p)
}
