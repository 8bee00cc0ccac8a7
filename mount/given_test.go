package mount

import (
	"io"
	"os"
	"path/filepath"
	"testing"
	"testing/fstest"

	"github.com/stretchr/testify/require"
)

// A mount that can be read directly may still be registered beside a copy that
// the user has, for instance because its own file is not there now.
func TestUsersCopyServesAShardWhoseOwnFileIsNotThere(t *testing.T) {
	given := filepath.Join(t.TempDir(), "mine.car")
	require.NoError(t, os.WriteFile(given, []byte("mine"), 0o600))
	u, err := Upgrade(&FSMount{FS: fstest.MapFS{}, Path: "gone.car"}, nil, t.TempDir(), "k", given)
	require.NoError(t, err)
	require.Equal(t, given, u.TransientPath())

	r, err := u.Fetch(t.Context())
	require.NoError(t, err)
	got, err := io.ReadAll(r)
	require.NoError(t, err)
	require.NoError(t, r.Close())
	require.Equal(t, "mine", string(got))

	require.NoError(t, u.DeleteTransient())
	require.FileExists(t, given)
	_, err = u.Fetch(t.Context())
	require.ErrorIs(t, err, os.ErrNotExist)
}
