package dagstore

import (
	"errors"
	"fmt"
	"testing"
	"testing/synctest"

	ds "github.com/ipfs/go-datastore"
	"github.com/stretchr/testify/require"

	"github.com/filecoin-project/dagstore/index"
)

// openReader opens the store's top-level index as another process does.
func (r *rig) openReader() *index.FSInverted {
	r.t.Helper()
	x, err := index.OpenFSInverted(r.t.Context(), r.config.TopLevelDir, index.FSInvertedOptions{ReadOnly: true})
	require.NoError(r.t, err)
	r.t.Cleanup(func() { require.NoError(r.t, x.Close()) })
	return x
}

// A reader has no full indices to ask for what the index lacks.
func TestReaderIsNotToldThatABlockIsNowhereWhileTheIndexIsMadeAnew(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		r := newRig(t, inFolder(t), inTopLevelDir(t))
		require.NoError(t, r.register("a"))
		require.NoError(t, r.register("b"))
		reader := r.openReader()
		ask := func() string {
			keys, err := reader.GetShardsForMultihash(t.Context(), blocksOf(0)[0].Cid.Hash())
			require.NotErrorIs(t, err, ds.ErrNotFound)
			if errors.Is(err, index.ErrIncomplete) {
				return "incomplete"
			}
			require.NoError(t, err)
			return fmt.Sprint(keys)
		}
		unblock := r.blockReset()
		r.spoil()
		synctest.Wait()
		require.NotEqual(t, "[]", ask())
		unblock()
		require.Equal(t, "map[a:true b:true]", r.inIndex())
		require.Equal(t, "[a]", ask())
	})
}

func TestReaderIsToldThatShardsAreMissingSinceARestart(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		r := newRig(t, inFolder(t), inTopLevelDir(t))
		require.NoError(t, r.register("a"))
		require.NoError(t, r.topLevel.own.RemoveShard(t.Context(), key("a"), nil)) // as a crash may leave it
		require.NoError(t, r.Close())
		r.renew()
		require.NoError(t, r.Start(t.Context()))
		reader := r.openReader()
		_, err := reader.GetShardsForMultihash(t.Context(), blocksOf(0)[0].Cid.Hash())
		if err != nil {
			require.NotErrorIs(t, err, ds.ErrNotFound)
		}
		require.Equal(t, "map[a:true]", r.inIndex()) // after a while
		keys, err := reader.GetShardsForMultihash(t.Context(), blocksOf(0)[0].Cid.Hash())
		require.NoError(t, err)
		require.Equal(t, "[a]", fmt.Sprint(keys))
	})
}

// Between damage and the making of a new index lies up to an hour.
func TestDamagedIndexIsNotBelievedAgainAfterARestart(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		r := newRig(t, inFolder(t), inTopLevelDir(t))
		require.NoError(t, r.register("a"))
		unblock := r.blockReset()
		r.spoil()
		synctest.Wait()
		require.NoError(t, r.destroy("a"))
		r.sources["a"].data = r.sources["b"].data
		require.NoError(t, r.register("a"))
		require.NoError(t, r.Close())
		unblock()
		r.renew()
		require.NoError(t, r.Start(t.Context()))
		require.Equal(t, "[]", r.shardsWith(blocksOf(0)[0]))
		require.Equal(t, "[a]", r.shardsWith(blocksOf(1)[0]))
		require.Equal(t, "map[a:true]", r.inIndex())
		require.Equal(t, "[]", r.shardsWith(blocksOf(0)[0]))
		require.Equal(t, "[a]", r.shardsWith(blocksOf(1)[0]))
	})
}
