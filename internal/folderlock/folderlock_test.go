package folderlock

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestFolderHasOneOwnerAtATime(t *testing.T) {
	dir := t.TempDir()
	unlock, err := Lock(dir)
	require.NoError(t, err)
	_, err = Lock(dir)
	require.ErrorIs(t, err, ErrLocked)
	require.NoError(t, unlock())

	unlock, err = Lock(dir)
	require.NoError(t, err)
	require.NoError(t, unlock())
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	require.Empty(t, entries, "locking leaves files in the folder")
}

func TestMissingFolderIsAnErrorOfItsOwn(t *testing.T) {
	_, err := Lock(filepath.Join(t.TempDir(), "gone"))
	require.ErrorIs(t, err, os.ErrNotExist)
}
