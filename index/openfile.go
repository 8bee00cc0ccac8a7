package index

import (
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"os"

	"github.com/filecoin-project/dagstore/internal/files"
	"github.com/filecoin-project/dagstore/internal/fullindex"
	"github.com/filecoin-project/dagstore/internal/mapped"
	"github.com/filecoin-project/dagstore/shard"
)

// verifiedAtOnce is the size in bytes up to which files are verified when they
// are opened: that costs less than the opening.
const verifiedAtOnce = 64 << 10

// An openFile is the file of an index, open: mapped where the system can.
type openFile struct {
	path  string
	info  fs.FileInfo
	data  *mapped.Data
	index *fullindex.Index

	sum    uint32 // of what lies before it in the file
	summed bool

	// Guarded by openFiles.mu.
	users int
	stale bool // another file has taken its place, or there is no room for it
}

// openIndexFile opens the file of a key. The error wraps ErrDamaged if it is not
// an index; all of it is looked at only if it is small.
func openIndexFile(fsys files.FS, path string, key shard.Key) (_ *openFile, err error) {
	f, err := fsys.Open(path)
	if err != nil {
		return nil, err
	}
	data, err := mapped.Open(f)
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	o := &openFile{path: path, data: data}
	defer func() {
		if err != nil {
			_ = data.Close()
		}
	}()
	if o.info, err = f.Stat(); err != nil {
		return nil, err
	}
	if o.index, err = fullindex.FromData(data); err != nil {
		return nil, damaged(err)
	}
	if err := o.readTrailer(key); err != nil {
		return nil, err
	}
	if data.Size() <= verifiedAtOnce {
		if err := o.verify(context.Background()); err != nil {
			return nil, err
		}
	}
	return o, data.Detach()
}

func (o *openFile) readTrailer(key shard.Key) (err error) {
	size := o.data.Size() - o.index.Size()
	if most := int64(len(trailingName(key)) + trailerEnd); size > most {
		return fmt.Errorf("%w: %d bytes behind the index", ErrDamaged, size)
	}
	rest := make([]byte, size)
	if n, err := o.data.ReadAt(rest, o.index.Size()); int64(n) < size {
		return damaged(err)
	}
	o.sum, o.summed, err = checkTrailer(key, rest)
	return err
}

// is reports whether the file is still the one that info tells of, unchanged.
func (o *openFile) is(info fs.FileInfo) bool {
	return os.SameFile(o.info, info) && o.info.Size() == info.Size() && o.info.ModTime().Equal(info.ModTime())
}

// verify reads the whole file. A file of v0.7 has no sum; it is checked for what
// crashes leave.
func (o *openFile) verify(ctx context.Context) error {
	if !o.summed {
		return damaged(o.index.Verify(ctx))
	}
	const step = 1 << 20
	sum := crc32.New(castagnoli)
	before := io.NewSectionReader(o.data, 0, o.data.Size()-int64(4+len(trailerMagic)))
	for at := int64(0); ; at += step {
		if err := ctx.Err(); err != nil {
			return err
		}
		o.data.WillNeed(at+step, step) // while this one is summed
		n, err := io.CopyN(sum, before, step)
		if err != nil && !errors.Is(err, io.EOF) {
			return damaged(err)
		}
		if n == 0 {
			break
		}
	}
	if sum.Sum32() != o.sum {
		return fmt.Errorf("%w: it is not what was written", ErrDamaged)
	}
	return nil
}

// damaged adds ErrDamaged to the errors of wrong and of missing bytes, and leaves
// those of reading them alone.
func damaged(err error) error {
	if errors.Is(err, fullindex.ErrMalformed) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF) {
		return fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	return err
}
