package journal_test

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"hash/crc32"
	"io"
	"io/fs"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/filecoin-project/dagstore/internal/fault"
	"github.com/filecoin-project/dagstore/internal/files"
	"github.com/filecoin-project/dagstore/internal/journal"
)

func TestEntriesComeBackInOrder(t *testing.T) {
	path := newPath(t)
	j, err := journal.Create(files.OS, path, entries("begin"))
	require.NoError(t, err)
	want := []string{"begin"}
	for _, text := range numbered(50) {
		require.NoError(t, j.Append(ctx, []byte(text), nil))
		require.Equal(t, sizeOf(t, path), j.Size())
		want = append(want, text)
	}
	require.NoError(t, j.Close())

	j, got, err := open(files.OS, path)
	require.NoError(t, err)
	require.Equal(t, want, got)
	require.Equal(t, sizeOf(t, path), j.Size())
	require.NoError(t, j.Append(ctx, []byte("after opening"), nil))
	require.Equal(t, sizeOf(t, path), j.Size())
	require.NoError(t, j.Close())
	require.Equal(t, append(want, "after opening"), reopened(t, path))
}

func TestJournalsCreatedWithNothingAndWithMuch(t *testing.T) {
	big := strings.Repeat("0123456789abcdef", 1<<15)
	for _, first := range [][]string{nil, {big, "small", big, big, big, "end"}} {
		path := newPath(t)
		j, err := journal.Create(files.OS, path, entries(first...))
		require.NoError(t, err)
		require.Equal(t, sizeOf(t, path), j.Size())
		require.NoError(t, j.Append(ctx, []byte(big), nil))
		require.NoError(t, j.Append(ctx, []byte("."), nil))
		require.NoError(t, j.Close())
		require.Equal(t, append(first, big, "."), reopened(t, path))
	}
}

// The bytes are those of doc.go. They must not change.
func TestFormatStaysReadable(t *testing.T) {
	golden, err := hex.DecodeString("" +
		"646167736a726e6c" + "01000000" + "3d00000000000000" + "dfe28790" +
		"05000000" + "6dbd49e0" + "626567696e" + "56892a7e" +
		"08000000" + "0ff4a936" + "736e617073686f74" + "5ee60866" +
		"01000000" + "9a332543" + "61" + "2cb2d938")
	require.NoError(t, err)
	path := newPath(t)
	write(t, path, "a")
	require.Equal(t, hex.EncodeToString(golden), hex.EncodeToString(contents(t, path)))

	checked := []byte{} // everything but the checks
	take := func(n int) {
		checked = append(checked, golden[:n]...)
		sum := crc32.Checksum(checked, crc32.MakeTable(crc32.Castagnoli))
		require.Equal(t, sum, binary.LittleEndian.Uint32(golden[n:]))
		golden = golden[n+4:]
	}
	take(20)
	for _, n := range []int{5, 8, 1} {
		take(4)
		take(n)
	}
	require.Empty(t, golden)
}

func TestNewerVersionIsNotTakenForDamage(t *testing.T) {
	path := newPath(t)
	write(t, path)
	b := contents(t, path)
	b[8] = 2
	replace(t, path, b)
	_, _, err := open(files.OS, path)
	require.ErrorIs(t, err, journal.ErrDamaged, "the check does not fit")

	sum := crc32.Checksum(b[:20], crc32.MakeTable(crc32.Castagnoli))
	binary.LittleEndian.PutUint32(b[20:], sum)
	replace(t, path, b)
	_, _, err = open(files.OS, path)
	require.ErrorIs(t, err, errors.ErrUnsupported)
	require.NotErrorIs(t, err, journal.ErrDamaged)
	require.Equal(t, b, contents(t, path))

	b[0]++
	binary.LittleEndian.PutUint32(b[20:], crc32.Checksum(b[:20], crc32.MakeTable(crc32.Castagnoli)))
	replace(t, path, b)
	_, _, err = open(files.OS, path)
	require.ErrorIs(t, err, journal.ErrDamaged, "another kind of file")
}

func TestEntriesThatCouldNotBeReadAreRefused(t *testing.T) {
	path := newPath(t)
	for _, entry := range [][]byte{nil, make([]byte, journal.MaxEntry+1)} {
		_, err := journal.Create(files.OS, path, [][]byte{entry})
		require.Error(t, err)
		require.NoFileExists(t, path)
	}
	j, err := journal.Create(files.OS, path, nil)
	require.NoError(t, err)
	for _, entry := range [][]byte{nil, make([]byte, journal.MaxEntry+1)} {
		require.Error(t, j.Append(ctx, entry, func() { t.Error("done") }))
	}
	require.NoError(t, j.Append(ctx, []byte("good"), nil))
	require.NoError(t, j.Close())
	require.Equal(t, []string{"good"}, reopened(t, path))
}

func TestLongestEntryComesBack(t *testing.T) {
	t.Parallel()
	path := newPath(t)
	j, err := journal.Create(files.OS, path, nil)
	require.NoError(t, err)
	longest := bytes.Repeat([]byte("a"), journal.MaxEntry)
	require.NoError(t, j.Append(ctx, longest, nil))
	require.NoError(t, j.Close())
	n := 0
	to, err := journal.Read(files.OS, path, journal.Position{}, func(entry []byte) error {
		require.True(t, bytes.Equal(longest, entry))
		n++
		return nil
	})
	require.NoError(t, err)
	require.Equal(t, sizeOf(t, path), to.Offset)
	require.Equal(t, 1, n)
}

func TestCreateNeverTakesThePlaceOfAnotherJournal(t *testing.T) {
	path := newPath(t)
	write(t, path, "precious")
	_, err := journal.Create(files.OS, path, nil)
	require.ErrorIs(t, err, fs.ErrExist)
	require.Equal(t, []string{"begin", "snapshot", "precious"}, reopened(t, path))
}

func TestMissingJournalIsReportedAndNotMade(t *testing.T) {
	path := newPath(t)
	_, _, err := open(files.OS, path)
	require.ErrorIs(t, err, fs.ErrNotExist)
	_, _, err = followed(path, journal.Position{})
	require.ErrorIs(t, err, fs.ErrNotExist)
	require.NoFileExists(t, path)
}

func TestErrorOfVisitEndsReplay(t *testing.T) {
	path := newPath(t)
	write(t, path, "a", "b", "c")
	for _, mine := range []error{errors.New("mine"), io.EOF, io.ErrUnexpectedEOF} {
		var texts []string
		visit := func(entry []byte) error {
			if string(entry) == "b" {
				return mine
			}
			return collect(&texts)(entry)
		}
		_, err := journal.Open(files.OS, path, visit)
		require.ErrorIs(t, err, mine)
		require.Equal(t, []string{"begin", "snapshot", "a"}, texts)

		to, err := journal.Read(files.OS, path, journal.Position{}, visit)
		require.ErrorIs(t, err, mine)
		rest, _, err := followed(path, to)
		require.NoError(t, err)
		require.Equal(t, []string{"b", "c"}, rest, "the entry that was not taken comes again")
	}
	require.Equal(t, []string{"begin", "snapshot", "a", "b", "c"}, reopened(t, path))
}

func TestClosedJournalTakesNoEntries(t *testing.T) {
	inj := fault.OnIndex(0).Match(fault.Is(fault.Close))
	j, err := journal.Create(faulty(inj), newPath(t), nil)
	require.NoError(t, err)
	require.ErrorIs(t, j.Close(), fault.ErrInjected)
	require.ErrorIs(t, j.Close(), fault.ErrInjected)
	require.Equal(t, 1, inj.Count(fault.Close))
	require.ErrorIs(t, j.Append(ctx, []byte("late"), func() { t.Error("done") }), fs.ErrClosed)
}
