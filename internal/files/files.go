// Package files is the file system as seen by code that must survive crashes:
// a small interface that tests can make fail, and the one way in which a file
// is replaced.
package files

import (
	"crypto/rand"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"syscall"
)

// TempPrefix begins the name of every temporary file. A file so named is never
// referred to by anything: whoever owns its folder may remove it, once no
// writer is at work there.
const TempPrefix = ".tmp-"

// A File is an open file. The files of OS are *os.File.
type File interface {
	io.Reader
	io.ReaderAt
	io.Seeker
	io.Writer
	io.Closer

	// Sync returns when the content of the file is durable. Its name is durable
	// after SyncDir of its folder.
	Sync() error
	// Truncate makes the file size bytes long. The place of Write stays.
	Truncate(size int64) error
	Stat() (fs.FileInfo, error)
	// Name is the path with which the file was opened.
	Name() string
}

// An FS is a file system. Paths are those of the os package, and so are the
// errors: errors.Is with fs.ErrNotExist, fs.ErrExist and fs.ErrPermission
// works. It is safe for concurrent use.
type FS interface {
	// Open opens a file for reading.
	Open(path string) (File, error)
	// OpenFile opens a file with the flags of the os package.
	OpenFile(path string, flag int, perm fs.FileMode) (File, error)
	// CreateTemp creates a new file in dir, open for reading and writing, whose
	// name begins with TempPrefix.
	CreateTemp(dir string) (File, error)
	// Rename puts oldpath in the place of newpath, atomically.
	Rename(oldpath, newpath string) error
	// Remove removes a file or an empty folder.
	Remove(path string) error
	// Stat follows links; Lstat does not.
	Stat(path string) (fs.FileInfo, error)
	Lstat(path string) (fs.FileInfo, error)
	// ReadDir lists a folder, sorted by name.
	ReadDir(dir string) ([]fs.DirEntry, error)
	MkdirAll(dir string, perm fs.FileMode) error
	// SyncDir returns when the names in dir are durable.
	SyncDir(dir string) error
}

// OS is the file system of the operating system.
var OS FS = osFS{}

type osFS struct{}

func (osFS) Open(path string) (File, error) { return osFS{}.OpenFile(path, os.O_RDONLY, 0) }

func (osFS) OpenFile(path string, flag int, perm fs.FileMode) (File, error) {
	f, err := os.OpenFile(path, flag, perm)
	if err != nil {
		return nil, err // not f, which would be a File that is not nil
	}
	return f, nil
}

// CreateTemp differs from os.CreateTemp in the permissions, which are those of
// any other new file: other users may be meant to read what it becomes.
func (osFS) CreateTemp(dir string) (File, error) {
	path := filepath.Join(dir, TempPrefix+rand.Text())
	return osFS{}.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o666)
}

func (osFS) Rename(oldpath, newpath string) error        { return os.Rename(oldpath, newpath) }
func (osFS) Remove(path string) error                    { return os.Remove(path) }
func (osFS) Stat(path string) (fs.FileInfo, error)       { return os.Stat(path) }
func (osFS) Lstat(path string) (fs.FileInfo, error)      { return os.Lstat(path) }
func (osFS) ReadDir(dir string) ([]fs.DirEntry, error)   { return os.ReadDir(dir) }
func (osFS) MkdirAll(dir string, perm fs.FileMode) error { return os.MkdirAll(dir, perm) }

func (osFS) SyncDir(dir string) error {
	if runtime.GOOS == "windows" {
		return nil // folders cannot be synced there
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	err = d.Sync()
	if errors.Is(err, syscall.EINVAL) || errors.Is(err, errors.ErrUnsupported) {
		err = nil // some network file systems: they have no such notion
	}
	return errors.Join(err, d.Close())
}

// Replace makes path a file with what write writes. The new content is durable
// when Replace returns nil. At every instant, and after a crash, path has
// either the old content or the whole new one. After an error it has the old
// content, unless only the last step failed, the syncing of the folder; then
// the new content is there and may be lost in a crash. The temporary file is
// removed on any error and when write panics; a crash can leave it.
func Replace(fsys FS, path string, write func(io.Writer) error) error {
	dir := filepath.Dir(path)
	f, err := fsys.CreateTemp(dir)
	if err != nil {
		return err
	}
	renamed, closed := false, false
	defer func() {
		if !closed {
			_ = f.Close()
		}
		if !renamed {
			_ = fsys.Remove(f.Name())
		}
	}()
	if err := write(f); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	closed = true
	if err := f.Close(); err != nil {
		return err
	}
	if err := fsys.Rename(f.Name(), path); err != nil {
		return err
	}
	renamed = true
	return fsys.SyncDir(dir)
}
