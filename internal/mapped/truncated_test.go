package mapped

import (
	"bytes"
	"io"
	"io/fs"
	"os"
	"testing"

	"github.com/stretchr/testify/require"
)

// Pages past the end of a file fault, but the rest of its last page reads as
// zeros, which a user would take for blocks.
func TestTheRestOfACutPageIsNotReadAsZeros(t *testing.T) {
	content := bytes.Repeat([]byte{1, 2, 3, 4}, 2500)
	d, file := openFile(t, content)
	require.NoError(t, d.Map())
	require.NoError(t, file.Truncate(9000))
	for _, off := range []int64{8900, 8999, 9000, 9500} {
		n, err := d.ReadAt(make([]byte, 500), off)
		require.Zero(t, n, "offset %d", off)
		require.ErrorIs(t, err, io.ErrUnexpectedEOF, "offset %d", off)
	}
	p := make([]byte, 500)
	_, err := d.ReadAt(p, 8500)
	require.NoError(t, err, "these bytes are still there")
	require.Equal(t, content[8500:9000], p)
}

func TestZerosOfTheDataItselfAreRead(t *testing.T) {
	content := append(randomBytes(100), make([]byte, 10_000)...)
	d, _ := openFile(t, content)
	require.NoError(t, d.Map())
	got, err := io.ReadAll(d.NewReader())
	require.NoError(t, err)
	require.Equal(t, content, got)
}

func TestASizeThatCannotBeLookedUpIsAnError(t *testing.T) {
	d, file := openFile(t, make([]byte, 100))
	require.NoError(t, d.Map())
	broken, err := os.Open(file.Name())
	require.NoError(t, err)
	require.NoError(t, broken.Close())
	d.src = broken
	_, err = d.ReadAt(make([]byte, 10), 0)
	require.ErrorIs(t, err, fs.ErrClosed)
	d.src = file
}
