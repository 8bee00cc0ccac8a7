package dagstore

import (
	"context"
	"os"
	"path/filepath"
	"testing"
	"testing/fstest"
	"testing/synctest"

	"github.com/stretchr/testify/require"

	"github.com/filecoin-project/dagstore/internal/cartest"
	"github.com/filecoin-project/dagstore/mount"
)

// A stubbornMount pays no heed to contexts, and its readers close as they like.
type stubbornMount struct {
	fakeMount
	hold  chan struct{} // Fetch waits for it
	close func() error  // of readers
}

type stubbornReader struct {
	mount.Reader
	close func() error
}

func (r stubbornReader) Close() error {
	_ = r.Reader.Close()
	return r.close()
}

func (m *stubbornMount) Fetch(context.Context) (mount.Reader, error) {
	if m.hold != nil {
		<-m.hold
	}
	r, err := m.fakeMount.Fetch(context.Background())
	return stubbornReader{r, m.close}, err
}

// withoutDatastore lets any mount be registered.
func withoutDatastore(c *Config) { c.Datastore = nil }

func TestReaderThatIsSlowToCloseDelaysNobodyElse(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		r := newRig(t, withoutDatastore)
		r.sources["a"].remote = false
		slow := make(chan struct{})
		mnt := &stubbornMount{fakeMount: *r.mount("a"), close: func() error { return nil }}
		require.NoError(t, r.result(func(out chan ShardResult) error {
			return r.RegisterShard(t.Context(), key("a"), mnt, out, RegisterOpts{})
		}).Error)
		mnt.hold, mnt.close = make(chan struct{}), func() error { <-slow; return nil }
		ctx, cancel := context.WithCancel(t.Context())
		require.NoError(t, r.AcquireShard(ctx, key("a"), make(chan ShardResult), AcquireOpts{}))
		synctest.Wait()
		cancel()
		close(mnt.hold)
		synctest.Wait()
		require.NoError(t, r.register("b"))
		close(slow)
		synctest.Wait()
		require.Zero(t, r.sources["a"].open())
		require.NoError(t, r.destroy("a"))
	})
}

// Defect 21.
func TestReaderThatPanicsAtItsEndEndsNoProcess(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		r := newRig(t, withoutDatastore)
		r.sources["a"].remote = false
		mnt := &stubbornMount{fakeMount: *r.mount("a"), close: func() error { return nil }}
		require.NoError(t, r.result(func(out chan ShardResult) error {
			return r.RegisterShard(t.Context(), key("a"), mnt, out, RegisterOpts{})
		}).Error)
		mnt.close = func() error { panic("boom") }
		ctx, cancel := context.WithCancel(t.Context())
		require.NoError(t, r.AcquireShard(ctx, key("a"), make(chan ShardResult), AcquireOpts{}))
		synctest.Wait()
		cancel()
		synctest.Wait()
		require.NoError(t, r.destroy("a"))
		require.NoError(t, r.register("b"))
	})
}

// Defects 3, 22r.
func TestDamagedExistingTransientIsFetchedInsteadAndKept(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		r := newRig(t)
		for k, data := range map[string][]byte{"a1": []byte("garbage"), "a2": r.sources["a"].data[:200]} {
			mine := cartest.Write(t, "mine.car", data)
			require.NoError(t, r.register(k, RegisterOpts{ExistingTransient: mine}), k)
			r.use(k)
			require.FileExists(t, mine)
		}
	})
}

// Defect 3.
func TestRecoveryKeepsTheUsersFile(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		r := newRig(t)
		r.sources["a"].err = errBoom
		mine := cartest.Write(t, "mine.car", []byte("garbage"))
		require.ErrorIs(t, r.register("a", RegisterOpts{ExistingTransient: mine}), errBoom)
		require.ErrorIs(t, r.recover("a"), errBoom)
		collect(t, r)
		require.FileExists(t, mine)
		r.sources["a"].set(func(s *source) { s.err = nil })
		require.NoError(t, r.recover("a"))
		r.use("a")
		require.NoError(t, r.destroy("a"))
		require.FileExists(t, mine)
	})
}

// A sizeless mount does not know how large its data is.
type sizeless struct{ fakeMount }

func (*sizeless) Stat(context.Context) (mount.Stat, error) { return mount.Stat{Exists: true}, nil }

// Defect 22r.
func TestTransientThatWasCutWhileTheStoreWasDownIsFetchedAnew(t *testing.T) {
	for _, lost := range []bool{false, true} {
		for _, cut := range []int{1, 60, 110, 300} {
			inBubble(t, func(t *testing.T) {
				r := newStoppedRig(t)
				require.NoError(t, r.config.MountRegistry.Register("sizeless", &sizeless{fakeMount{sources: r.sources}}))
				require.NoError(t, r.Start(t.Context()))
				require.NoError(t, r.result(func(out chan ShardResult) error {
					return r.RegisterShard(t.Context(), key("a"), &sizeless{*r.mount("a")}, out, RegisterOpts{})
				}).Error)
				require.NoError(t, r.Close())
				path := filepath.Join(r.config.TransientsDir, "transient-a.complete")
				require.NoError(t, os.Truncate(path, int64(len(r.sources["a"].data)-cut)))
				if lost {
					_, err := r.config.IndexRepo.DropFullIndex(key("a"))
					require.NoError(t, err)
				}
				r.restart()
				r.use("a")
				require.Equal(t, 2, r.sources["a"].fetched())
			})
		}
	}
}

func TestThrottlesBoundFetchesAndReaders(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		r := newRig(t, func(c *Config) { c.MaxConcurrentReadyFetches, c.MaxConcurrentIndex = 2, 1 })
		s := r.sources["a"]
		s.hold = make(chan struct{})
		keys := []string{"a0", "a1", "a2", "a3", "a4", "a5"}
		for _, k := range keys {
			require.NoError(t, r.ask(t.Context(), k, nil))
		}
		synctest.Wait()
		require.Equal(t, 2, s.fetched())
		require.NoError(t, r.destroy("a5"), "one that waits its turn")
		require.NoError(t, r.destroy("a0"))
		synctest.Wait()
		require.LessOrEqual(t, s.fetched(), 4)
		close(s.hold)
		synctest.Wait()
		require.Equal(t, map[ShardState]int{ShardStateAvailable: 4}, r.Stats())
	})
}

func TestAccessorStaysUsableAfterTheStoreClosed(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		r := newRig(t)
		require.NoError(t, r.register("a"))
		a := r.mustAcquire("a")
		require.NoError(t, r.Close())
		bs, err := a.Blockstore()
		require.NoError(t, err)
		_, err = bs.Get(t.Context(), blocksOf(0)[0].Cid)
		require.NoError(t, err)
		require.NoError(t, a.Close())
	})
}

// Defect 22m.
func TestShardOfAnFSMountOutlivesAMomentWithoutItsFile(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		r := newStoppedRig(t)
		files := fstest.MapFS{}
		require.NoError(t, r.config.MountRegistry.Register("fs", &mount.FSMount{FS: files}))
		require.NoError(t, r.Start(t.Context()))
		mnt := &mount.FSMount{FS: files, Path: "a.car"}
		require.NoError(t, r.result(func(out chan ShardResult) error {
			return r.RegisterShard(t.Context(), key("a"), mnt, out, lazy)
		}).Error, "not there (now)")
		r.restart()
		files["a.car"] = &fstest.MapFile{Data: r.sources["a"].data}
		r.use("a")
	})
}

// An ownFetch is a mount of a service that lends itself a FileMount.
type ownFetch struct {
	mount.FileMount
	data []byte
}

func (m *ownFetch) Fetch(ctx context.Context) (mount.Reader, error) {
	return (&mount.BytesMount{Bytes: m.data}).Fetch(ctx)
}

func TestMountThatEmbedsAFileMountIsUsedThroughItsOwnFetch(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		r := newRig(t, withoutDatastore)
		require.NoError(t, r.result(func(out chan ShardResult) error {
			return r.RegisterShard(t.Context(), key("a"), &ownFetch{data: r.sources["a"].data}, out, RegisterOpts{})
		}).Error)
		r.use("a")
	})
}
