package mount_test

import (
	"bytes"
	"context"
	"io"
	"io/fs"
	"net/url"
	"sync/atomic"

	"github.com/filecoin-project/dagstore/mount"
)

// remote is a mount that can only be read from start to end. Its parts may be
// replaced.
type remote struct {
	content []byte
	stat    func(context.Context) (mount.Stat, error)
	fetch   func(context.Context) (mount.Reader, error)
	info    func() mount.Info
	fetched atomic.Int32
}

func (r *remote) Fetch(ctx context.Context) (mount.Reader, error) {
	r.fetched.Add(1)
	if r.fetch != nil {
		return r.fetch(ctx)
	}
	return &mount.NopCloser{Reader: bytes.NewReader(r.content)}, nil
}

func (r *remote) Stat(ctx context.Context) (mount.Stat, error) {
	if r.stat != nil {
		return r.stat(ctx)
	}
	return mount.Stat{Exists: true, Size: int64(len(r.content)), Ready: true}, nil
}

func (r *remote) Info() mount.Info {
	if r.info != nil {
		return r.info()
	}
	return mount.Info{Kind: mount.KindRemote, AccessSequential: true}
}

func (r *remote) Serialize() *url.URL        { return &url.URL{Host: "remote"} }
func (r *remote) Deserialize(*url.URL) error { return nil }
func (r *remote) Close() error               { return nil }

// blocked is a reader that delivers one byte and then blocks until it is closed
// or released, after which it ends.
type blocked struct {
	mount.NopCloser
	sent    bool
	closed  chan struct{}
	release chan struct{}
}

func newBlocked() *blocked {
	return &blocked{closed: make(chan struct{}), release: make(chan struct{})}
}

func (b *blocked) Read(p []byte) (int, error) {
	if !b.sent {
		b.sent = true
		return copy(p, "x"), nil
	}
	select {
	case <-b.closed:
		return 0, fs.ErrClosed
	case <-b.release:
		return 0, io.EOF
	}
}

func (b *blocked) Close() error {
	close(b.closed) // panics the second time: readers are closed once
	return nil
}

// endless is a reader that heeds nothing.
type endless struct {
	mount.NopCloser
	reading func()
}

func (e *endless) Read(p []byte) (int, error) {
	e.reading()
	return len(p), nil
}

// misbehaving calls f in whatever a reader does.
type misbehaving struct {
	mount.NopCloser
	f func()
}

func (m *misbehaving) Read([]byte) (int, error) { m.f(); return 0, io.EOF }

type misbehavingClose struct {
	mount.NopCloser
}

func (*misbehavingClose) Close() error { panic("boom") }
