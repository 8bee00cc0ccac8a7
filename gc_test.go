package dagstore

import (
	"context"
	"io"
	"testing"
	"testing/synctest"
	"time"

	ds "github.com/ipfs/go-datastore"
	"github.com/stretchr/testify/require"

	"github.com/filecoin-project/dagstore/internal/fault"
	"github.com/filecoin-project/dagstore/shard"
)

// Defects 17, 22p.
func TestGCReclaimsWhatNobodyUses(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		r := newRig(t)
		r.sources["b"].remote = false
		r.sources["d"].err = errBoom
		r.sources["e"].hold = make(chan struct{})
		for _, k := range []string{"a", "b", "c"} {
			require.NoError(t, r.register(k))
		}
		require.Error(t, r.register("d"))
		require.NoError(t, r.register("elazy", lazy))
		require.NoError(t, r.ask(context.Background(), "ebusy", nil))
		open := r.mustAcquire("c")
		res := collect(t, r)
		require.Equal(t, map[shard.Key]error{key("a"): nil, key("b"): nil, key("d"): nil}, res.Shards)
		require.Equal(t, []string{"transient-c.complete"}, r.transients())
		got, err := io.ReadAll(open.Reader())
		require.NoError(t, err)
		require.Equal(t, r.sources["c"].data, got)
		require.NoError(t, open.Close())
		r.use("a")
		require.Equal(t, 2, r.sources["a"].fetched(), "fetched again")
	})
}

// countWrites counts the operations of the catalogue's datastore.
func countWrites(inj *fault.Injector) func(*Config) {
	return func(c *Config) {
		c.Datastore = fault.Datastore(newDisk(), inj.Match(fault.Writing))
	}
}

func TestGCWithNothingToReclaimWritesNothing(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		inj := fault.Never()
		r := newRig(t, countWrites(inj))
		require.NoError(t, r.register("a"))
		collect(t, r)
		inj.Reset()
		require.Len(t, collect(t, r).Shards, 1)
		require.Zero(t, inj.Count())
		a := r.mustAcquire("a")
		require.NoError(t, a.Close())
		synctest.Wait()
		require.Zero(t, inj.Count(), "neither does an acquire")
	})
}

// Defect 25.
func TestGCThatWasGivenUpLeavesNoTrace(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		busy := &slowDatastore{Datastore: newDisk(), pause: time.Second}
		r := newRig(t, func(c *Config) { c.Datastore = busy })
		require.NoError(t, r.ask(context.Background(), "a", nil))
		time.Sleep(time.Millisecond) // the loop is writing
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		_, err := r.GC(ctx)
		require.ErrorIs(t, err, context.DeadlineExceeded)
		r.use("a")
		require.NotEmpty(t, r.transients(), "given up before it ran")
		collect(t, r)
	})
}

// A slowDatastore takes its time for each write.
type slowDatastore struct {
	ds.Datastore
	pause time.Duration
}

func (s *slowDatastore) Put(ctx context.Context, k ds.Key, v []byte) error {
	time.Sleep(s.pause)
	return s.Datastore.Put(ctx, k, v)
}

func TestGCAfterTheStoreClosedIsRefused(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		r := newStoppedRig(t)
		got := make(chan error, 1)
		go func() {
			_, err := r.GC(context.Background())
			got <- err
		}()
		synctest.Wait()
		require.NoError(t, r.Close())
		require.ErrorIs(t, <-got, ErrClosed)
	})
}

func TestGCIsSafeBesideAcquirers(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		r := newRig(t)
		require.NoError(t, r.register("a"))
		out := make(chan ShardResult)
		for range 50 {
			require.NoError(t, r.AcquireShard(context.Background(), key("a"), out, AcquireOpts{}))
			go func() { _, _ = r.GC(context.Background()) }()
		}
		for range 50 {
			res := resultOn(out)
			require.NoError(t, res.Error)
			require.NoError(t, res.Accessor.Close())
		}
		synctest.Wait()
		r.use("a")
	})
}
