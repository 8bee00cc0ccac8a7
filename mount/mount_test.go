package mount_test

import (
	"context"
	"fmt"
	"io"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"testing"
	"testing/fstest"

	"github.com/stretchr/testify/require"

	"github.com/filecoin-project/dagstore/mount"
	"github.com/filecoin-project/dagstore/mount/mounttest"
	"github.com/filecoin-project/dagstore/throttle"
)

// What programs written against v0.7 compile with.
var (
	_ error = mount.ErrSeekUnsupported
	_ error = mount.ErrRandomAccessUnsupported
	_ error = mount.ErrUnrecognizedScheme
	_ error = mount.ErrUnrecognizedType

	_ mount.Kind = mount.KindLocal
	_            = [1]int{mount.KindLocal: 0}
	_            = [2]int{mount.KindRemote: 1}

	_ interface {
		io.Closer
		Fetch(ctx context.Context) (mount.Reader, error)
		Info() mount.Info
		Stat(ctx context.Context) (mount.Stat, error)
		Serialize() *url.URL
		Deserialize(*url.URL) error
	} = mount.Mount(nil)
	_ mount.Mount = (interface {
		io.Closer
		Fetch(ctx context.Context) (mount.Reader, error)
		Info() mount.Info
		Stat(ctx context.Context) (mount.Stat, error)
		Serialize() *url.URL
		Deserialize(*url.URL) error
	})(nil)
	_ interface {
		io.Closer
		io.Reader
		io.ReaderAt
		io.Seeker
	} = mount.Reader(nil)
	_ mount.Reader = (interface {
		io.Closer
		io.Reader
		io.ReaderAt
		io.Seeker
	})(nil)

	_ = mount.Info{Kind: mount.KindRemote, AccessSequential: true, AccessSeek: true, AccessRandom: true}
	_ = mount.Stat{Exists: true, Size: int64(1), Ready: true}
	_ = &mount.NopCloser{Reader: nil, ReaderAt: nil, Seeker: nil}

	_ func() *mount.Registry                                                                 = mount.NewRegistry
	_ func(*mount.Registry, string, mount.Mount) error                                       = (*mount.Registry).Register
	_ func(*mount.Registry, *url.URL) (mount.Mount, error)                                   = (*mount.Registry).Instantiate
	_ func(*mount.Registry, mount.Mount) (*url.URL, error)                                   = (*mount.Registry).Represent
	_ func(*mount.Upgrader) string                                                           = (*mount.Upgrader).TransientPath
	_ func(*mount.Upgrader) int                                                              = (*mount.Upgrader).TimesFetched
	_ func(*mount.Upgrader) mount.Mount                                                      = (*mount.Upgrader).Underlying
	_ func(*mount.Upgrader) error                                                            = (*mount.Upgrader).DeleteTransient
	_ func(*mount.Upgrader, context.Context) error                                           = (*mount.Upgrader).Prepare
	_ func(*mount.Upgrader) (func() error, error)                                            = (*mount.Upgrader).RetireTransient
	_ func(*mount.Upgrader, bool)                                                            = (*mount.Upgrader).AssumeTransient
	_ func(*mount.Counting) int                                                              = (*mount.Counting).Count
	_ func(string) (*url.URL, error)                                                         = mount.ParseURL
	_ func(string) (string, string)                                                          = mount.TransientNames
	_ mount.Mount                                                                            = (*mount.Upgrader)(nil)
	_ mount.Mount                                                                            = &mount.Counting{Mount: &mount.FileMount{Path: ""}}
	_ mount.Mount                                                                            = &mount.BytesMount{Bytes: []byte(nil)}
	_ mount.Mount                                                                            = &mount.FSMount{fs.FS(nil), ""}
	_ func(mount.Mount, throttle.Throttler, string, string, string) (*mount.Upgrader, error) = mount.Upgrade
)

// newFile returns the path of a new file with this content.
func newFile(t *testing.T, content []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "file with space: 100%.car")
	require.NoError(t, os.WriteFile(path, content, 0o600))
	return path
}

func newFileMount(t *testing.T, content []byte) mount.Mount {
	return &mount.FileMount{Path: newFile(t, content)}
}

func TestFileMountConforms(t *testing.T) {
	mounttest.Run(t, mounttest.Harness{
		New:      newFileMount,
		Missing:  func(t *testing.T) mount.Mount { return &mount.FileMount{Path: filepath.Join(t.TempDir(), "no")} },
		Template: &mount.FileMount{},
		Scheme:   "file",
	})
}

func TestBytesMountConforms(t *testing.T) {
	mounttest.Run(t, mounttest.Harness{
		New:      func(_ *testing.T, content []byte) mount.Mount { return &mount.BytesMount{Bytes: content} },
		Template: &mount.BytesMount{},
		Scheme:   "bytes",
	})
}

func TestFSMountConforms(t *testing.T) {
	dir, n := t.TempDir(), 0
	mounttest.Run(t, mounttest.Harness{
		New: func(t *testing.T, content []byte) mount.Mount {
			n++
			name := fmt.Sprintf("file %d.car", n)
			require.NoError(t, os.WriteFile(filepath.Join(dir, name), content, 0o600))
			return &mount.FSMount{FS: os.DirFS(dir), Path: name}
		},
		Missing:  func(*testing.T) mount.Mount { return &mount.FSMount{FS: os.DirFS(dir), Path: "no"} },
		Template: &mount.FSMount{FS: os.DirFS(dir)},
		Scheme:   "fs",
	})
}

func TestCountingConforms(t *testing.T) {
	mounttest.Run(t, mounttest.Harness{
		New: func(t *testing.T, content []byte) mount.Mount {
			return &mount.Counting{Mount: newFileMount(t, content)}
		},
		Missing: func(t *testing.T) mount.Mount {
			return &mount.Counting{Mount: &mount.FileMount{Path: filepath.Join(t.TempDir(), "no")}}
		},
		Template: &mount.Counting{Mount: &mount.FileMount{}},
		Scheme:   "counting",
	})
}

func TestUpgraderConforms(t *testing.T) {
	upgrade := func(t *testing.T, m mount.Mount) mount.Mount {
		u, err := mount.Upgrade(m, throttle.Fixed(2), t.TempDir(), "key", "")
		require.NoError(t, err)
		return u
	}
	mounttest.Run(t, mounttest.Harness{
		New: func(t *testing.T, content []byte) mount.Mount { return upgrade(t, &remote{content: content}) },
		Missing: func(t *testing.T) mount.Mount {
			return upgrade(t, &remote{stat: func(context.Context) (mount.Stat, error) { return mount.Stat{}, nil }})
		},
	})
}

func TestUpgraderThatPassesThroughConforms(t *testing.T) {
	mounttest.Run(t, mounttest.Harness{
		New: func(t *testing.T, content []byte) mount.Mount {
			u, err := mount.Upgrade(newFileMount(t, content), nil, t.TempDir(), "key", "")
			require.NoError(t, err)
			return u
		},
		Template: &mount.FileMount{},
		Scheme:   "file",
	})
}

// Defect 22c: any error but "not found" was a nil dereference.
func TestStatReturnsErrorsOfTheFileSystem(t *testing.T) {
	path := newFile(t, nil)
	_, err := (&mount.FileMount{Path: path + "/below"}).Stat(t.Context())
	require.ErrorContains(t, err, "not a directory")
	_, err = (&mount.FileMount{Path: filepath.Dir(path)}).Stat(t.Context())
	require.ErrorContains(t, err, "not a regular file")
	_, err = (&mount.FSMount{Path: "a"}).Stat(t.Context())
	require.ErrorContains(t, err, "no FS")
	_, err = (&mount.FSMount{FS: fstest.MapFS{}, Path: "."}).Stat(t.Context())
	require.ErrorContains(t, err, "not a regular file")

	st, err := (&mount.FileMount{Path: path + ".gone"}).Stat(t.Context())
	require.NoError(t, err)
	require.Zero(t, st)
}

func TestFoldersAndMissingFilesAreNotFetched(t *testing.T) {
	dir := t.TempDir()
	for _, m := range []mount.Mount{
		&mount.FileMount{Path: dir},
		&mount.FileMount{Path: os.DevNull},
		&mount.FSMount{FS: os.DirFS(dir), Path: "."},
		&mount.FSMount{FS: os.DirFS(dir), Path: "no"},
		&mount.FSMount{Path: "no"},
	} {
		r, err := m.Fetch(t.Context())
		require.Error(t, err)
		require.Nil(t, r)
	}
}

func TestDoneContextEndsStat(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	u, err := mount.Upgrade(&remote{}, nil, t.TempDir(), "key", "")
	require.NoError(t, err)
	for _, m := range []mount.Mount{&mount.FileMount{Path: "a"}, &mount.FSMount{}, &mount.BytesMount{}, u} {
		_, err := m.Stat(ctx)
		require.ErrorIs(t, err, context.Canceled)
	}
}

// A file of an fs.FS need not have more than Read.
func TestFSMountTellsWhatItsFilesLack(t *testing.T) {
	content := []byte("hello")
	m := &mount.FSMount{FS: plainFS{fstest.MapFS{"a": {Data: content}}}, Path: "a"}
	r, err := m.Fetch(t.Context())
	require.NoError(t, err)
	_, err = r.ReadAt(make([]byte, 1), 0)
	require.ErrorIs(t, err, mount.ErrRandomAccessUnsupported)
	_, err = r.Seek(0, io.SeekStart)
	require.ErrorIs(t, err, mount.ErrSeekUnsupported)
	got, err := io.ReadAll(r)
	require.NoError(t, err)
	require.Equal(t, content, got)
	require.NoError(t, r.Close())

	m.FS = seekableFS{fstest.MapFS{"a": {Data: content}}}
	r, err = m.Fetch(t.Context())
	require.NoError(t, err)
	defer r.Close()
	_, err = r.Seek(4, io.SeekStart)
	require.NoError(t, err)
	got, err = io.ReadAll(r)
	require.NoError(t, err)
	require.Equal(t, "o", string(got))
	_, err = r.ReadAt(make([]byte, 1), 0)
	require.ErrorIs(t, err, mount.ErrRandomAccessUnsupported)
}

// plainFS has files that can only be read.
type plainFS struct{ fs.FS }

func (f plainFS) Open(name string) (fs.File, error) {
	file, err := f.FS.Open(name)
	return struct{ fs.File }{file}, err
}

// seekableFS has files that can be read and sought.
type seekableFS struct{ fs.FS }

func (f seekableFS) Open(name string) (fs.File, error) {
	file, err := f.FS.Open(name)
	if err != nil {
		return nil, err
	}
	return struct {
		fs.File
		io.Seeker
	}{file, file.(io.Seeker)}, nil
}

// readAtFS has files that can be read anywhere, but not sought.
type readAtFS struct{ fs.FS }

func (f readAtFS) Open(name string) (fs.File, error) {
	file, err := f.FS.Open(name)
	if err != nil {
		return nil, err
	}
	return struct {
		fs.File
		io.ReaderAt
	}{file, file.(io.ReaderAt)}, nil
}

func TestFSMountReadsAnywhereWhereItsFilesDo(t *testing.T) {
	m := &mount.FSMount{FS: readAtFS{fstest.MapFS{"a": {Data: []byte("hello")}}}, Path: "a"}
	r, err := m.Fetch(t.Context())
	require.NoError(t, err)
	defer r.Close()
	p := make([]byte, 2)
	_, err = r.ReadAt(p, 1)
	require.NoError(t, err)
	require.Equal(t, "el", string(p))
}

func TestCountingCountsFetches(t *testing.T) {
	m := &mount.Counting{Mount: &mount.BytesMount{}}
	for range 3 {
		_, err := m.Fetch(t.Context())
		require.NoError(t, err)
	}
	require.Equal(t, 3, m.Count())
}
