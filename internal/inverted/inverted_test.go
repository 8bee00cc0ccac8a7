package inverted

import (
	"context"
	"fmt"
	"io/fs"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestManyTinyShardsMakeFewFiles(t *testing.T) {
	t.Parallel()
	const shards, each = 900, 20
	o := Options{sizes: sizes{gathered: 8192}}
	dir := t.TempDir()
	x := mustOpen(t, dir, o)
	var next atomic.Int64
	var adders sync.WaitGroup
	for range 16 {
		adders.Go(func() {
			for i := int(next.Add(1)); i <= shards; i = int(next.Add(1)) {
				if err := x.Add(t.Context(), shardName(i), span(each*i, each*i+each)); err != nil {
					t.Error(err)
				}
			}
		})
	}
	adders.Wait()
	mustWait(t, x)
	kinds := filesIn(t, dir)
	require.LessOrEqual(t, kinds["layer"], 3)
	require.Positive(t, kinds["layer"], "small shards stay in the journal for ever")
	require.LessOrEqual(t, len(x.view.Load().tables), 16)
	requireShards(t, x, multihashOf(each*234), shardName(234))
	require.NoError(t, x.Close())
	x = mustOpen(t, dir, o)
	all, err := x.Shards()
	require.NoError(t, err)
	require.Len(t, all, shards)
	requireShards(t, x, multihashOf(each*899+7), shardName(899))
}

func TestARemovedShardIsGoneAtOnceAndItsSpaceAfterMerging(t *testing.T) {
	for _, x := range []*Index{
		InMemory(Options{sizes: tiny}),
		mustOpen(t, t.TempDir(), Options{sizes: tiny}),
	} {
		for i := range 4 {
			mustAdd(t, x, shardName(i), span(0, 500))
		}
		mustAdd(t, x, "small", span(0, 5))
		mustWait(t, x)
		for i := range 3 {
			require.NoError(t, x.Remove(t.Context(), shardName(i)))
			got, err := x.Lookup(multihashOf(1))
			require.NoError(t, err)
			require.Len(t, got, 4-i)
			require.NotContains(t, got, shardName(i))
		}
		require.NoError(t, x.Remove(t.Context(), "never there"))
		mustWait(t, x)
		var records int64
		for _, table := range x.view.Load().tables {
			records += table.records
		}
		require.LessOrEqual(t, records, int64(510))
		requireShards(t, x, multihashOf(1), shardName(3), "small")

		mustAdd(t, x, shardName(0), span(0, 1))
		requireShards(t, x, multihashOf(0), shardName(3), "small", shardName(0))
		requireShards(t, x, multihashOf(1), shardName(3), "small")
		require.NoError(t, x.Close())
	}
}

func TestAddingAgainIsIdempotent(t *testing.T) {
	dir := t.TempDir()
	x := mustOpen(t, dir, Options{sizes: tiny})
	for range 6 {
		mustAdd(t, x, "a", span(0, 50))
		mustAdd(t, x, "b", span(0, 5))
		requireShards(t, x, multihashOf(1), "a", "b")
	}
	mustWait(t, x)
	var records int64
	for _, table := range x.view.Load().tables {
		records += table.records
	}
	require.LessOrEqual(t, records, int64(150), "what is there many times is not merged")
	keys, err := x.Shards()
	require.NoError(t, err)
	require.Equal(t, []string{"a", "b"}, keys)
}

func TestAShardWithoutMultihashesIsKnown(t *testing.T) {
	dir := t.TempDir()
	x := mustOpen(t, dir, Options{})
	mustAdd(t, x, "empty", span(0, 0))
	require.NoError(t, x.Close())
	x = mustOpen(t, dir, Options{})
	keys, err := x.Shards()
	require.NoError(t, err)
	require.Equal(t, []string{"empty"}, keys)
	mustWait(t, x)
}

func TestLargeShardsTakeBoundedMemoryAndSeveralLayers(t *testing.T) {
	dir := t.TempDir()
	x := mustOpen(t, dir, Options{sizes: tiny})
	mustAdd(t, x, "large", span(0, 1000))
	mustWait(t, x)
	for i := 0; i < 1000; i += 37 {
		requireShards(t, x, multihashOf(i), "large")
	}
	requireNoLeaks(t, x, dir)
}

func TestAnAddThatIsCancelledAddsNothing(t *testing.T) {
	dir := t.TempDir()
	x := mustOpen(t, dir, Options{sizes: tiny})
	for _, n := range []int{3, 500} {
		ctx, cancel := context.WithCancel(t.Context())
		err := x.Add(ctx, "a", func(yield func([]byte) error) error {
			err := span(0, n)(yield)
			cancel()
			return err
		})
		require.ErrorIs(t, err, context.Canceled)
		require.ErrorIs(t, x.Remove(ctx, "a"), context.Canceled)
		require.ErrorIs(t, x.Wait(ctx), context.Canceled)
	}
	requireShards(t, x, multihashOf(1))
	requireNoLeaks(t, x, dir)
}

func TestALongIteratorIsInterruptedByClose(t *testing.T) {
	x := mustOpen(t, t.TempDir(), Options{})
	started := make(chan struct{})
	result := make(chan error, 1)
	go func() {
		result <- x.Add(context.Background(), "endless", func(yield func([]byte) error) error {
			for i := 0; ; i++ {
				if i == 10 {
					close(started)
				}
				if err := yield(multihashOf(i)); err != nil {
					return err
				}
			}
		})
	}()
	<-started
	require.NoError(t, x.Close())
	require.ErrorIs(t, <-result, fs.ErrClosed)
}

func TestEverythingIsRefusedAfterClose(t *testing.T) {
	dir := t.TempDir()
	writer := mustOpen(t, dir, Options{})
	for name, x := range map[string]*Index{
		"writer": writer, "reader": mustOpenReader(t, dir, Options{sizes: tiny}), "memory": InMemory(Options{}),
	} {
		require.NoError(t, x.Close(), name)
		require.NoError(t, x.Close(), name)
		_, err := x.Lookup(multihashOf(1))
		require.ErrorIs(t, err, fs.ErrClosed, name)
		_, err = x.LookupMany(nil)
		require.ErrorIs(t, err, fs.ErrClosed, name)
		_, _, err = x.First(multihashOf(1))
		require.ErrorIs(t, err, fs.ErrClosed, name)
		_, err = x.Shards()
		require.ErrorIs(t, err, fs.ErrClosed, name)
		require.ErrorIs(t, x.Verify(t.Context()), fs.ErrClosed, name)
		if name != "reader" {
			require.ErrorIs(t, x.Add(t.Context(), "a", span(0, 1)), fs.ErrClosed, name)
			require.ErrorIs(t, x.Remove(t.Context(), "a"), fs.ErrClosed, name)
			require.ErrorIs(t, x.Wait(t.Context()), fs.ErrClosed, name)
		}
	}
}

func TestAllMethodsMayRunBesideEachOtherAndClose(t *testing.T) {
	t.Parallel()
	for name, open := range map[string]func(string) *Index{
		"memory": func(string) *Index { return InMemory(Options{sizes: tiny}) },
		"folder": func(dir string) *Index { return mustOpen(t, dir, Options{sizes: tiny}) },
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			x := open(dir)
			indices := []*Index{x}
			if name == "folder" {
				indices = append(indices, mustOpenReader(t, dir, Options{sizes: tiny}))
			}
			mustAdd(t, x, "always", span(0, 100))
			var workers sync.WaitGroup
			var done atomic.Int64
			for w := range 3 {
				workers.Go(func() {
					for i := range 30 {
						key := fmt.Sprint("shard ", (w+i)%4)
						requireAllowed(t, x.Add(t.Context(), key, span(10*i, 10*i+5+i)))
						if i%3 == 0 {
							requireAllowed(t, x.Remove(t.Context(), key))
						}
						done.Add(1)
					}
				})
			}
			for _, x := range indices {
				workers.Go(func() {
					for i := 0; done.Load() < 80; i++ {
						got, err := x.Lookup(multihashOf(i % 100))
						requireAllowed(t, err)
						if err == nil && (len(got) == 0 || got[0] != "always") {
							t.Error("lost, or in another order:", got)
						}
						_, err = x.LookupMany([][]byte{multihashOf(1), multihashOf(2)})
						requireAllowed(t, err)
						_, err = x.Shards()
						requireAllowed(t, err)
						if i%50 == 0 {
							requireAllowed(t, x.Verify(t.Context()))
							requireAllowed(t, x.Wait(t.Context()))
						}
					}
				})
			}
			workers.Go(func() {
				for done.Load() < 60 {
					requireAllowed(t, x.Wait(t.Context()))
				}
				for _, x := range indices {
					requireAllowed(t, x.Close())
				}
				done.Store(1000)
			})
			workers.Wait()
		})
	}
}

// requireAllowed accepts an index that was closed.
func requireAllowed(t *testing.T, err error) {
	if err != nil {
		require.ErrorIs(t, err, fs.ErrClosed)
	}
}
