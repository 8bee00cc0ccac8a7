package dagstore

import (
	"context"
	"net/url"
	"testing"
	"testing/synctest"

	ds "github.com/ipfs/go-datastore"
	carindex "github.com/ipld/go-car/v2/index"
	"github.com/stretchr/testify/require"

	"github.com/filecoin-project/dagstore/internal/guard"
	"github.com/filecoin-project/dagstore/mount"
	"github.com/filecoin-project/dagstore/shard"
)

// requirePanic asserts that an error tells of a panic with this value, and where.
func requirePanic(t *testing.T, err error, value any) {
	t.Helper()
	var p *guard.PanicError
	require.ErrorAs(t, err, &p)
	require.Equal(t, value, p.Value)
	require.ErrorContains(t, err, "_test.go")
}

// Defect 21.
func TestPanicOfAMountFailsOnlyItsShard(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		r := newRig(t)
		r.sources["a"].panics = "boom"
		requirePanic(t, r.register("a"), "boom")
		info, err := r.GetShardInfo(key("a"))
		require.NoError(t, err)
		requirePanic(t, info.Error, "boom")
		require.NoError(t, r.register("b"))
		r.use("b")
		r.sources["b"].set(func(s *source) { s.panics = "bang" })
		collect(t, r)
		_, err = r.acquire("b")
		requirePanic(t, err, "bang")
		r.restart()
		info, err = r.GetShardInfo(key("a"))
		require.NoError(t, err)
		require.ErrorContains(t, info.Error, "boom")
	})
}

// Defect 21.
func TestPanicOfAnIndexerFailsOnlyItsShard(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		r := newRig(t, func(c *Config) {
			c.ShardIndexer = func(ctx context.Context, k shard.Key, rd mount.Reader) (carindex.Index, error) {
				if k == key("a") {
					panic("boom")
				}
				if k == key("b") {
					return nil, nil
				}
				return indexSections(ctx, k, rd)
			}
		})
		requirePanic(t, r.register("a"), "boom")
		require.Error(t, r.register("b"), "no index")
		require.NoError(t, r.register("c"))
		r.use("c")
	})
}

// Defect 21.
func TestPanicOfAnIndexRepoIsSurvived(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		r := newRig(t)
		require.NoError(t, r.register("b"))
		repo := r.config.IndexRepo.(*faultyRepo)
		repo.mu.Lock()
		repo.panics = "boom"
		repo.mu.Unlock()
		requirePanic(t, r.register("a"), "boom")
		_, err := r.acquire("b")
		requirePanic(t, err, "boom")
		_, err = r.GetIterableIndex(key("b"))
		requirePanic(t, err, "boom")
		requirePanic(t, r.destroy("a"), "boom")
		repo.mu.Lock()
		repo.panics = nil
		repo.mu.Unlock()
		require.NoError(t, r.destroy("a"))
		require.NoError(t, r.recover("b"))
		r.use("b")
	})
}

func TestPanicOfATopLevelIndexIsSurvived(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		inverted := &plainInverted{panics: "boom"}
		r := newRig(t, func(c *Config) { inverted.Inverted, c.TopLevelIndex = c.TopLevelIndex, inverted })
		requirePanic(t, r.register("a"), "boom")
		_, err := r.ShardsContainingMultihash(t.Context(), blocksOf(0)[0].Cid.Hash())
		requirePanic(t, err, "boom")
		require.NoError(t, r.destroy("a"))
	})
}

type panickingDatastore struct{ ds.Datastore }

func (panickingDatastore) Put(context.Context, ds.Key, []byte) error { panic("boom") }

func TestPanicOfADatastoreIsSurvived(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		r := newRig(t, func(c *Config) { c.Datastore = panickingDatastore{c.Datastore} })
		requirePanic(t, r.register("a"), "boom")
		require.Equal(t, ShardStateUnknown, r.state("a"))
		requirePanic(t, r.register("a", lazy), "boom")
	})
}

// A hostileMount panics where it is told to.
type hostileMount struct {
	fakeMount
	where string
}

func (h *hostileMount) Info() mount.Info {
	if h.where == "Info" {
		panic("boom")
	}
	return h.fakeMount.Info()
}

func (h *hostileMount) Serialize() *url.URL {
	switch h.where {
	case "Serialize":
		panic("boom")
	case "nil":
		return nil
	}
	return &url.URL{Host: h.where}
}

func (h *hostileMount) Deserialize(u *url.URL) error {
	if u.Host == "Deserialize" {
		panic("boom")
	}
	return nil
}

func (h *hostileMount) Stat(ctx context.Context) (mount.Stat, error) {
	if h.where == "Stat" {
		panic("boom")
	}
	return h.fakeMount.Stat(ctx)
}

// Defect 21: a nil URL among others.
func TestPanicOfAMountsOtherMethodsIsAnErrorOfTheCall(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		r := newStoppedRig(t)
		require.NoError(t, r.config.MountRegistry.Register("hostile", &hostileMount{}))
		require.NoError(t, r.Start(t.Context()))
		for _, where := range []string{"Info", "Serialize", "nil", "Deserialize"} {
			mnt := &hostileMount{fakeMount: *r.mount("a"), where: where}
			require.Error(t, r.RegisterShard(t.Context(), key(where), mnt, nil, RegisterOpts{}))
		}
		mnt := &hostileMount{fakeMount: *r.mount("a"), where: "Stat"}
		require.NoError(t, r.RegisterShard(t.Context(), key("Stat"), mnt, nil, RegisterOpts{}))
		synctest.Wait()
		require.NoError(t, r.register("b"))
		r.use("b")
	})
}
