package bench

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	ds "github.com/ipfs/go-datastore"
	dssync "github.com/ipfs/go-datastore/sync"
	leveldb "github.com/ipfs/go-ds-leveldb"
	"github.com/stretchr/testify/require"

	"github.com/filecoin-project/dagstore"
	"github.com/filecoin-project/dagstore/index"
	"github.com/filecoin-project/dagstore/internal/cartest"
	"github.com/filecoin-project/dagstore/internal/fault"
	"github.com/filecoin-project/dagstore/internal/keyname"
	"github.com/filecoin-project/dagstore/mount"
	"github.com/filecoin-project/dagstore/shard"
)

// A remoteMount is a file that can be read from start to end only, so that the
// store copies it.
type remoteMount struct{ mount.FileMount }

func (m *remoteMount) Info() mount.Info {
	return mount.Info{Kind: mount.KindRemote, AccessSequential: true}
}

// A rig is a store on disk: records in leveldb, full indices in a folder.
type rig struct {
	config dagstore.Config
	writes *fault.Injector // counts what reaches leveldb
	car    string          // a small CAR
}

// newRig returns a store that was not made yet, with an empty datastore.
func newRig(tb testing.TB) *rig {
	tb.Helper()
	dir := tb.TempDir()
	car := filepath.Join(dir, "a.car")
	require.NoError(tb, os.WriteFile(car, cartest.V1(nil, cartest.Blocks(4, 100, 1)), 0o600))
	records, err := leveldb.NewDatastore(filepath.Join(dir, "records"), nil)
	require.NoError(tb, err)
	tb.Cleanup(func() { _ = records.Close() })
	indices, err := index.NewFSRepo(filepath.Join(dir, "indices"))
	require.NoError(tb, err)
	writes := fault.Never()
	return &rig{
		car:    car,
		writes: writes,
		config: dagstore.Config{
			TransientsDir: filepath.Join(dir, "transients"),
			IndexRepo:     indices,
			TopLevelIndex: index.NewInverted(dssync.MutexWrap(ds.NewMapDatastore())),
			Datastore:     fault.Datastore(records, writes),
			MountRegistry: registry(tb),
		},
	}
}

func registry(tb testing.TB) *mount.Registry {
	tb.Helper()
	r := mount.NewRegistry()
	require.NoError(tb, r.Register("file", &mount.FileMount{}))
	require.NoError(tb, r.Register("remote", &remoteMount{}))
	return r
}

// syncs returns how often leveldb synced: with its default options it does so
// for each write and each batch, and its Sync does nothing.
func (r *rig) syncs() int { return r.writes.Count(fault.Put, fault.Delete, fault.Commit) }

func (r *rig) store(tb testing.TB) *dagstore.DAGStore {
	tb.Helper()
	d, err := dagstore.NewDAGStore(r.config)
	require.NoError(tb, err)
	return d
}

func (r *rig) started(tb testing.TB) *dagstore.DAGStore {
	tb.Helper()
	d := r.store(tb)
	require.NoError(tb, d.Start(context.Background()))
	tb.Cleanup(func() { _ = d.Close() })
	return d
}

func numbered(i int) shard.Key { return shard.KeyFromString(fmt.Sprintf("shard-%08d", i)) }

// record writes the records of n shards, which are in the top-level index if
// they are available.
func (r *rig) record(tb testing.TB, n int, scheme string, state dagstore.ShardState) {
	tb.Helper()
	ctx := context.Background()
	batch, err := r.config.Datastore.(ds.Batching).Batch(ctx)
	require.NoError(tb, err)
	for i := range n {
		key := numbered(i)
		value, err := json.Marshal(dagstore.PersistedShard{
			Key: key.String(), URL: scheme + "://" + r.car, State: state, Lazy: true,
		})
		require.NoError(tb, err)
		require.NoError(tb, batch.Put(ctx, dagstore.StoreNamespace.ChildString(keyname.Escape(key.String())), value))
		if state == dagstore.ShardStateAvailable {
			require.NoError(tb, r.config.TopLevelIndex.AddMultihashesForShard(ctx, noMultihashes{}, key))
		}
	}
	require.NoError(tb, batch.Commit(ctx))
	r.writes.Reset()
}

// cpu returns the CPU time that this process has used.
func cpu(tb testing.TB) time.Duration {
	tb.Helper()
	var u syscall.Rusage
	require.NoError(tb, syscall.Getrusage(syscall.RUSAGE_SELF, &u))
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// micros returns d in microseconds, divided by n.
func micros(d time.Duration, n int) float64 { return float64(d.Nanoseconds()) / 1e3 / float64(n) }
