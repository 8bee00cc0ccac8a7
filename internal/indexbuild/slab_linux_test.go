package indexbuild_test

import (
	"fmt"
	"os"
	"runtime/debug"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/filecoin-project/dagstore/internal/files"
	"github.com/filecoin-project/dagstore/internal/indexbuild"
)

// resident returns how many bytes of memory the process has.
func resident(t *testing.T) int64 {
	var size, pages int64
	statm, err := os.ReadFile("/proc/self/statm")
	require.NoError(t, err)
	_, err = fmt.Sscan(string(statm), &size, &pages)
	require.NoError(t, err)
	return pages * int64(os.Getpagesize())
}

func TestMemoryIsTheSystemsAgainWhenAnIndexIsDone(t *testing.T) {
	const records, width = 600_000, 40
	debug.FreeOSMemory() // what other tests left
	before := resident(t)
	b := indexbuild.New(files.OS, t.TempDir(), indexbuild.NewBudget(0))
	var source digests
	digest := make([]byte, width-8)
	for i := range records {
		source.next(digest)
		require.NoError(t, b.Add(0x12, digest, uint64(i)))
	}
	require.GreaterOrEqual(t, resident(t)-before, int64(records*width))
	require.NoError(t, b.Close())
	require.LessOrEqual(t, resident(t)-before, int64(records*width/4))
}
