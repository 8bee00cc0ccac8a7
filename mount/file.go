package mount

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
)

// FileMount is a file of the local file system. It is read where it lies and
// never changed. A relative Path is relative to the working folder at the time
// of use.
//
// The URL of an absolute path is file:///data/a.car; of a relative one that is
// a plain name, file://a.car, as v0.7 wrote it; of any other,
// file:dir%2Fa%20b.car. Any bytes survive. Deserialize also takes v0.7's form of
// an absolute path, file://%2Fdata%2Fa.car, if [ParseURL] parsed it.
type FileMount struct {
	Path string
}

var _ Mount = (*FileMount)(nil)

// Fetch opens the file. The readers are *os.File.
func (f *FileMount) Fetch(ctx context.Context) (Reader, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if _, err := f.stat(); err != nil { // before the opening, which a pipe would block
		return nil, err
	}
	file, err := os.Open(f.Path)
	if err != nil {
		return nil, err
	}
	return file, nil
}

// Info claims everything.
func (f *FileMount) Info() Info {
	return Info{Kind: KindLocal, AccessSequential: true, AccessSeek: true, AccessRandom: true}
}

// Stat looks at the file. That it does not exist is no error; that it is a
// folder is one.
func (f *FileMount) Stat(ctx context.Context) (Stat, error) {
	if err := ctx.Err(); err != nil {
		return Stat{}, err
	}
	info, err := f.stat()
	if errors.Is(err, fs.ErrNotExist) {
		return Stat{}, nil
	}
	if err != nil {
		return Stat{}, err
	}
	return Stat{Exists: true, Size: info.Size(), Ready: true}, nil
}

func (f *FileMount) stat() (fs.FileInfo, error) {
	info, err := os.Stat(f.Path)
	if err != nil {
		return nil, err
	}
	return info, requireRegular(f.Path, info)
}

// Serialize returns the URL form of the path.
func (f *FileMount) Serialize() *url.URL { return pathURL(f.Path) }

// Deserialize takes the path from the URL.
func (f *FileMount) Deserialize(u *url.URL) (err error) {
	f.Path, err = urlPath(u)
	return err
}

// Close does nothing. Open readers stay open.
func (f *FileMount) Close() error { return nil }

func requireRegular(path string, info fs.FileInfo) error {
	if info.Mode().IsRegular() {
		return nil
	}
	return fmt.Errorf("%s is not a regular file (%s)", path, info.Mode().Type())
}
