package inverted

import (
	"io/fs"
	"os"
	"sync/atomic"

	"github.com/filecoin-project/dagstore/internal/fault"
	"github.com/filecoin-project/dagstore/internal/files"
)

// A switchable makes the operations of a file system fail while it is on: those that
// match, or else those that write anything.
type switchable struct {
	match func(fault.Op) bool
	err   atomic.Pointer[error]
}

func (s *switchable) on(err error) { s.err.Store(&err) }

func (s *switchable) do(kind fault.Kind) error {
	match := s.match
	if match == nil {
		match = func(op fault.Op) bool { return op.Kind == fault.Write || op.Kind == fault.Create }
	}
	if err := s.err.Load(); err != nil && match(fault.Op{Kind: kind}) {
		return *err
	}
	return nil
}

func (s *switchable) over(fsys files.FS) files.FS { return switchedFS{fsys, s} }

type switchedFS struct {
	files.FS
	s *switchable
}

func (f switchedFS) Open(path string) (files.File, error) { return f.OpenFile(path, os.O_RDONLY, 0) }

func (f switchedFS) OpenFile(path string, flag int, perm fs.FileMode) (files.File, error) {
	if flag&os.O_CREATE != 0 {
		if err := f.s.do(fault.Create); err != nil {
			return nil, err
		}
	}
	file, err := f.FS.OpenFile(path, flag, perm)
	if err != nil {
		return nil, err
	}
	return switchedFile{file.(*os.File), f.s}, nil
}

func (f switchedFS) CreateTemp(dir string) (files.File, error) {
	if err := f.s.do(fault.Create); err != nil {
		return nil, err
	}
	file, err := f.FS.CreateTemp(dir)
	if err != nil {
		return nil, err
	}
	return switchedFile{file.(*os.File), f.s}, nil
}

func (f switchedFS) Remove(path string) error {
	if err := f.s.do(fault.Remove); err != nil {
		return err
	}
	return f.FS.Remove(path)
}

type switchedFile struct {
	*os.File
	s *switchable
}

func (f switchedFile) Write(p []byte) (int, error) {
	if err := f.s.do(fault.Write); err != nil {
		n, _ := f.File.Write(p[:len(p)/2]) // what fits
		return n, err
	}
	return f.File.Write(p)
}

func (f switchedFile) ReadAt(p []byte, off int64) (int, error) {
	if err := f.s.do(fault.Read); err != nil {
		return 0, err
	}
	return f.File.ReadAt(p, off)
}

// unsynced is the file system without waiting for the disk. Few tests can wait for
// that, and none of the others sees a difference.
type unsynced struct{ files.FS }

func (u unsynced) OpenFile(path string, flag int, perm fs.FileMode) (files.File, error) {
	return withoutSync(u.FS.OpenFile(path, flag, perm))
}

func (u unsynced) CreateTemp(dir string) (files.File, error) {
	return withoutSync(u.FS.CreateTemp(dir))
}

func (unsynced) SyncDir(string) error { return nil }

func withoutSync(f files.File, err error) (files.File, error) {
	if err != nil {
		return nil, err
	}
	return unsyncedFile{f.(*os.File)}, nil
}

type unsyncedFile struct{ *os.File }

func (unsyncedFile) Sync() error { return nil }

// unmapped is unsynced, and its files are not mapped.
type unmapped struct{ unsynced }

func (u unmapped) Open(path string) (files.File, error) { return withoutSync(u.FS.Open(path)) }
