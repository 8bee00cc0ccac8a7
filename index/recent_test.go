package index

import (
	"os"
	"testing"
	"time"

	carindex "github.com/ipld/go-car/v2/index"
	"github.com/multiformats/go-multicodec"
	"github.com/multiformats/go-multihash"
	"github.com/stretchr/testify/require"

	"github.com/ipfs/go-cid"

	"github.com/filecoin-project/dagstore/shard"
)

func oneEntry(t *testing.T, text string, offset uint64) (carindex.Index, cid.Cid) {
	t.Helper()
	h, err := multihash.Sum([]byte(text), multihash.SHA2_256, -1)
	require.NoError(t, err)
	c := cid.NewCidV1(cid.Raw, h)
	idx, err := carindex.New(multicodec.CarMultihashIndexSorted)
	require.NoError(t, err)
	require.NoError(t, idx.Load([]carindex.Record{{Cid: c, Offset: offset}}))
	return idx, c
}

// An index that is kept in memory must not outlive the file it was read from.
func TestReplacedIndexIsNotAnsweredFromMemory(t *testing.T) {
	repo, err := NewFSRepo(t.TempDir())
	require.NoError(t, err)
	key := shard.KeyFromString("k")
	first, a := oneEntry(t, "a", 1)
	second, b := oneEntry(t, "b", 2)

	require.NoError(t, repo.AddFullIndex(key, first))
	got, err := repo.GetFullIndex(key)
	require.NoError(t, err)
	again, err := repo.GetFullIndex(key)
	require.NoError(t, err)
	require.Same(t, got, again, "a small index is read once")

	require.NoError(t, repo.AddFullIndex(key, second))
	require.False(t, repo.recent.indices.Contains(repo.path(key)), "whatever the clock and the disk say")
	got, err = repo.GetFullIndex(key)
	require.NoError(t, err)
	require.ErrorIs(t, got.GetAll(a, func(uint64) bool { return true }), carindex.ErrNotFound)
	require.NoError(t, got.GetAll(b, func(uint64) bool { return true }))

	// Damaged in place, by somebody else.
	path := repo.path(key)
	require.NoError(t, os.WriteFile(path, []byte("not an index at all"), 0o600))
	require.NoError(t, os.Chtimes(path, time.Now(), time.Now().Add(time.Hour)))
	_, err = repo.GetFullIndex(key)
	require.ErrorIs(t, err, ErrDamaged)

	_, err = repo.DropFullIndex(key)
	require.NoError(t, err)
	_, err = repo.GetFullIndex(key)
	require.ErrorIs(t, err, ErrNotFound)
}
