package bench

import (
	"context"
	"sync"
	"testing"

	"github.com/multiformats/go-multihash"
	"github.com/stretchr/testify/require"

	"github.com/filecoin-project/dagstore"
	"github.com/filecoin-project/dagstore/internal/fault"
	"github.com/filecoin-project/dagstore/mount"
)

const (
	registrations = 10_000
	callers       = 64
)

// noMultihashes are those of an empty shard.
type noMultihashes struct{}

func (noMultihashes) ForEach(func(multihash.Multihash) error) error { return nil }

// registerAll registers shards lazily, by callers that each wait for one result
// before they ask for the next.
func registerAll(tb testing.TB, r *rig, d *dagstore.DAGStore) {
	tb.Helper()
	errs := make(chan error, registrations)
	var wg sync.WaitGroup
	for c := range callers {
		wg.Go(func() {
			for i := c; i < registrations; i += callers {
				errs <- dagstore.Register(context.Background(), d, numbered(i), &mount.FileMount{Path: r.car},
					dagstore.RegisterOpts{LazyInitialization: true})
			}
		})
	}
	wg.Wait()
	close(errs)
	for err := range errs {
		require.NoError(tb, err)
	}
}

// use acquires a shard and closes the accessor.
func use(tb testing.TB, d *dagstore.DAGStore, i int) {
	a, err := dagstore.Acquire(context.Background(), d, numbered(i))
	if err == nil {
		err = a.Close()
	}
	if err != nil {
		tb.Error(err)
	}
}

func TestManyRegistrationsShareTheirSyncs(t *testing.T) {
	r := newRig(t)
	registerAll(t, r, r.started(t))
	t.Logf("%d registrations, %d syncs", registrations, r.syncs())
	require.LessOrEqual(t, r.syncs(), registrations/20)
}

func TestAcquireAndCloseWriteNothing(t *testing.T) {
	r := newRig(t)
	d := r.started(t)
	require.NoError(t, dagstore.Register(context.Background(), d, numbered(0), &remoteMount{mount.FileMount{Path: r.car}},
		dagstore.RegisterOpts{}))
	use(t, d, 0)
	r.writes.Reset()
	for range 1000 {
		use(t, d, 0)
	}
	require.NoError(t, d.Close())
	require.Zero(t, r.syncs()+r.writes.Count(fault.Flush))
}

func TestStartAndIdleGCWriteNothing(t *testing.T) {
	r := newRig(t)
	r.record(t, 1000, "remote", dagstore.ShardStateAvailable)
	d := r.started(t)
	res, err := d.GC(context.Background())
	require.NoError(t, err)
	require.Len(t, res.Shards, 1000)
	require.Zero(t, res.ShardFailures())
	require.NoError(t, d.Close())
	require.Zero(t, r.syncs()+r.writes.Count(fault.Flush))
}
