package mapped

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"testing/iotest"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/filecoin-project/dagstore/internal/guard"
)

func randomBytes(n int) []byte {
	r := rand.New(rand.NewPCG(1, 2))
	p := make([]byte, n)
	for i := range p {
		p[i] = byte(r.Uint32())
	}
	return p
}

// openFile returns a Data over a real file, which the test closes at its end.
func openFile(t *testing.T, content []byte) (*Data, *os.File) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "data")
	require.NoError(t, os.WriteFile(path, content, 0o600))
	file, err := os.OpenFile(path, os.O_RDWR, 0)
	require.NoError(t, err)
	d, err := Open(file)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, d.Close()) })
	return d, file
}

// A source is made of parts, any of which may be missing.
type source struct {
	io.ReaderAt
	io.Seeker
	io.Closer
}

type readerAt func([]byte, int64) (int, error)

func (f readerAt) ReadAt(p []byte, off int64) (int, error) { return f(p, off) }

type closer func() error

func (f closer) Close() error { return f() }

type seeker func(int64, int) (int64, error)

func (f seeker) Seek(offset int64, whence int) (int64, error) { return f(offset, whence) }

func sized(n int64) seeker {
	return func(_ int64, whence int) (int64, error) {
		if whence == io.SeekEnd {
			return n, nil
		}
		return 0, nil
	}
}

func TestEveryByteIsReadMappedOrNot(t *testing.T) {
	content := randomBytes(window + 471)
	file, _ := openFile(t, content)
	mappedFile, _ := openFile(t, content)
	require.NoError(t, mappedFile.Map())
	require.NoError(t, mappedFile.Map())
	require.NotNil(t, mappedFile.mapping)
	memory := bytes.NewReader(content)
	inMemory, err := Open(source{ReaderAt: memory, Seeker: memory})
	require.NoError(t, err)
	require.NoError(t, inMemory.Map())
	require.Nil(t, inMemory.mapping)

	for name, d := range map[string]*Data{"file": file, "mapped": mappedFile, "memory": inMemory} {
		t.Run(name, func(t *testing.T) {
			require.EqualValues(t, len(content), d.Size())
			require.NoError(t, iotest.TestReader(d.NewReader(), content))

			var out bytes.Buffer
			n, err := d.NewReader().WriteTo(&out)
			require.NoError(t, err)
			require.EqualValues(t, len(content), n)
			require.True(t, bytes.Equal(content, out.Bytes()))

			p := make([]byte, 10)
			got, err := d.ReadAt(p, d.Size()-4)
			require.Equal(t, 4, got)
			require.Equal(t, io.EOF, err)
			require.Equal(t, content[len(content)-4:], p[:4])
			_, err = d.ReadAt(p, d.Size())
			require.Equal(t, io.EOF, err)
			_, err = d.ReadAt(p, -1)
			require.ErrorContains(t, err, "negative")
			got, err = d.ReadAt(nil, 3)
			require.NoError(t, err)
			require.Zero(t, got)
		})
	}
}

func TestEachReaderStartsAtTheFirstByte(t *testing.T) {
	content := randomBytes(1000)
	d, file := openFile(t, content)
	_, err := file.Seek(500, io.SeekStart)
	require.NoError(t, err)
	for range 3 {
		got, err := io.ReadAll(d.NewReader())
		require.NoError(t, err)
		require.Equal(t, content, got)
	}
}

func TestSeekRefusesPlacesThatDoNotExist(t *testing.T) {
	d, _ := openFile(t, randomBytes(10))
	r := d.NewReader()
	_, err := r.Seek(-1, io.SeekStart)
	require.ErrorContains(t, err, "negative")
	_, err = r.Seek(0, 9)
	require.ErrorContains(t, err, "whence")
	at, err := r.Seek(100, io.SeekEnd)
	require.NoError(t, err)
	require.EqualValues(t, 110, at)
	_, err = r.Read(make([]byte, 1))
	require.Equal(t, io.EOF, err)
}

func TestAnEmptyFileReadsAsEmpty(t *testing.T) {
	d, _ := openFile(t, nil)
	require.NoError(t, d.Map())
	got, err := io.ReadAll(d.NewReader())
	require.NoError(t, err)
	require.Empty(t, got)
}

// Defect 14c: SIGBUS killed the process.
func TestTruncationUnderAMappingDoesNotKillTheProcess(t *testing.T) {
	content := randomBytes(1 << 20)
	d, file := openFile(t, content)
	require.NoError(t, d.Map())
	p := make([]byte, 1000)
	_, err := d.ReadAt(p, 500_000)
	require.NoError(t, err)

	require.NoError(t, file.Truncate(0))
	n, err := d.ReadAt(p, 500_000)
	require.Zero(t, n)
	require.ErrorIs(t, err, io.ErrUnexpectedEOF)
	_, err = d.NewReader().WriteTo(io.Discard)
	require.ErrorIs(t, err, io.ErrUnexpectedEOF)
}

func TestTruncationOfAFileThatIsNotMappedIsNoQuietEnd(t *testing.T) {
	d, file := openFile(t, randomBytes(1000))
	require.NoError(t, file.Truncate(100))
	n, err := d.ReadAt(make([]byte, 200), 0)
	require.Equal(t, 100, n)
	require.ErrorIs(t, err, io.ErrUnexpectedEOF)
	require.NoError(t, d.Map())
	require.Nil(t, d.mapping, "a mapping longer than the file would fault")
}

func TestAFaultElsewhereStaysAPanic(t *testing.T) {
	require.Panics(t, func() {
		defer func() { panic(recover()) }()
		var mapping []byte
		require.False(t, contain([][]byte{mapping}, 1))
		d, file := openFile(t, randomBytes(1<<16))
		require.NoError(t, d.Map())
		require.NoError(t, file.Truncate(0))
		_, _ = copyMapped(make([]byte, 10), make([]byte, 10))
		_, _ = copyMapped(d.mapping, make([]byte, 10)) // writes to a read-only mapping
	})
}

func TestAfterCloseEverythingIsClosed(t *testing.T) {
	d, file := openFile(t, randomBytes(100))
	require.NoError(t, d.Map())
	r := d.NewReader()
	select {
	case <-d.Done():
		t.Fatal("done before Close")
	default:
	}
	require.NoError(t, d.Close())
	require.NoError(t, d.Close())
	<-d.Done()

	p := make([]byte, 1)
	_, err := d.ReadAt(p, 0)
	require.ErrorIs(t, err, fs.ErrClosed)
	require.ErrorIs(t, d.Map(), fs.ErrClosed)
	_, err = r.Read(p)
	require.ErrorIs(t, err, fs.ErrClosed)
	_, err = r.ReadAt(p, 0)
	require.ErrorIs(t, err, fs.ErrClosed)
	_, err = r.Seek(0, io.SeekStart)
	require.ErrorIs(t, err, fs.ErrClosed)
	_, err = r.WriteTo(io.Discard)
	require.ErrorIs(t, err, fs.ErrClosed)
	_, err = d.NewReader().Read(p)
	require.ErrorIs(t, err, fs.ErrClosed)
	require.ErrorIs(t, file.Close(), fs.ErrClosed, "the source stays open")
	require.EqualValues(t, 100, d.Size())
}

func TestCloseWaitsForReadersAndClosesTheSourceOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var order []string
		release := make(chan struct{})
		broken := errors.New("broken")
		d, err := Open(source{
			ReaderAt: readerAt(func(p []byte, _ int64) (int, error) {
				<-release
				order = append(order, "read")
				return len(p), nil
			}),
			Seeker: sized(10),
			Closer: closer(func() error {
				order = append(order, "close")
				return broken
			}),
		})
		require.NoError(t, err)
		go func() {
			if _, err := d.ReadAt(make([]byte, 10), 0); err != nil {
				t.Error(err)
			}
		}()
		synctest.Wait()
		var closed error
		go func() { closed = d.Close() }()
		synctest.Wait()
		<-d.Done()
		_, err = d.ReadAt(make([]byte, 1), 0)
		require.ErrorIs(t, err, fs.ErrClosed)
		require.NoError(t, d.Close())
		time.Sleep(time.Hour)
		require.Empty(t, order)
		close(release)
		synctest.Wait()
		require.Equal(t, []string{"read", "close"}, order)
		require.ErrorIs(t, closed, broken)
	})
}

// Defect 14b: reading an unmapped page killed the process.
func TestReadingBesideCloseDoesNotKillTheProcess(t *testing.T) {
	content := randomBytes(1 << 16)
	path := filepath.Join(t.TempDir(), "data")
	require.NoError(t, os.WriteFile(path, content, 0o600))
	for range 60 {
		file, err := os.Open(path)
		require.NoError(t, err)
		d, err := Open(file)
		require.NoError(t, err)
		var readers sync.WaitGroup
		for range 4 {
			readers.Go(func() {
				p := make([]byte, len(content))
				for {
					err := d.Map()
					if err == nil {
						_, err = d.ReadAt(p, 0)
					}
					if errors.Is(err, fs.ErrClosed) {
						return
					}
					if err != nil || !bytes.Equal(content, p) {
						t.Errorf("read beside Close: %v", err)
						return
					}
				}
			})
		}
		require.NoError(t, d.Close())
		readers.Wait()
	}
}

func TestReadersWithNilPartsDoNotKillTheProcess(t *testing.T) {
	var p *guard.PanicError
	_, err := Open(nil)
	require.ErrorAs(t, err, &p)
	_, err = Open(source{})
	require.ErrorAs(t, err, &p)
	_, err = Open((*os.File)(nil))
	require.Error(t, err)

	d, err := Open(source{Seeker: sized(3)})
	require.NoError(t, err)
	_, err = d.ReadAt(make([]byte, 1), 0)
	require.ErrorAs(t, err, &p)
	require.NoError(t, d.Map())
	require.ErrorAs(t, d.Close(), &p)
}

func TestReadersThatLieAreNotBelieved(t *testing.T) {
	p := make([]byte, 4)
	for name, n := range map[string]int{"more": 5, "negative": -1} {
		t.Run(name, func(t *testing.T) {
			d, err := Open(source{Seeker: sized(10), ReaderAt: readerAt(func([]byte, int64) (int, error) { return n, nil })})
			require.NoError(t, err)
			got, err := d.ReadAt(p, 0)
			require.Zero(t, got)
			require.ErrorContains(t, err, "of 4 bytes")
		})
	}
	broken := errors.New("broken")
	d, err := Open(source{Seeker: sized(10), ReaderAt: readerAt(func([]byte, int64) (int, error) { return 1, broken })})
	require.NoError(t, err)
	_, err = d.ReadAt(p, 0)
	require.ErrorIs(t, err, broken)

	_, err = Open(source{Seeker: sized(-1)})
	require.ErrorContains(t, err, "negative size")
	_, err = Open(source{Seeker: seeker(func(int64, int) (int64, error) { return 0, broken })})
	require.ErrorIs(t, err, broken)
	_, err = Open(source{Seeker: seeker(func(_ int64, whence int) (int64, error) {
		if whence == io.SeekStart {
			return 0, broken
		}
		return 1, nil
	})})
	require.ErrorIs(t, err, broken)
}

func TestAFolderIsNoData(t *testing.T) {
	dir, err := os.Open(t.TempDir())
	require.NoError(t, err)
	defer dir.Close()
	_, err = Open(dir)
	require.ErrorContains(t, err, "directory")

	pipe, w, err := os.Pipe()
	require.NoError(t, err)
	defer pipe.Close()
	defer w.Close()
	_, err = Open(pipe)
	require.Error(t, err)
}

type writer func([]byte) (int, error)

func (f writer) Write(p []byte) (int, error) { return f(p) }

func TestCopiesReportWritersThatFail(t *testing.T) {
	d, _ := openFile(t, randomBytes(100))
	r := d.NewReader()
	full := errors.New("disk full")
	n, err := r.WriteTo(writer(func([]byte) (int, error) { return 7, full }))
	require.EqualValues(t, 7, n)
	require.ErrorIs(t, err, full)
	at, err := r.Seek(0, io.SeekCurrent)
	require.NoError(t, err)
	require.EqualValues(t, 7, at)
	_, err = r.WriteTo(writer(func([]byte) (int, error) { return 3, nil }))
	require.ErrorIs(t, err, io.ErrShortWrite)
	_, err = r.WriteTo(writer(func(p []byte) (int, error) { return len(p) + 1, nil }))
	require.ErrorContains(t, err, "writer returned")
}

func TestASlowWriterDoesNotHoldUpClose(t *testing.T) {
	d, _ := openFile(t, randomBytes(3*window))
	_, err := d.NewReader().WriteTo(writer(func(p []byte) (int, error) {
		require.NoError(t, d.Close())
		return len(p), nil
	}))
	require.ErrorIs(t, err, fs.ErrClosed)
}
