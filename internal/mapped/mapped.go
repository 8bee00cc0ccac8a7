// Package mapped reads the bytes of a shard at random, from a memory mapping
// where there is one. It never faults: a file that is truncated under its
// mapping, a reader with nil parts and a read beside Close all give errors.
package mapped

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"sync"
	"sync/atomic"

	"github.com/filecoin-project/dagstore/internal/guard"
)

// A Source is what the bytes come from. Its parts need not work: a part that
// panics gives an error.
type Source interface {
	io.ReaderAt
	io.Seeker
	io.Closer
}

// Data is random access to the bytes of a Source. It is made by Open, and its
// methods are safe for concurrent use.
type Data struct {
	src  Source
	size int64
	gate gate

	isMapped   atomic.Bool // mapping is set, for ever
	isDetached atomic.Bool // src is closed, and mapping is all there is

	mu      sync.Mutex // guards what follows until isMapped; makes Map, Detach and Close follow each other
	tried   bool       // Map has been called
	mapping []byte     // the first bytes of src, or nil
}

// Open returns the bytes of src, which belongs to the Data if Open succeeds
// and stays with the caller if not. The size is taken once: what is appended
// to src later is not seen.
func Open(src Source) (*Data, error) {
	var size int64
	err := guard.Call(func() (err error) {
		size, err = sizeOf(src)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("size of the data: %w", err)
	}
	return &Data{src: src, size: size}, nil
}

// sizeOf looks where the end is. Only a plain file is asked for its size: what
// embeds one may have other bytes.
func sizeOf(src Source) (int64, error) {
	if file, ok := src.(*os.File); ok {
		return fileSize(file)
	}
	size, err := src.Seek(0, io.SeekEnd)
	if err != nil {
		return 0, err
	}
	if _, err := src.Seek(0, io.SeekStart); err != nil {
		return 0, err
	}
	return checkSize(size)
}

func fileSize(file *os.File) (int64, error) {
	info, err := file.Stat()
	switch {
	case err != nil:
		return 0, err
	case info.IsDir():
		return 0, errors.New("is a directory")
	case info.Mode().IsRegular():
		return checkSize(info.Size())
	}
	size, err := file.Seek(0, io.SeekEnd)
	if err != nil {
		return 0, err
	}
	_, err = file.Seek(0, io.SeekStart)
	return size, err
}

func checkSize(size int64) (int64, error) {
	if size < 0 {
		return 0, fmt.Errorf("negative size %d", size)
	}
	return size, nil
}

// Size returns the number of bytes, also after Close.
func (d *Data) Size() int64 { return d.size }

// Done returns a channel that is closed when Close begins.
func (d *Data) Done() <-chan struct{} { return d.gate.closing() }

// Closed tells whether Close has begun.
func (d *Data) Closed() bool { return d.gate.closed.Load() }

// Enter begins a read of the Mapping, which Leave ends. Close waits for it. The
// error is fs.ErrClosed once Close has begun.
func (d *Data) Enter() (Pass, error) {
	p, ok := d.gate.enter()
	if !ok {
		return 0, fs.ErrClosed
	}
	return p, nil
}

// Leave ends the read that got p from Enter.
func (d *Data) Leave(p Pass) { d.gate.leave(p) }

// Spread prepares the Data for many concurrent readers: it takes half a kilobyte,
// and spares them waiting for each other's cores.
func (d *Data) Spread() { d.gate.spread() }

// Mapping returns all bytes if they are mapped into memory, and otherwise nil. It
// is to be read between Enter and Leave only, through Faultless, and with
// Reaches in mind.
func (d *Data) Mapping() []byte {
	if d.isMapped.Load() {
		return d.mapping
	}
	return nil
}

// Reaches returns an error if the mapped file is shorter than end by now. It is to
// be asked when bytes up to end, read from the Mapping, end in a zero: past the end
// of a file that was truncated pages fault, but the rest of its last page reads as
// zeros. It allocates nothing. Of data that is not mapped it says nothing: reads do.
func (d *Data) Reaches(end int64) error {
	file, ok := d.src.(*os.File)
	if !ok || end <= 0 || d.isDetached.Load() || !d.isMapped.Load() {
		return nil
	}
	var last [1]byte // read already, and so in memory: that costs no more than asking for the size
	_, err := file.ReadAt(last[:], end-1)
	switch {
	case err == nil || d.isDetached.Load(): // detached meanwhile
		return nil
	case errors.Is(err, io.EOF):
		return errTruncated
	}
	return fmt.Errorf("end of the data: %w", err)
}

// WillNeed tells the system that up to n bytes at an offset are going to be read, if
// they are mapped: it reads them from the disk at once.
func (d *Data) WillNeed(off, n int64) {
	pass, err := d.Enter()
	if err != nil {
		return
	}
	defer d.Leave(pass)
	if mapping := d.Mapping(); off < int64(len(mapping)) {
		WillNeed(mapping[off:min(off+n, int64(len(mapping)))])
	}
}

// ReadAt implements io.ReaderAt. It gives fs.ErrClosed once Close has begun,
// and an error that wraps io.ErrUnexpectedEOF where the source has become
// shorter than Size.
func (d *Data) ReadAt(p []byte, off int64) (int, error) {
	pass, err := d.Enter()
	if err != nil {
		return 0, err
	}
	defer d.Leave(pass)

	if off < 0 {
		return 0, fmt.Errorf("read at negative offset %d", off)
	}
	if len(p) == 0 {
		return 0, nil
	}
	if off >= d.size {
		return 0, io.EOF
	}
	want := p[:min(int64(len(p)), d.size-off)]
	var n int
	if mapping := d.Mapping(); mapping != nil {
		n, err = d.readMapped(mapping, want, off)
	} else {
		n, err = readSource(d.src, want, off)
	}
	if err == nil && n < len(p) {
		err = io.EOF
	}
	return n, err
}

// readMapped fills p, which lies inside the data, or returns an error.
func (d *Data) readMapped(mapping, p []byte, off int64) (int, error) {
	n, err := copyMapped(p, mapping[off:])
	if err == nil && p[len(p)-1] == 0 {
		err = d.Reaches(off + int64(len(p)))
	}
	if err != nil {
		return 0, err
	}
	return n, nil
}

// readSource fills p, which lies inside the data, or returns an error.
func readSource(src io.ReaderAt, p []byte, off int64) (n int, err error) {
	err = guard.Call(func() (err error) {
		n, err = src.ReadAt(p, off)
		return err
	})
	switch {
	case n < 0 || n > len(p):
		return 0, fmt.Errorf("reader returned %d of %d bytes", n, len(p))
	case n == len(p):
		return n, nil
	case err == nil || errors.Is(err, io.EOF):
		return n, fmt.Errorf("data ends at byte %d: %w", off+int64(n), io.ErrUnexpectedEOF)
	}
	return n, err
}

// Map maps the data into memory if it is a regular *os.File and the system
// can; other data is read as before, which is no error. Only the first call
// does anything. The error is fs.ErrClosed after Close. Types that merely embed
// an *os.File are not mapped: their ReadAt may give other bytes. At most 30,000
// files are mapped at once, in the whole process.
func (d *Data) Map() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.gate.closed.Load() {
		return fs.ErrClosed
	}
	if d.tried {
		return nil
	}
	d.tried = true
	if file, ok := d.src.(*os.File); ok {
		d.mapping = mapFile(file, d.size)
		d.isMapped.Store(d.mapping != nil)
	}
	return nil
}

// Detach closes the source if the data is mapped, and returns the error of that.
// From then on it is not noticed that the file was truncated in its last page:
// it is for files that nobody truncates.
func (d *Data) Detach() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.isMapped.Load() || d.gate.closed.Load() || d.isDetached.Swap(true) {
		return nil
	}
	return guard.Call(d.src.Close)
}

// Close makes all further reads fail, waits for those in progress, then unmaps
// the data and closes the source, whose error it returns. Any other call,
// beside the first or later, returns nil at once.
func (d *Data) Close() error {
	if !d.gate.close() {
		return nil
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.mapping != nil {
		unmap(d.mapping)
		d.mapping = nil
	}
	if d.isDetached.Load() {
		return nil
	}
	return guard.Call(d.src.Close)
}
