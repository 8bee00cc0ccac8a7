package mapped

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"sync"
)

// window is how many bytes WriteTo copies at once. No read is in progress
// while the window is written, so that a slow writer does not hold up Close.
const window = 256 << 10

var windows = sync.Pool{New: func() any { return new([window]byte) }}

// A Reader reads a Data from its first byte. It need not be closed. Once the
// Data is closed, all its methods give fs.ErrClosed. ReadAt is safe for
// concurrent use; the other methods share one position and are not.
type Reader struct {
	data *Data
	pos  int64
}

// NewReader returns a reader with a position of its own.
func (d *Data) NewReader() *Reader { return &Reader{data: d} }

// Read implements io.Reader.
func (r *Reader) Read(p []byte) (int, error) {
	n, err := r.data.ReadAt(p, r.pos)
	r.pos += int64(n)
	if n > 0 && err == io.EOF { //nolint:errorlint // only the bare value is the end
		err = nil
	}
	return n, err
}

// ReadAt implements io.ReaderAt. It leaves the position alone.
func (r *Reader) ReadAt(p []byte, off int64) (int, error) { return r.data.ReadAt(p, off) }

// Seek implements io.Seeker. Positions past the end are allowed.
func (r *Reader) Seek(offset int64, whence int) (int64, error) {
	if r.data.Closed() {
		return 0, fs.ErrClosed
	}
	switch whence {
	case io.SeekStart:
	case io.SeekCurrent:
		offset += r.pos
	case io.SeekEnd:
		offset += r.data.size
	default:
		return 0, fmt.Errorf("seek: invalid whence %d", whence)
	}
	if offset < 0 {
		return 0, errors.New("seek: negative position")
	}
	r.pos = offset
	return offset, nil
}

// WriteTo implements io.WriterTo: it writes what follows the position to w.
func (r *Reader) WriteTo(w io.Writer) (int64, error) {
	buf := windows.Get().(*[window]byte)
	defer windows.Put(buf)
	var total int64
	for {
		n, err := r.data.ReadAt(buf[:], r.pos)
		if n > 0 {
			written, werr := w.Write(buf[:n])
			if written < 0 || written > n {
				return total, fmt.Errorf("writer returned %d of %d bytes", written, n)
			}
			r.pos += int64(written)
			total += int64(written)
			if werr != nil {
				return total, werr
			}
			if written < n {
				return total, io.ErrShortWrite
			}
		}
		if err == io.EOF { //nolint:errorlint // only the bare value is the end
			return total, nil
		}
		if err != nil {
			return total, err
		}
	}
}
