package files_test

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/filecoin-project/dagstore/internal/files"
)

func TestASealedTextIsReadAsItWasWritten(t *testing.T) {
	path := filepath.Join(t.TempDir(), "text")
	require.NoError(t, files.ReplaceText(files.OS, path, files.Seal("one\ntwo\n")))
	text, err := files.ReadText(files.OS, path)
	require.NoError(t, err)
	require.Equal(t, "one\ntwo\nfcac93a4\n", text)
	lines, ok := files.Unseal(text)
	require.True(t, ok)
	require.Equal(t, []string{"one", "two"}, lines)
}

func TestAnyOtherTextIsNotTakenForASealedOne(t *testing.T) {
	text := files.Seal("one\ntwo\n")
	for n := range text {
		_, ok := files.Unseal(text[:n])
		require.False(t, ok)
		flipped := []byte(text)
		for bit := range 8 {
			flipped[n] ^= 1 << bit
			_, ok := files.Unseal(string(flipped))
			require.False(t, ok, "%q", flipped)
			flipped[n] ^= 1 << bit
		}
	}
	for _, other := range []string{"\n" + text, text + "\n", strings.ToUpper(text), files.Seal("no newline")} {
		_, ok := files.Unseal(other)
		require.False(t, ok, "%q", other)
	}
}
