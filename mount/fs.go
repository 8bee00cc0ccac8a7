package mount

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/url"
)

// FSMount is a file of an [fs.FS]. To outlive a restart its type is registered
// with a template that has the FS; URLs hold the path only, in the forms of
// [FileMount], and so do not depend on the file being there.
//
// Info claims everything, so that nothing is copied. The files of the FS should
// therefore have ReadAt and Seek, as those of [os.DirFS] and of package embed
// do; on a file that lacks one of them it fails with
// [ErrRandomAccessUnsupported] or [ErrSeekUnsupported].
type FSMount struct {
	FS   fs.FS
	Path string
}

var _ Mount = (*FSMount)(nil)

var errNoFS = errors.New("FSMount has no FS: set it in the mount, or in the template that is registered")

// Fetch opens the file.
func (f *FSMount) Fetch(ctx context.Context) (Reader, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if f.FS == nil {
		return nil, errNoFS
	}
	file, err := f.FS.Open(f.Path)
	if err != nil {
		return nil, err
	}
	info, err := file.Stat()
	if err == nil {
		err = requireRegular(f.Path, info)
	}
	if err != nil {
		_ = file.Close()
		return nil, err
	}
	if r, ok := file.(Reader); ok {
		return r, nil
	}
	return fsReader{file}, nil
}

// Info claims everything.
func (f *FSMount) Info() Info {
	return Info{Kind: KindLocal, AccessSequential: true, AccessSeek: true, AccessRandom: true}
}

// Stat looks at the file. That it does not exist is no error; that it is a
// folder is one.
func (f *FSMount) Stat(ctx context.Context) (Stat, error) {
	if err := ctx.Err(); err != nil {
		return Stat{}, err
	}
	if f.FS == nil {
		return Stat{}, errNoFS
	}
	info, err := fs.Stat(f.FS, f.Path)
	if errors.Is(err, fs.ErrNotExist) {
		return Stat{}, nil
	}
	if err == nil {
		err = requireRegular(f.Path, info)
	}
	if err != nil {
		return Stat{}, err
	}
	return Stat{Exists: true, Size: info.Size(), Ready: true}, nil
}

// Serialize returns the URL form of the path.
func (f *FSMount) Serialize() *url.URL { return pathURL(f.Path) }

// Deserialize takes the path from the URL. The FS stays as it is.
func (f *FSMount) Deserialize(u *url.URL) error {
	path, err := urlPath(u)
	if err != nil {
		return err
	}
	if u.Host == lostPath {
		return fmt.Errorf("v0.7 lost the path of this file: destroy the shard and register it anew")
	}
	f.Path = path
	return nil
}

// Close does nothing. Open readers stay open.
func (f *FSMount) Close() error { return nil }

// fsReader is a file that lacks ReadAt or Seek.
type fsReader struct{ fs.File }

func (r fsReader) ReadAt(p []byte, off int64) (int, error) {
	if at, ok := r.File.(io.ReaderAt); ok {
		return at.ReadAt(p, off)
	}
	return 0, ErrRandomAccessUnsupported
}

func (r fsReader) Seek(offset int64, whence int) (int64, error) {
	if s, ok := r.File.(io.Seeker); ok {
		return s.Seek(offset, whence)
	}
	return 0, ErrSeekUnsupported
}
