//go:build unix

package mapped

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
)

// Linux allows a process some mappings, and ends it when the runtime can get none.
func TestTheNumberOfMappingsIsBounded(t *testing.T) {
	content := randomBytes(100)
	before := mappings.Load()
	first, _ := openFile(t, content)
	mappings.Store(maxMappings - 1)
	defer func() { mappings.Store(before) }()
	require.NoError(t, first.Map())
	require.NotNil(t, first.Mapping())

	second, _ := openFile(t, content)
	require.NoError(t, second.Map())
	require.Nil(t, second.Mapping())
	got, err := io.ReadAll(second.NewReader())
	require.NoError(t, err)
	require.Equal(t, content, got, "it is read without")

	require.NoError(t, first.Close())
	third, _ := openFile(t, content)
	require.NoError(t, third.Map())
	require.NotNil(t, third.Mapping(), "there is room again")
	require.NoError(t, third.Close())
	require.EqualValues(t, maxMappings-1, mappings.Load())
}

func TestDataThatCannotBeMappedCountsForNothing(t *testing.T) {
	before := mappings.Load()
	empty, _ := openFile(t, nil)
	require.NoError(t, empty.Map())
	short, file := openFile(t, randomBytes(100))
	require.NoError(t, file.Truncate(99))
	require.NoError(t, short.Map())
	null, err := os.Open(os.DevNull)
	require.NoError(t, err)
	device, err := Open(null)
	require.NoError(t, err)
	defer device.Close()
	require.NoError(t, device.Map())
	require.Equal(t, before, mappings.Load())
}

func TestDetachedDataNeedsNoFile(t *testing.T) {
	content := append(randomBytes(5000), make([]byte, 100)...)
	d, file := openFile(t, content)
	require.NoError(t, d.Map())
	require.NoError(t, d.Detach())
	require.NoError(t, d.Detach())
	require.ErrorIs(t, file.Close(), fs.ErrClosed)
	require.NoError(t, os.Remove(file.Name()))
	got, err := io.ReadAll(d.NewReader())
	require.NoError(t, err)
	require.Equal(t, content, got)
	require.NoError(t, d.Reaches(1<<40), "nobody can tell any more")
	require.NoError(t, d.Close())
	require.NoError(t, d.Detach())
	_, err = d.ReadAt(make([]byte, 1), 0)
	require.ErrorIs(t, err, fs.ErrClosed)
}

func TestDataThatIsNotMappedKeepsItsSource(t *testing.T) {
	content := randomBytes(100)
	d, _ := openFile(t, content)
	require.NoError(t, d.Detach())
	got, err := io.ReadAll(d.NewReader())
	require.NoError(t, err)
	require.Equal(t, content, got)
}

func TestDetachReportsTheErrorOfTheSourceOnce(t *testing.T) {
	d, file := openFile(t, randomBytes(100))
	require.NoError(t, d.Map())
	require.NoError(t, file.Close())
	require.ErrorIs(t, d.Detach(), fs.ErrClosed)
	require.NoError(t, d.Detach())
	require.NoError(t, d.Close())
}

// Half of the reads end in a zero, and ask the file.
func TestReadingBesideDetachAndClose(t *testing.T) {
	path := t.TempDir() + "/data"
	require.NoError(t, os.WriteFile(path, make([]byte, 1<<14), 0o600))
	for range 30 {
		file, err := os.Open(path)
		require.NoError(t, err)
		d, err := Open(file)
		require.NoError(t, err)
		require.NoError(t, d.Map())
		var readers, begun sync.WaitGroup
		for range 3 {
			begun.Add(1)
			readers.Go(func() {
				begin := sync.OnceFunc(begun.Done)
				for {
					_, err := d.ReadAt(make([]byte, 100), 4000)
					begin()
					if errors.Is(err, fs.ErrClosed) && d.Closed() {
						return
					}
					if err != nil {
						t.Errorf("read beside Detach: %v", err)
						return
					}
				}
			})
		}
		begun.Wait()
		require.NoError(t, d.Detach())
		require.NoError(t, d.Close())
		readers.Wait()
	}
}

func TestReachesTellsHowMuchIsLeftOfAMappedFile(t *testing.T) {
	d, file := openFile(t, make([]byte, 10_000))
	require.NoError(t, d.Reaches(1<<40), "reads of what is not mapped tell themselves")
	require.NoError(t, d.Map())
	require.NoError(t, file.Truncate(9000))
	for end, ok := range map[int64]bool{-1: true, 0: true, 1: true, 9000: true, 9001: false, 10_000: false} {
		if ok {
			require.NoError(t, d.Reaches(end), "%d", end)
		} else {
			require.ErrorIs(t, d.Reaches(end), io.ErrUnexpectedEOF, "%d", end)
		}
	}
	if !raceDetector { // which allocates what the compiler does not
		require.Zero(t, testing.AllocsPerRun(10, func() { _ = d.Reaches(100) }))
	}
	at, err := file.Seek(0, io.SeekCurrent)
	require.NoError(t, err)
	require.Zero(t, at, "the position of the file is left alone")
}

func TestAdviceOnAnyPartIsHarmless(t *testing.T) {
	content := randomBytes(3*os.Getpagesize() + 100)
	d, _ := openFile(t, content)
	Random(nil)
	require.NoError(t, d.Map())
	m := d.Mapping()
	for _, part := range [][]byte{nil, m, m[:1], m[5:9], m[len(m)-1:], m[os.Getpagesize()-1 : os.Getpagesize()+1]} {
		Random(part)
		Sequential(part)
		WillNeed(part)
	}
	for _, off := range []int64{0, 100, d.Size() - 1, d.Size(), d.Size() + 1} {
		d.WillNeed(off, 1)
		d.WillNeed(off, 1<<20)
	}
	got, err := io.ReadAll(d.NewReader())
	require.NoError(t, err)
	require.Equal(t, content, got)
	require.NoError(t, d.Close())
	d.WillNeed(0, 1)
}
