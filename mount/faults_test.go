package mount_test

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/filecoin-project/dagstore/internal/fault"
	"github.com/filecoin-project/dagstore/internal/files"
	"github.com/filecoin-project/dagstore/mount"
)

// Defect 22r: a full disk, or any other failure, must not leave a torn
// transient, nor a file that counts as cached, nor a shard that cannot be
// fetched later.
func TestAnyFailingFileOperationLeavesAWholeTransientOrNone(t *testing.T) {
	large := bytes.Repeat(content, 30_000) // several writes
	for _, before := range []string{"", complete, "transient-key.partial"} {
		for n := 0; ; n++ {
			dir := t.TempDir()
			if before != "" {
				write(t, filepath.Join(dir, before), content)
			}
			inj := fault.OnIndex(n).Short()
			m := &remote{content: large}
			u, err := mount.UpgradeOn(fault.FS(files.OS, inj), m, nil, dir, "key", "")
			require.NoError(t, err)
			err = u.Prepare(t.Context())
			if inj.Fired() == 0 {
				require.NoError(t, err)
				require.Greater(t, n, 8, "operations were injected")
				break
			}
			require.ErrorIs(t, err, fault.ErrInjected, "operation %d", n)
			for _, name := range names(t, dir) {
				if name == before {
					continue // what was there and could not be looked at or removed
				}
				require.Equal(t, complete, name, "operation %d", n)
				got, err := os.ReadFile(filepath.Join(dir, name))
				require.NoError(t, err)
				require.True(t, bytes.Equal(large, got), "operation %d left a torn transient", n)
			}

			require.True(t, bytes.Equal(large, fetched(t, u)), "operation %d: the next fetch works", n)
			require.Equal(t, []string{complete}, names(t, dir))
			require.NoError(t, u.DeleteTransient())
			require.Empty(t, names(t, dir))
		}
	}
}

// After a failed sync nothing is known to be on disk.
func TestTransientWhoseNameMayNotBeDurableIsNotKept(t *testing.T) {
	dir := t.TempDir()
	inj := fault.Always().Match(fault.Is(fault.SyncDir))
	u, err := mount.UpgradeOn(fault.FS(files.OS, inj), &remote{content: content}, nil, dir, "key", "")
	require.NoError(t, err)
	_, err = u.Fetch(t.Context())
	require.ErrorIs(t, err, fault.ErrInjected)
	require.Empty(t, names(t, dir))
	require.Empty(t, u.TransientPath())
}

func TestFailedRemovalIsToldAndCanBeRepeated(t *testing.T) {
	dir := t.TempDir()
	inj := fault.OnIndex(1).Match(fault.Is(fault.Remove)) // 0: of a leftover, before the download
	u, err := mount.UpgradeOn(fault.FS(files.OS, inj), &remote{content: content}, nil, dir, "key", "")
	require.NoError(t, err)
	require.NoError(t, u.Prepare(t.Context()))
	remove, err := u.RetireTransient()
	require.NoError(t, err)
	require.ErrorIs(t, remove(), fault.ErrInjected)
	require.NoError(t, remove())
	require.Empty(t, names(t, dir))
}

func TestTransientThatCannotBeRetiredStaysInUse(t *testing.T) {
	dir := t.TempDir()
	inj := fault.OnIndex(1).Match(fault.Is(fault.Rename))
	u, err := mount.UpgradeOn(fault.FS(files.OS, inj), &remote{content: content}, nil, dir, "key", "")
	require.NoError(t, err)
	require.NoError(t, u.Prepare(t.Context()))
	require.ErrorIs(t, u.DeleteTransient(), fault.ErrInjected)
	require.Equal(t, filepath.Join(dir, complete), u.TransientPath())
	require.Equal(t, content, fetched(t, u))
	require.Equal(t, 1, u.TimesFetched())
}
