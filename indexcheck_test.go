package dagstore

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"

	carindex "github.com/ipld/go-car/v2/index"
	"github.com/stretchr/testify/require"

	"github.com/filecoin-project/dagstore/index"
	"github.com/filecoin-project/dagstore/internal/cartest"
	"github.com/filecoin-project/dagstore/shard"
)

func requireAllFindable(t *testing.T, r *rig) {
	t.Helper()
	for i, b := range manyBlocks() {
		if i%10 == 0 { // the datastore of the tests is slow
			require.Equal(t, "[a]", r.shardsWith(b))
		}
	}
}

// reopen opens the folder of an index file anew, for a restart.
func reopen(t *testing.T, path string) func(*Config) {
	t.Helper()
	repo, err := index.NewFSRepo(filepath.Dir(path))
	require.NoError(t, err)
	return func(c *Config) { c.IndexRepo = repo }
}

func TestTornIndexDoesNotHideBlocksFromANewTopLevelIndex(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		r, path := withManyBlocks(t)
		old := readFile(t, path)[:30+40*4000] // as v0.7 wrote it
		clear(old[len(old)/2:])               // the second half never reached the disk
		require.NoError(t, os.WriteFile(path, old, 0o600))
		r.restart(reopen(t, path), func(c *Config) { c.TopLevelIndex = index.NewInverted(newDisk()) })
		requireAllFindable(t, r)
	})
}

func TestDamagedIndexIsNotAdopted(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		r := newRig(t, inFolder(t))
		r.sources["a"].data = cartest.V1(nil, manyBlocks())
		require.NoError(t, r.register("a"))
		path := indexFile(t, r)
		damaged := readFile(t, path)
		require.NoError(t, r.destroy("a"))
		damaged[recordOne+5] ^= 0xff
		require.NoError(t, os.WriteFile(path, damaged, 0o600))
		require.NoError(t, r.register("a"))
		requireAllFindable(t, r)
	})
}

// A countingVerifier counts how often it is read whole.
type countingVerifier struct {
	carindex.IterableIndex
	n *int
}

func (c countingVerifier) Verify(context.Context) error { *c.n++; return nil }

type verifyingRepo struct {
	index.FullIndexRepo
	n *int
}

func (r verifyingRepo) GetFullIndex(k shard.Key) (carindex.Index, error) {
	idx, err := r.FullIndexRepo.GetFullIndex(k)
	if err != nil {
		return nil, err
	}
	return countingVerifier{idx.(carindex.IterableIndex), r.n}, nil
}

// Data that changed must not buy an endless reading of indices.
func TestChangedDataHasTheIndexReadOnce(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		n := 0
		r := newRig(t, func(c *Config) { c.IndexRepo = verifyingRepo{index.NewMemoryRepo(), &n} })
		r.sources["a"].remote = false
		require.NoError(t, r.register("a"))
		data := bytes.Clone(r.sources["a"].data)
		data[len(data)-120] ^= 1 // in the CID of the last block
		r.sources["a"].data = data
		for range 50 {
			a := r.mustAcquire("a")
			bs, err := a.Blockstore()
			require.NoError(t, err)
			_, _ = bs.Get(t.Context(), blocksOf(0)[3].Cid)
			require.NoError(t, a.Close())
			synctest.Wait()
		}
		require.LessOrEqual(t, n, 2)
	})
}

// damageIndex puts zeros among the records of an index file, and returns what it was.
func damageIndex(t *testing.T, path string) (sound []byte) {
	t.Helper()
	sound = readFile(t, path)
	damaged := bytes.Clone(sound)
	clear(damaged[len(damaged)/2 : len(damaged)-100])
	require.NoError(t, os.WriteFile(path, damaged, 0o600))
	return sound
}

func TestDamagedIndexIsNotHandedOut(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		r, path := withManyBlocks(t)
		sound := damageIndex(t, path)
		r.restart(reopen(t, path))
		_, err := r.GetIterableIndex(key("a"))
		require.ErrorIs(t, err, index.ErrDamaged)
		synctest.Wait()
		require.Equal(t, sound, readFile(t, path))
		_, err = r.GetIterableIndex(key("a"))
		require.NoError(t, err)
	})
}

// A cuttingInverted has something done before it removes a shard.
type cuttingInverted struct {
	*index.DatastoreInverted
	cut func()
}

func (c *cuttingInverted) RemoveShard(ctx context.Context, k shard.Key, it index.MultihashIterator) error {
	c.cut()
	return c.DatastoreInverted.RemoveShard(ctx, k, it)
}

func TestShardWhoseIndexCannotBeReadCanBeDestroyed(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		inv := &cuttingInverted{DatastoreInverted: index.NewInverted(newDisk()), cut: func() {}}
		r := newRig(t, inFolder(t), func(c *Config) { c.TopLevelIndex = inv })
		r.sources["a"].data = cartest.V1(nil, manyBlocks())
		require.NoError(t, r.register("a"))
		path := indexFile(t, r)
		inv.cut = func() { require.NoError(t, os.Truncate(path, 50_000)) } // as a bad sector
		require.NoError(t, r.destroy("a"))
	})
}

// Accessors that were open before a repair report what was repaired.
func TestRepairedIndexIsNotReadAgainForOldAccessors(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		r, path := withManyBlocks(t)
		old := readFile(t, path)[:30+40*4000]
		record := old[recordOne : recordOne+40]
		record[32]++
		require.NoError(t, os.WriteFile(path, old, 0o600))
		r.restart(reopen(t, path))
		first, second := r.mustAcquire("a"), r.mustAcquire("a")
		synctest.Wait()
		r.drain()
		for _, a := range []*ShardAccessor{first, second} {
			bs, err := a.Blockstore()
			require.NoError(t, err)
			for _, b := range manyBlocks() {
				if bytes.Equal(b.Cid.Hash()[2:], record[:32]) {
					_, err := bs.Get(t.Context(), b.Cid)
					require.ErrorIs(t, err, ErrMalformedCAR)
				}
			}
			synctest.Wait()
		}
		r.expect("Initialize→Initializing", "MakeAvailable→Serving")
		require.False(t, mustShard(t, r, "a").trust.whole.Load(), "the new index was not read for the second report")
		require.NoError(t, first.Close())
		require.NoError(t, second.Close())
	})
}

func mustShard(t *testing.T, r *rig, k string) *Shard {
	t.Helper()
	sh := r.gate.lookup(key(k))
	require.NotNil(t, sh)
	return sh
}

func TestPlantedIndexIsNoReasonNotToVerifyBlocks(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		r := newRig(t, func(c *Config) { c.VerifyBlocks = true })
		require.NoError(t, r.register("a"))
		idx, err := r.GetIterableIndex(key("a"))
		require.NoError(t, err)
		require.NoError(t, r.destroy("a"))
		require.NoError(t, r.config.IndexRepo.AddFullIndex(key("a"), idx))
		car := r.sources["a"].data
		car[len(car)-1] ^= 1
		require.ErrorIs(t, r.register("a"), ErrHashMismatch)
	})
}
