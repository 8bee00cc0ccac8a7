// Package mount says where the data of shards comes from. A [Mount] fetches the
// data from its source; a [Registry] turns mounts into URLs and back, so that
// they outlive the process; an [Upgrader] gives a mount that can only be read
// from start to end a local copy with random access.
//
// # Implementing a mount
//
// A mount is a value of any type that implements Mount, commonly a pointer to a
// struct. What it needs to find its data goes into the URL that Serialize
// returns; what all mounts of a type share, such as a client, goes into the
// template that is registered. The suite in package mounttest tests a mount
// against the contract.
//
// # URLs
//
// A URL is stored as text. It has to survive [net/url.URL.String] and
// [ParseURL], with the scheme that the registry gives it. Percent-escapes of
// ASCII characters do not survive in the host: put paths into Path, or into
// Opaque with [net/url.PathEscape].
package mount

import (
	"context"
	"errors"
	"io"
	"net/url"
)

var (
	// ErrSeekUnsupported is returned by readers that cannot seek.
	ErrSeekUnsupported = errors.New("mount does not support seek")

	// ErrRandomAccessUnsupported is returned by readers without random access.
	ErrRandomAccessUnsupported = errors.New("mount does not support random access")
)

// Kind tells where the data of a mount is.
type Kind int

const (
	// KindLocal is data on this machine.
	KindLocal Kind = iota
	// KindRemote is data that is fetched from elsewhere.
	KindRemote
)

// A Mount is a source of data that does not change. Its methods are called
// concurrently. A panic in one of them becomes an error of what called it.
type Mount interface {
	io.Closer

	// Fetch opens the data, from its first byte. It may be called many times,
	// and the readers are independent of each other. The context bounds the
	// opening and may bound the reading; a store that no longer wants the data
	// cancels it and closes the reader, perhaps while a Read is blocked. The
	// caller closes the reader.
	Fetch(ctx context.Context) (Reader, error)

	// Info tells what the readers of this mount can do. It is constant.
	Info() Info

	// Stat tells about the data without fetching it. That there is no such data
	// is no error: Stat.Exists is false.
	Stat(ctx context.Context) (Stat, error)

	// Serialize returns a URL with all that Deserialize needs to find the data
	// again. Its scheme is set by the Registry.
	Serialize() *url.URL

	// Deserialize makes this mount, a fresh clone of its template, the one that
	// the URL tells of. It does not touch the source.
	Deserialize(*url.URL) error
}

// A Reader reads the data of a mount. What the Info of the mount does not claim
// need not work; those parts may even be nil. A reader need not be safe for
// concurrent use, except that ReadAt calls may run in parallel, and that Close
// may run beside anything.
type Reader interface {
	io.Closer
	io.Reader
	io.ReaderAt
	io.Seeker
}

// Info tells what the readers of a mount can do. A mount with all three kinds of
// access is read directly; any other is copied to a local file before use.
type Info struct {
	// Kind tells where the data is. It decides nothing.
	Kind Kind
	// AccessSequential tells that Read works. Every mount should have it.
	AccessSequential bool
	// AccessSeek tells that Seek works.
	AccessSeek bool
	// AccessRandom tells that ReadAt works.
	AccessRandom bool
}

// Stat tells about the data of a mount.
type Stat struct {
	// Exists tells whether the data is there.
	Exists bool
	// Size is its size in bytes, 0 if unknown.
	Size int64
	// Ready tells whether a fetch starts to deliver at once. A store throttles
	// such fetches. Those that first wait for something slow, such as the
	// unsealing of a sector, are not throttled.
	Ready bool
}

// NopCloser makes a [Reader] of its parts. Parts that the Info of the mount does
// not claim may be nil.
type NopCloser struct {
	io.Reader
	io.ReaderAt
	io.Seeker
}

// Close does nothing and returns nil.
func (*NopCloser) Close() error { return nil }

var _ Reader = (*NopCloser)(nil)
