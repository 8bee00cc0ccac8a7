package dagstore

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/filecoin-project/dagstore/internal/cartest"
	"github.com/filecoin-project/dagstore/shard"
)

// A crash came after the new full index was kept, and before the top-level index was
// changed.
func TestOldBlocksOfAShardAreNotFoundWhenItsNewFullIndexIsAdopted(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		r := newRig(t, inFolder(t), inTopLevelDir(t))
		require.NoError(t, r.register("a"))
		r.sources["a"].data = cartest.V1(nil, blocksOf(7))
		r.sources["c"].data = r.sources["a"].data
		require.NoError(t, r.register("c"))
		idx, err := r.indices.GetFullIndex(key("c"))
		require.NoError(t, err)
		require.NoError(t, r.indices.AddFullIndex(key("a"), idx))
		require.NoError(t, r.Close())
		r.plant("a", ShardStateInitializing, false, "")
		r.renew()
		require.NoError(t, r.Start(t.Context()))
		synctest.Wait()
		require.Equal(t, ShardStateAvailable, r.state("a"))
		require.Equal(t, 1, r.sources["a"].fetched(), "its index was adopted")
		require.Equal(t, "[c a]", r.shardsWith(blocksOf(7)[1]))
		require.Equal(t, "[]", r.shardsWith(blocksOf(0)[1]))
		require.True(t, r.topLevel.shards.isWhole())
	})
}

// newRigAfterLoss returns a store with the shards a, b and c that was closed, and then
// lost the record of b. That of c became unreadable.
func newRigAfterLoss(t *testing.T, tweaks ...func(*Config)) *rig {
	t.Helper()
	r := newRig(t, append(tweaks, inFolder(t))...)
	for _, k := range []string{"a", "b", "c"} {
		require.NoError(t, r.register(k))
	}
	require.NoError(t, r.Close())
	require.NoError(t, r.config.Datastore.Delete(t.Context(), StoreNamespace.ChildString("b")))
	require.NoError(t, r.config.Datastore.Put(t.Context(), StoreNamespace.ChildString("c"), []byte(`{"s`)))
	r.renew()
	require.NoError(t, r.Start(t.Context()))
	synctest.Wait()
	return r
}

func TestShardOfALostRecordLeavesNothingInTheIndexForTheNextOfItsKey(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		r := newRigAfterLoss(t, inTopLevelDir(t))
		keys, err := r.topLevel.own.Shards(t.Context())
		require.NoError(t, err)
		require.Equal(t, []shard.Key{key("a"), key("c")}, keys, "the record of c may become readable")
		r.sources["b"].data = cartest.V1(nil, blocksOf(7))
		_, err = r.folder.DropFullIndex(key("b"))
		require.NoError(t, err)
		require.NoError(t, r.register("b"))
		require.Equal(t, "[]", r.shardsWith(blocksOf(1)[1]))
		time.Sleep(time.Hour)
		require.Equal(t, "map[a:true b:true c:true]", r.inIndex())
	})
}

func TestShardsOfOthersStayInAnIndexThatIsShared(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		shared := newService(t)
		r := newRigAfterLoss(t, func(c *Config) { c.TopLevelIndex = shared })
		require.Nil(t, r.topLevel.own)
		keys, err := shared.Shards(t.Context())
		require.NoError(t, err)
		require.Equal(t, []shard.Key{key("a"), key("b"), key("c")}, keys)
	})
}
