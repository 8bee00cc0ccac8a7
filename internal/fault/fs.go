package fault

import (
	"io/fs"
	"os"

	"github.com/filecoin-project/dagstore/internal/files"
)

// FS returns fsys with the failures of inj. Its files are not *os.File. A file
// whose Close fails is closed.
func FS(fsys files.FS, inj *Injector) files.FS { return &faultyFS{fsys, inj} }

type faultyFS struct {
	fsys files.FS
	inj  *Injector
}

func (f *faultyFS) Open(path string) (files.File, error) {
	return f.OpenFile(path, os.O_RDONLY, 0)
}

func (f *faultyFS) OpenFile(path string, flag int, perm fs.FileMode) (files.File, error) {
	kind := Open
	if flag&os.O_CREATE != 0 {
		kind = Create
	}
	if err := f.inj.do(kind, path); err != nil {
		return nil, err
	}
	return f.wrap(f.fsys.OpenFile(path, flag, perm))
}

func (f *faultyFS) CreateTemp(dir string) (files.File, error) {
	if err := f.inj.do(Create, dir); err != nil {
		return nil, err
	}
	return f.wrap(f.fsys.CreateTemp(dir))
}

func (f *faultyFS) wrap(file files.File, err error) (files.File, error) {
	if err != nil {
		return nil, err
	}
	return &faultyFile{file, f.inj}, nil
}

func (f *faultyFS) Rename(oldpath, newpath string) error {
	if err := f.inj.do(Rename, newpath); err != nil {
		return err
	}
	return f.fsys.Rename(oldpath, newpath)
}

func (f *faultyFS) Remove(path string) error {
	if err := f.inj.do(Remove, path); err != nil {
		return err
	}
	return f.fsys.Remove(path)
}

func (f *faultyFS) Stat(path string) (fs.FileInfo, error) {
	if err := f.inj.do(Stat, path); err != nil {
		return nil, err
	}
	return f.fsys.Stat(path)
}

func (f *faultyFS) Lstat(path string) (fs.FileInfo, error) {
	if err := f.inj.do(Stat, path); err != nil {
		return nil, err
	}
	return f.fsys.Lstat(path)
}

func (f *faultyFS) ReadDir(dir string) ([]fs.DirEntry, error) {
	if err := f.inj.do(ReadDir, dir); err != nil {
		return nil, err
	}
	return f.fsys.ReadDir(dir)
}

func (f *faultyFS) MkdirAll(dir string, perm fs.FileMode) error {
	if err := f.inj.do(Mkdir, dir); err != nil {
		return err
	}
	return f.fsys.MkdirAll(dir, perm)
}

func (f *faultyFS) SyncDir(dir string) error {
	if err := f.inj.do(SyncDir, dir); err != nil {
		return err
	}
	return f.fsys.SyncDir(dir)
}

type faultyFile struct {
	files.File
	inj *Injector
}

func (f *faultyFile) Read(p []byte) (int, error) {
	if err := f.inj.do(Read, f.Name()); err != nil {
		return 0, err
	}
	return f.File.Read(p)
}

func (f *faultyFile) ReadAt(p []byte, off int64) (int, error) {
	if err := f.inj.do(Read, f.Name()); err != nil {
		return 0, err
	}
	return f.File.ReadAt(p, off)
}

func (f *faultyFile) Write(p []byte) (int, error) {
	err := f.inj.do(Write, f.Name())
	if err == nil {
		return f.File.Write(p)
	}
	if !f.inj.short {
		return 0, err
	}
	n, _ := f.File.Write(p[:len(p)/2])
	return n, err
}

func (f *faultyFile) Sync() error {
	if err := f.inj.do(Sync, f.Name()); err != nil {
		return err
	}
	return f.File.Sync()
}

func (f *faultyFile) Truncate(size int64) error {
	if err := f.inj.do(Truncate, f.Name()); err != nil {
		return err
	}
	return f.File.Truncate(size)
}

func (f *faultyFile) Stat() (fs.FileInfo, error) {
	if err := f.inj.do(Stat, f.Name()); err != nil {
		return nil, err
	}
	return f.File.Stat()
}

func (f *faultyFile) Close() error {
	err := f.inj.do(Close, f.Name())
	if closeErr := f.File.Close(); err == nil {
		err = closeErr
	}
	return err
}
