package inverted

import (
	"context"
	"io/fs"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/filecoin-project/dagstore/internal/fault"
	"github.com/filecoin-project/dagstore/internal/files"
)

// fewLayers make additions wait. Gathering small ones makes files, which tests can hold up.
var fewLayers = sizes{small: 8, sorted: 1000, gathered: 10, most: 6, journal: 1 << 20, freshness: time.Nanosecond}

// heldFS makes no temporary files until it is let go.
type heldFS struct {
	files.FS
	letGo chan struct{}
}

func (f heldFS) CreateTemp(dir string) (files.File, error) {
	<-f.letGo
	return f.FS.CreateTemp(dir)
}

// openHeld opens an index whose merging is held up.
func openHeld(t *testing.T) (x *Index, letGo chan struct{}) {
	t.Helper()
	dir, letGo := t.TempDir(), make(chan struct{})
	mustOpen(t, dir, Options{}).Close() // which needs a temporary file
	return mustOpen(t, dir, Options{FS: heldFS{unsynced{files.OS}, letGo}, sizes: fewLayers}), letGo
}

func TestAddingWithoutEndWaitsForMergingAndThenGoesOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x, letGo := openHeld(t)
		const all = 50
		added := 0
		go func() {
			for ; added < all; added++ {
				if err := x.Add(t.Context(), shardName(added), span(added, added+5)); err != nil {
					t.Error(err)
				}
			}
		}()
		synctest.Wait()
		require.LessOrEqual(t, added, fewLayers.most)
		require.Len(t, x.view.Load().tables, fewLayers.most)
		requireShards(t, x, multihashOf(0), shardName(0))
		require.NoError(t, x.Remove(t.Context(), shardName(0)), "a removal waits for nothing")

		close(letGo)
		synctest.Wait()
		require.Equal(t, all, added)
		mustWait(t, x)
		requireShards(t, x, multihashOf(all-1), shardName(all-5), shardName(all-4), shardName(all-3), shardName(all-2), shardName(all-1))
		require.NoError(t, x.Close())
	})
}

func TestAnAddThatWaitsForMergingEndsWithItsContextAndWithClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x, letGo := openHeld(t)
		for i := range fewLayers.most {
			mustAdd(t, x, shardName(i), span(0, 5))
		}
		ctx, cancel := context.WithCancel(t.Context())
		results := make(chan error, 1)
		add := func() { results <- x.Add(ctx, "late", span(0, 5)) }
		go add()
		synctest.Wait()
		require.Empty(t, results)
		cancel()
		require.ErrorIs(t, <-results, context.Canceled)

		ctx = t.Context()
		go add()
		synctest.Wait()
		require.Empty(t, results)
		go x.Close()
		require.ErrorIs(t, <-results, fs.ErrClosed)
		close(letGo)
		require.NoError(t, x.Close())
	})
}

func TestLayersDoNotPileUpWhileMergingFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		full := &switchable{match: func(op fault.Op) bool { return op.Kind == fault.Create }}
		x := mustOpen(t, t.TempDir(), Options{FS: full.over(files.OS), sizes: fewLayers})
		full.on(syscall.ENOSPC)
		added := 0
		var err error
		for ; err == nil; added++ {
			err = x.Add(t.Context(), shardName(added), span(0, 5))
		}
		require.ErrorIs(t, err, syscall.ENOSPC)
		require.Equal(t, fewLayers.most+1, added)
		requireShards(t, x, multihashOf(0), shardName(0), shardName(1), shardName(2), shardName(3), shardName(4), shardName(5))

		full.on(nil)
		time.Sleep(time.Minute) // until merging tries again
		mustAdd(t, x, "later", span(0, 5))
		mustWait(t, x)
		require.Less(t, len(x.view.Load().tables), fewLayers.most)
		require.NoError(t, x.Close())
	})
}

func TestSmallMergesOvertakeALargeOne(t *testing.T) {
	x := newIndex(Options{}.withDefaults(), newManifest())
	defer x.cancel()
	x.manifest.begun = true
	x.merger = &merger{changed: make(chan struct{})}
	add := func(from, to int) *table {
		a := addition{index: x, ctx: t.Context(), number: 1}
		require.NoError(t, span(from, to)(a.take))
		c, err := a.change()
		require.NoError(t, err)
		c.shards = []named{{1, "a"}}
		_, err = x.commit(t.Context(), c)
		require.NoError(t, err)
		return c.memory[0]
	}
	large := []*table{add(0, 1000), add(0, 2000)}
	overtake := x.overtaking(large)
	overtake() // there is nothing to hurry for
	require.Equal(t, large, x.view.Load().tables)
	for i := range crowded {
		add(10*i, 10*i+10)
	}
	overtake()
	tables := x.view.Load().tables
	require.Len(t, tables, 2+1)
	require.Equal(t, large, tables[:2])
	requireShards(t, x, multihashOf(7), "a")
}

func TestManyAddersNeverMakeMoreLayersThanAreAllowed(t *testing.T) {
	t.Parallel()
	const adders, each, records, most = 4, 12, 600, 10
	o := Options{sizes: sizes{small: 8, sorted: 1000, most: most}}
	for name, x := range map[string]*Index{"memory": InMemory(o), "folder": mustOpen(t, t.TempDir(), o)} {
		var running sync.WaitGroup
		for a := range adders {
			running.Go(func() {
				for i := range each {
					n := a*each + i
					if err := x.Add(t.Context(), shardName(n), span(n*records, n*records+records)); err != nil {
						t.Error(name, err)
					}
					if layers := len(x.view.Load().tables); layers >= most+adders {
						t.Error(name, layers)
					}
				}
			})
		}
		running.Wait()
		mustWait(t, x)
		for n := range adders * each {
			requireShards(t, x, multihashOf(n*records+n), shardName(n))
		}
		require.NoError(t, x.Verify(t.Context()))
		require.NoError(t, x.Close())
	}
}

func TestAnswersAreRightWhileSmallMergesOvertakeLargeOnes(t *testing.T) {
	t.Parallel()
	const large, adders, each, records = 30_000, 4, 100, 20
	o := Options{sizes: sizes{small: 8}}
	for _, x := range []*Index{InMemory(o), mustOpen(t, t.TempDir(), o)} {
		mustAdd(t, x, "large", span(0, large))
		mustWait(t, x)
		var running sync.WaitGroup
		running.Go(func() { mustAdd(t, x, "as large", span(0, large)) })
		for a := range adders {
			running.Go(func() {
				for i := range each {
					n := a*each + i
					if err := x.Add(t.Context(), shardName(n), span(n*records, n*records+records)); err != nil {
						t.Error(err)
					}
				}
			})
		}
		running.Wait()
		for range 2 {
			for n := range adders * each {
				keys, err := x.Lookup(multihashOf(n * records))
				require.NoError(t, err)
				require.ElementsMatch(t, []string{"large", "as large", shardName(n)}, keys)
			}
			mustWait(t, x)
		}
		require.NoError(t, x.Verify(t.Context()))
		require.NoError(t, x.Close())
	}
}

// Else a full disk would keep itself full.
func TestWhatIsDeadGoesAlsoWhileThereIsNoRoomForAnotherJournal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		var isFull atomic.Bool
		noRoom := fault.Always().WithError(syscall.ENOSPC).Match(func(op fault.Op) bool {
			return isFull.Load() && op.Kind == fault.Create && strings.Contains(op.Name, journalPrefix)
		})
		o := Options{FS: fault.FS(unsynced{files.OS}, noRoom), sizes: tiny}
		o.sizes.pause = time.Second
		x := mustOpen(t, dir, o)
		for i := range 3 {
			mustAdd(t, x, shardName(i), span(100*i, 100*i+60))
		}
		mustWait(t, x)
		isFull.Store(true)
		for x.log.journal.Size() < max(tiny.journal, 2*x.log.begun) {
			mustAdd(t, x, "small", span(0, 8))
			require.NoError(t, x.Remove(t.Context(), "small"))
		}
		require.ErrorIs(t, x.Wait(t.Context()), syscall.ENOSPC)
		require.Positive(t, filesIn(t, dir)["layer"])
		for i := range 3 {
			require.NoError(t, x.Remove(t.Context(), shardName(i)))
		}
		require.ErrorIs(t, x.Wait(t.Context()), syscall.ENOSPC)
		require.Zero(t, filesIn(t, dir)["layer"])

		tried := noRoom.Fired()
		time.Sleep(time.Hour)
		require.InDelta(t, 60, noRoom.Fired()-tried, 12, "about once a minute")
		isFull.Store(false)
		time.Sleep(2 * time.Minute)
		mustWait(t, x)
		require.Less(t, x.log.journal.Size(), tiny.journal)
		require.NoError(t, x.Close())
	})
}

func TestAMergeThatFailsIsNotTriedAgainWithEachAddition(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var tried atomic.Int64
		full := &switchable{match: func(op fault.Op) bool {
			isMerge := op.Kind == fault.Create
			if isMerge {
				tried.Add(1)
			}
			return isMerge
		}}
		o := Options{FS: full.over(files.OS), sizes: fewLayers}
		o.sizes.most = 1000
		x := mustOpen(t, t.TempDir(), o)
		full.on(syscall.ENOSPC)
		for i := range 40 {
			mustAdd(t, x, shardName(i), span(0, 5))
			synctest.Wait()
		}
		require.ErrorIs(t, x.Wait(t.Context()), syscall.ENOSPC)
		require.LessOrEqual(t, tried.Load(), int64(2))
		time.Sleep(time.Hour)
		require.InDelta(t, 60, tried.Load(), 12, "about once a minute")
		full.on(nil)
		time.Sleep(time.Hour)
		mustWait(t, x)
		require.NoError(t, x.Close())
	})
}
