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
	first := filepath.Join(t.TempDir(), "first")
	require.NoError(t, os.WriteFile(first, cartest.V1(nil, bs), 0o600))
	register(t, d, "first", &mount.FileMount{Path: first})
	register(t, d, "second", carMount(bs))
	calls, sum := 0, byte(0)
	s := session(t, open(t, d, nil, 2, 0))
	err := s.View(t.Context(), bs[0].Cid, func(p []byte) error {
		calls++
		require.NoError(t, os.Truncate(first, 4096))
		for _, b := range p {
			sum += b
		}
		return nil
	})
	require.ErrorIs(t, err, dagstore.ErrTruncatedCAR)
	require.Equal(t, 1, calls)
	require.NoError(t, dagstore.Destroy(t.Context(), d, key("first")), "a shard that failed is still held")
}
