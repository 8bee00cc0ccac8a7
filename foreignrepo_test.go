package dagstore

import (
	"bytes"
	"context"
	"sync"
	"testing"
	"testing/synctest"

	carindex "github.com/ipld/go-car/v2/index"
	"github.com/stretchr/testify/require"

	"github.com/filecoin-project/dagstore/index"
	"github.com/filecoin-project/dagstore/mount"
	"github.com/filecoin-project/dagstore/shard"
)

// A recordingRepo is a service's own, on top of the one of this module.
type recordingRepo struct {
	*index.FSIndexRepo
	mu    sync.Mutex
	added []string
}

func (r *recordingRepo) AddFullIndex(k shard.Key, idx carindex.Index) error {
	r.mu.Lock()
	r.added = append(r.added, k.String())
	r.mu.Unlock()
	return r.FSIndexRepo.AddFullIndex(k, idx)
}

func TestRepoThatEmbedsOursIsUsedThroughItsOwnMethods(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		fsr, err := index.NewFSRepo(t.TempDir())
		require.NoError(t, err)
		repo := &recordingRepo{FSIndexRepo: fsr}
		r := newRig(t, func(c *Config) { c.IndexRepo = repo })
		require.NoError(t, r.register("a"))
		require.Equal(t, []string{"a"}, repo.added)
	})
}

// A bareIndex answers look-ups and nothing else.
type bareIndex struct{ carindex.Index }
type getOnlyRepo struct{ index.FullIndexRepo }

func (r getOnlyRepo) GetFullIndex(k shard.Key) (carindex.Index, error) {
	idx, err := r.FullIndexRepo.GetFullIndex(k)
	if err != nil {
		return nil, err
	}
	return bareIndex{idx}, nil
}

func TestRepoWhoseIndicesOnlyAnswerLookUpsIsServed(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		r := newRig(t, func(c *Config) { c.IndexRepo = getOnlyRepo{index.NewMemoryRepo()} })
		require.NoError(t, r.register("a"))
		r.use("a")
	})
}

// A cachingRepo keeps the indices that it gave.
type cachingRepo struct {
	index.FullIndexRepo
	mu    sync.Mutex
	cache map[shard.Key]carindex.Index
}

func (r *cachingRepo) GetFullIndex(k shard.Key) (carindex.Index, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if idx, ok := r.cache[k]; ok {
		return idx, nil
	}
	idx, err := r.FullIndexRepo.GetFullIndex(k)
	if err == nil {
		r.cache[k] = idx
	}
	return idx, err
}

func (r *cachingRepo) AddFullIndex(k shard.Key, idx carindex.Index) error {
	r.mu.Lock()
	delete(r.cache, k)
	r.mu.Unlock()
	return r.FullIndexRepo.AddFullIndex(k, idx)
}

func TestIndexThatARepoKeepsIsNotClosedUnderIt(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		fsr, err := index.NewFSRepo(t.TempDir())
		require.NoError(t, err)
		repo := &cachingRepo{FullIndexRepo: fsr, cache: map[shard.Key]carindex.Index{}}
		r := newRig(t, func(c *Config) { c.IndexRepo = repo })
		require.NoError(t, r.register("a"))
		r.use("a")
		// Other shards come and go, more than stay open.
		mem, err := indexSections(t.Context(), key("a"), &mount.NopCloser{Reader: bytes.NewReader(r.sources["a"].data), ReaderAt: bytes.NewReader(r.sources["a"].data), Seeker: bytes.NewReader(r.sources["a"].data)})
		require.NoError(t, err)
		for i := range 300 {
			k := shard.KeyFromString(string(rune('A'+i%26)) + string(rune('A'+i/26)))
			require.NoError(t, fsr.AddFullIndex(k, mem))
			o, err := fsr.GetFullIndex(k)
			require.NoError(t, err)
			o.(index.Releaser).Release()
		}
		a := r.mustAcquire("a")
		bs, err := a.Blockstore()
		require.NoError(t, err)
		for _, b := range blocksOf(0) {
			_, err := bs.Get(t.Context(), b.Cid)
			require.NoError(t, err)
		}
		require.NoError(t, a.Close())
	})
}

// A panickyIndex panics when it is released, once that is on.
type panickyIndex struct {
	carindex.IterableIndex
	on *bool
}

func (p panickyIndex) Release() {
	if *p.on {
		panic("release")
	}
}

type panickyRepo struct {
	index.FullIndexRepo
	on *bool
}

func (r panickyRepo) GetFullIndex(k shard.Key) (carindex.Index, error) {
	idx, err := r.FullIndexRepo.GetFullIndex(k)
	if err != nil {
		return nil, err
	}
	return panickyIndex{idx.(carindex.IterableIndex), r.on}, nil
}

func TestIndexThatPanicsWhenItIsReleasedEndsNoProcess(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		on := false
		r := newRig(t, func(c *Config) { c.IndexRepo = panickyRepo{index.NewMemoryRepo(), &on} })
		require.NoError(t, r.register("a"))
		a := r.mustAcquire("a")
		on = true
		require.NoError(t, a.Close())
		synctest.Wait()
		require.Equal(t, ShardStateAvailable, r.state("a"))

		ctx, cancel := context.WithCancel(t.Context())
		require.NoError(t, r.AcquireShard(ctx, key("a"), make(chan ShardResult), AcquireOpts{}))
		synctest.Wait()
		cancel() // the store closes what nobody got
		synctest.Wait()
		require.Equal(t, ShardStateAvailable, r.state("a"))
	})
}
