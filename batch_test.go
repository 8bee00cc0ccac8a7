package dagstore

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	ds "github.com/ipfs/go-datastore"
	"github.com/stretchr/testify/require"

	"github.com/filecoin-project/dagstore/internal/fault"
)

// Requests that gather while the loop writes are written with one commit. When
// that fails, perhaps half done, each gets its own outcome.
func TestCommitThatFailsHalfwayFailsNobodyElse(t *testing.T) {
	for n := 0; ; n++ {
		fired := false
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			inBubble(t, func(t *testing.T) { fired = halfwayCommit(t, fault.OnIndex(n).Match(fault.Is(fault.Commit)).Short()) })
		})
		if !fired || t.Failed() {
			break
		}
	}
}

func halfwayCommit(t *testing.T, inj *fault.Injector) bool {
	disk := newDisk()
	busy := &pausingDatastore{Batching: fault.Datastore(disk, inj)}
	r := newRig(t, func(c *Config) { c.Datastore = busy })
	ctx := context.Background()
	outs := map[string]chan ShardResult{}
	out := func(what string) chan ShardResult {
		outs[what] = make(chan ShardResult, 2)
		return outs[what]
	}
	require.NoError(t, r.ask(ctx, "e", out("first")))
	time.Sleep(time.Millisecond) // the loop is writing that one
	for i := range 5 {
		require.NoError(t, r.ask(ctx, fmt.Sprintf("a%d", i), out(fmt.Sprintf("register lazily %d", i)), lazy))
		require.NoError(t, r.ask(ctx, fmt.Sprintf("b%d", i), out(fmt.Sprintf("register %d", i))))
	}
	require.NoError(t, r.AcquireShard(ctx, key("a1"), out("acquire"), AcquireOpts{}))
	require.NoError(t, r.DestroyShard(ctx, key("a2"), out("destroy"), DestroyOpts{}))
	require.NoError(t, r.DestroyShard(ctx, key("b2"), out("destroy while new"), DestroyOpts{}))
	require.NoError(t, r.AcquireShard(ctx, key("b2"), out("acquire behind destroy"), AcquireOpts{}))
	failed := 0
	for what, out := range outs {
		res := resultOn(out)
		require.NotErrorIs(t, res.Error, errSilence, what)
		if res.Accessor != nil {
			require.NoError(t, res.Accessor.Close())
		}
		if errors.Is(res.Error, fault.ErrInjected) {
			failed++
		}
	}
	require.LessOrEqual(t, failed, 1, "more than the request whose own record failed")
	synctest.Wait()
	for what, out := range outs {
		require.Empty(t, out, what)
	}
	view := r.view()
	r.restart(func(c *Config) { c.Datastore = disk })
	require.Empty(t, r.UnreadableRecords())
	require.Equal(t, view, r.view())
	return inj.Fired() > 0
}

// A pausingDatastore takes its time for each batch.
type pausingDatastore struct{ ds.Batching }

func (p *pausingDatastore) Batch(ctx context.Context) (ds.Batch, error) {
	time.Sleep(time.Second)
	return p.Batching.Batch(ctx)
}
