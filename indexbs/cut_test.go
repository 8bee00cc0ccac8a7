//go:build unix

package indexbs_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/filecoin-project/dagstore"
	"github.com/filecoin-project/dagstore/internal/cartest"
	"github.com/filecoin-project/dagstore/mount"
)

func TestBlockIsNotViewedTwiceWhenItsFileIsCutMeanwhile(t *testing.T) {
	d, bs := newStore(t), cartest.Blocks(1, 1<<17, 1)
	var paths []string
	for _, name := range []string{"a", "b"} {
		paths = append(paths, filepath.Join(t.TempDir(), name))
		require.NoError(t, os.WriteFile(paths[len(paths)-1], cartest.V1(nil, bs), 0o600))
		register(t, d, name, &mount.FileMount{Path: paths[len(paths)-1]})
	}
	calls, sum := 0, byte(0)
	err := open(t, d, nil, 2, 0).View(t.Context(), bs[0].Cid, func(p []byte) error {
		calls++
		for _, path := range paths {
			require.NoError(t, os.Truncate(path, 4096))
		}
		for _, b := range p {
			sum += b
		}
		return nil
	})
	require.ErrorIs(t, err, dagstore.ErrTruncatedCAR)
	require.Equal(t, 1, calls)
}
