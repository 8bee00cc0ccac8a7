package inverted

import (
	"errors"
	"os"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/filecoin-project/dagstore/internal/fault"
	"github.com/filecoin-project/dagstore/internal/files"
)

// A history is what was done to an index that may fail, and what may therefore be
// found in it.
type history struct {
	acknowledged *model
	doubtful     map[string]bool // shards with a change that has failed
}

func newHistory() *history { return &history{newModel(), map[string]bool{}} }

func (h *history) add(t *testing.T, x *Index, key string, from, to int) {
	if x.Add(t.Context(), key, span(from, to)) != nil {
		h.doubtful[key] = true
		return
	}
	h.acknowledged.add(key, from, to)
}

func (h *history) remove(t *testing.T, x *Index, key string) {
	if x.Remove(t.Context(), key) != nil {
		h.doubtful[key] = true
		return
	}
	h.acknowledged.remove(key)
}

// eventful makes all that work does happen, with less work.
var eventful = sizes{small: 8, sorted: 64, gathered: 30, journal: 600, pause: tiny.pause, freshness: tiny.freshness}

// work does everything that writes: small and large additions, merging, removing,
// and another journal.
func (h *history) work(t *testing.T, x *Index) {
	for i := range 3 {
		h.add(t, x, shardName(i), 10*i, 10*i+5)
	}
	h.add(t, x, "large", 0, 100)
	h.add(t, x, "twice", 20, 50)
	h.add(t, x, "twice", 50, 70)
	_ = x.Wait(t.Context()) // it may fail
	h.remove(t, x, shardName(1))
	h.remove(t, x, "twice")
	for i := 10; i < 14; i++ {
		h.add(t, x, shardName(i), 0, 7)
	}
	h.remove(t, x, "large")
	h.add(t, x, "large", 30, 45)
	_ = x.Wait(t.Context())
}

func TestTheWorkThatMayFailHasEverythingInIt(t *testing.T) {
	x := mustOpen(t, t.TempDir(), Options{sizes: eventful})
	newHistory().work(t, x)
	mustWait(t, x)
	require.Greater(t, x.log.number, uint64(1), "another journal")
	require.Greater(t, x.nextLayer, uint64(1+4+2), "merged layers, besides those that were added")
}

// requireKept checks that all that was acknowledged is found, and nothing else that
// was not tried.
func (h *history) requireKept(t *testing.T, x *Index) {
	t.Helper()
	for i := 0; i < 110; i += 9 {
		got, err := x.Lookup(multihashOf(i))
		if errors.Is(err, fault.ErrInjected) {
			got, err = x.Lookup(multihashOf(i))
		}
		require.NoError(t, err)
		kept := newModel()
		for _, key := range got {
			if !h.doubtful[key] {
				kept.add(key, i, i+1)
			}
		}
		for _, key := range h.acknowledged.lookup(i) {
			if !h.doubtful[key] {
				require.Contains(t, got, key, "multihash %d", i)
			}
		}
		for key := range kept.holds {
			require.True(t, h.acknowledged.holds[key][i], "%s has multihash %d, which was removed or never added", key, i)
		}
	}
}

func TestWhatWasAcknowledgedSurvivesACrashAtAnyOperation(t *testing.T) {
	t.Parallel()
	for n, fired := 0, true; fired; n++ {
		dir := t.TempDir()
		inj := fault.From(n).Match(fault.Writing)
		if n%2 == 1 {
			inj = inj.Short()
		}
		h := newHistory()
		x, err := Open(t.Context(), dir, Options{FS: fault.FS(unsynced{files.OS}, inj), sizes: eventful})
		if err == nil {
			h.work(t, x)
			_ = x.Close() // it cannot do more than a crash would
		}
		fired = inj.Fired() > 0
		requireSound(t, dir, h)
	}
}

func TestWhatWasAcknowledgedSurvivesAnyFailingOperation(t *testing.T) {
	t.Parallel()
	fired := true
	for n := 0; fired; n++ {
		dir := t.TempDir()
		inj := fault.OnIndex(n)
		h := newHistory()
		x, err := Open(t.Context(), dir, Options{FS: fault.FS(unsynced{files.OS}, inj), sizes: eventful})
		if err == nil {
			h.work(t, x)
			fired = inj.Fired() > 0
			if fired {
				mustAdd(t, x, "after", span(0, 3))
				h.acknowledged.add("after", 0, 3)
			}
			h.requireKept(t, x)
			_ = x.Close()
		}
		requireSound(t, dir, h)
	}
}

// requireSound opens a folder after a crash and checks all there is.
func requireSound(t *testing.T, dir string, h *history) {
	t.Helper()
	x, err := Open(t.Context(), dir, Options{FS: unsynced{files.OS}, sizes: eventful})
	require.NoError(t, err)
	h.requireKept(t, x)
	mustWait(t, x)
	require.NoError(t, x.Verify(t.Context()))
	requireNoLeaks(t, x, dir)
	require.NoError(t, x.Close())
}

func TestOpeningThatFailsHarmsNothing(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	h := newHistory()
	x := mustOpen(t, dir, Options{sizes: tiny})
	h.work(t, x)
	require.NoError(t, x.Close())
	for n, fired := 0, true; fired; n++ {
		inj := fault.OnIndex(n)
		x, err := Open(t.Context(), dir, Options{FS: fault.FS(unsynced{files.OS}, inj), sizes: tiny})
		fired = inj.Fired() > 0
		if err == nil {
			_ = x.Close()
		} else {
			require.True(t, fired)
			require.ErrorIs(t, err, fault.ErrInjected)
			require.NotErrorIs(t, err, ErrDamaged)
		}
		requireSound(t, dir, h)
	}
}

func TestServesOnAfterTheDiskWasFull(t *testing.T) {
	dir := t.TempDir()
	full := &switchable{}
	x := mustOpen(t, dir, Options{FS: full.over(files.OS), sizes: tiny})
	mustAdd(t, x, "before", span(0, 100))
	full.on(syscall.ENOSPC)
	require.ErrorIs(t, x.Add(t.Context(), "large", span(0, 100)), syscall.ENOSPC)
	require.ErrorIs(t, x.Add(t.Context(), "small", span(0, 3)), syscall.ENOSPC)
	require.ErrorIs(t, x.Remove(t.Context(), "before"), syscall.ENOSPC)
	requireShards(t, x, multihashOf(1), "before")

	full.on(nil)
	mustAdd(t, x, "small", span(0, 3))
	mustAdd(t, x, "large", span(0, 100))
	require.NoError(t, x.Remove(t.Context(), "before"))
	requireShards(t, x, multihashOf(1), "small", "large")
	mustWait(t, x)
	requireNoLeaks(t, x, dir)
	require.NoError(t, x.Close())
	x = mustOpen(t, dir, Options{sizes: tiny})
	requireShards(t, x, multihashOf(1), "small", "large")
}

func TestFilesThatCannotBeRemovedAreRemovedLater(t *testing.T) {
	dir := t.TempDir()
	stuck := &switchable{match: func(op fault.Op) bool { return op.Kind == fault.Remove }}
	x := mustOpen(t, dir, Options{FS: stuck.over(files.OS), sizes: tiny})
	stuck.on(os.ErrPermission)
	for i := range 6 {
		mustAdd(t, x, shardName(i), span(0, 50))
	}
	mustWait(t, x)
	require.Greater(t, filesIn(t, dir)["layer"], len(x.view.Load().tables))
	stuck.on(nil)
	require.NoError(t, x.Close())
	x = mustOpen(t, dir, Options{sizes: tiny})
	requireNoLeaks(t, x, dir)
}

func TestReadErrorsAreErrorsAndNoDamage(t *testing.T) {
	dir := t.TempDir()
	bad := &switchable{match: func(op fault.Op) bool { return op.Kind == fault.Read }}
	x := mustOpen(t, dir, Options{FS: bad.over(files.OS), sizes: tiny})
	mustAdd(t, x, "a", span(0, 50))
	bad.on(syscall.EIO)
	_, err := x.Lookup(multihashOf(1))
	require.ErrorIs(t, err, syscall.EIO)
	require.NotErrorIs(t, err, ErrDamaged)
	_, err = x.LookupMany([][]byte{multihashOf(1)})
	require.ErrorIs(t, err, syscall.EIO)
	_, _, err = x.First(multihashOf(1))
	require.ErrorIs(t, err, syscall.EIO)
	bad.on(nil)
	requireShards(t, x, multihashOf(1), "a")
}

func TestAnIteratorThatFailsOrPanicsAddsNothing(t *testing.T) {
	dir := t.TempDir()
	x := mustOpen(t, dir, Options{sizes: tiny})
	mustAdd(t, x, "a", span(0, 5))
	errBad := errors.New("bad iterator")
	for name, end := range map[string]func() error{
		"error": func() error { return errBad },
		"panic": func() error { panic(errBad) },
	} {
		for _, n := range []int{3, 200} {
			for _, key := range []string{"a", name} {
				err := x.Add(t.Context(), key, func(yield func([]byte) error) error {
					require.NoError(t, span(100, 100+n)(yield))
					return end()
				})
				require.ErrorIs(t, err, errBad)
			}
		}
	}
	requireShards(t, x, multihashOf(101))
	requireShards(t, x, multihashOf(1), "a")
	mustAdd(t, x, "b", span(0, 5))
	requireShards(t, x, multihashOf(1), "a", "b")
	requireNoLeaks(t, x, dir)
}
