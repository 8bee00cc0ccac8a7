package journal_test

import (
	"bytes"
	"errors"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/filecoin-project/dagstore/internal/files"
	"github.com/filecoin-project/dagstore/internal/journal"
)

// FuzzOpen opens any bytes.
func FuzzOpen(f *testing.F) {
	path := newPath(f)
	small(f, path)
	whole := contents(f, path)
	f.Add(whole)
	f.Add(whole[:len(whole)-1])
	f.Add(whole[:30])
	f.Add(append(slices.Clone(whole), make([]byte, 100)...))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		path := newPath(t)
		replace(t, path, b)
		read, to, readErr := followed(path, journal.Position{})
		j, texts, err := open(files.OS, path)
		require.Equal(t, read, texts)
		require.Equal(t, err == nil, readErr == nil)
		if err != nil {
			require.True(t, errors.Is(err, journal.ErrDamaged) || errors.Is(err, errors.ErrUnsupported), "%v", err)
			require.Equal(t, b, append([]byte{}, contents(t, path)...))
			return
		}
		require.Equal(t, to.Offset, j.Size())
		require.True(t, bytes.HasPrefix(b, contents(t, path)))
		require.NoError(t, j.Append(ctx, []byte("more"), nil))
		require.NoError(t, j.Close())
		require.Equal(t, append(texts, "more"), reopened(t, path))
	})
}

// FuzzDamage writes entries of the given lengths, and then changes one byte of
// the file and cuts it: of the entries only the first ones may be found.
func FuzzDamage(f *testing.F) {
	f.Add([]byte("abc"), []byte{1, 2}, 40, byte(1), 1000)
	f.Add([]byte("\x00"), []byte{0, 0, 8, 255}, 60, byte(0xff), 70)
	f.Fuzz(func(t *testing.T, text, lengths []byte, at int, flip byte, size int) {
		path := newPath(t)
		var texts []string
		j, err := journal.Create(files.OS, path, nil)
		require.NoError(t, err)
		for i, n := range lengths[:min(len(lengths), 20)] {
			entry := bytes.Repeat(append([]byte{byte(i)}, text...), int(n)+1)
			require.NoError(t, j.Append(ctx, entry, nil))
			texts = append(texts, string(entry))
		}
		require.NoError(t, j.Close())

		b := contents(t, path)
		at = max(0, at) % len(b)
		size = min(max(0, size), len(b))
		b[at] ^= flip
		replace(t, path, b[:size])
		got, _, err := followed(path, journal.Position{})
		require.LessOrEqual(t, len(got), len(texts))
		require.Equal(t, texts[:len(got)], append(texts[:0:0], got...))
		switch {
		case flip != 0 && size == len(b):
			require.ErrorIs(t, err, journal.ErrDamaged)
		case err != nil:
			require.ErrorIs(t, err, journal.ErrDamaged)
			require.True(t, at < size && flip != 0 || size < 24, "what was only cut is no damage")
		}
	})
}
