package journal

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"

	"github.com/filecoin-project/dagstore/internal/files"
)

// maxGroup is how many bytes are gathered for one write, and how large a buffer
// is kept: a group ends with the entry that reaches it.
const maxGroup = 1 << 20

// A Journal is the writer's side of a file. It has a goroutine until it is
// closed. Its methods are safe for concurrent use. Nobody else may write to the
// file.
type Journal struct {
	requests chan request
	closing  chan struct{} // closed when Close begins
	close    sync.Once     // closes closing
	ended    chan struct{} // closed when the goroutine of the journal has ended
	size     atomic.Int64

	// What follows belongs to the goroutine.
	f      files.File
	at     Position // end of what is durable
	group  []request
	buf    []byte
	failed error // what made an append fail
	closed error // of closing f; anyone's once ended is closed
}

// A request is a call of Append.
type request struct {
	entry  []byte
	done   func()
	result chan<- error // has room for it
}

// Create makes a file with these entries. It is durable, and so is its name,
// when Create returns nil; after an error it is gone, if it can be removed. The
// error is fs.ErrExist if there is such a file.
func Create(fsys files.FS, path string, first [][]byte) (*Journal, error) {
	for _, entry := range first {
		if err := accept(entry); err != nil {
			return nil, err
		}
	}
	f, err := fsys.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o666)
	if err != nil {
		return nil, fmt.Errorf("create a journal: %w", err)
	}
	at, err := writeFirst(f, first)
	if err == nil {
		err = f.Sync()
	}
	if err == nil {
		err = fsys.SyncDir(filepath.Dir(path))
	}
	if err != nil {
		err = fmt.Errorf("create the journal %s: %w", path, err)
		return nil, errors.Join(err, f.Close(), fsys.Remove(path))
	}
	return start(f, at), nil
}

// writeFirst writes the header and the entries, and returns their end.
func writeFirst(f files.File, first [][]byte) (Position, error) {
	size := int64(headerSize)
	for _, entry := range first {
		size += sizeOf(entry)
	}
	buf, at := appendHeader(nil, size)
	for _, entry := range first {
		if len(buf) >= maxGroup {
			if _, err := f.Write(buf); err != nil {
				return Position{}, err
			}
			buf = buf[:0]
		}
		buf, at = appendEntry(buf, at, entry)
	}
	_, err := f.Write(buf)
	return at, err
}

// Open calls visit for every entry of a file, as Read does, cuts off a torn
// tail, and makes durable what it found: a crash may have left entries that were
// written and never synced. An error of visit ends it, and is what errors.Is
// finds in the error of Open. Other errors are ErrDamaged, after which the file
// is as it was; errors.ErrUnsupported for a file of another version; those of
// the files.
func Open(fsys files.FS, path string, visit func(entry []byte) error) (*Journal, error) {
	f, err := fsys.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return nil, fmt.Errorf("open the journal: %w", err)
	}
	at, size, err := scan(f, Position{}, visit)
	if err == nil && at.Offset < size {
		err = f.Truncate(at.Offset)
	}
	if err == nil {
		err = f.Sync()
	}
	if err == nil {
		_, err = f.Seek(at.Offset, io.SeekStart)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open the journal %s: %w", path, err), f.Close())
	}
	return start(f, at), nil
}

// start returns a journal whose f is to be written at its position, which is at.
func start(f files.File, at Position) *Journal {
	j := &Journal{
		requests: make(chan request),
		closing:  make(chan struct{}),
		ended:    make(chan struct{}),
		f:        f,
		at:       at,
	}
	j.size.Store(at.Offset)
	go j.serve()
	return j
}

// Append adds an entry to the file. The entry is durable when Append returns
// nil; calls that wait together share one write and one sync. Then, before
// Append returns, done is called, unless it is nil: in the order of the entries
// in the file, one at a time. It must neither panic nor use the Journal, but for
// Size.
//
// The error is that of ctx if the entry was not written because of it: an entry
// whose write has begun is waited for. It is fs.ErrClosed once Close has begun.
//
// When a write or a sync fails, nothing more can be appended, and every call
// returns that error. The file is cut back to what was acknowledged, if that
// succeeds; else an entry whose Append failed may be found in it later. So what
// such an entry refers to must stay. The way on is another journal, or Open.
func (j *Journal) Append(ctx context.Context, entry []byte, done func()) error {
	if err := accept(entry); err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	result := make(chan error, 1)
	select {
	case j.requests <- request{entry, done, result}:
		return <-result
	case <-ctx.Done():
		return ctx.Err()
	case <-j.closing:
		return fmt.Errorf("append to the journal: %w", fs.ErrClosed)
	}
}

// Size returns the bytes of the file that are acknowledged.
func (j *Journal) Size() int64 { return j.size.Load() }

// Close waits for the entries that are being written, and closes the file. A
// second call returns what the first one did.
func (j *Journal) Close() error {
	j.close.Do(func() { close(j.closing) })
	<-j.ended
	return j.closed
}
