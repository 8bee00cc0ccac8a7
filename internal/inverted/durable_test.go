package inverted

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/filecoin-project/dagstore/internal/fault"
	"github.com/filecoin-project/dagstore/internal/files"
	"github.com/filecoin-project/dagstore/internal/journal"
)

// A witness is a file system that notes what a crash would leave, and finds fault with
// what relies on more than that. Nothing waits for the disk.
type witness struct {
	files.FS
	mu     sync.Mutex
	synced map[string]bool // paths of files whose content is durable
	named  map[string]bool // paths of files and folders whose names are
	faults []error
	checks int // how many there were
}

func newWitness() *witness {
	return &witness{FS: unsynced{files.OS}, synced: map[string]bool{}, named: map[string]bool{}}
}

// demand notes a fault unless something holds. w.mu is held.
func (w *witness) demand(holds bool, format string, args ...any) {
	w.checks++
	if !holds {
		w.faults = append(w.faults, fmt.Errorf(format, args...))
	}
}

// isDurable tells whether a crash leaves a file. w.mu is held.
func (w *witness) isDurable(path string) bool {
	return w.synced[path] && w.named[path] && w.named[filepath.Dir(path)]
}

func (w *witness) OpenFile(path string, flag int, perm fs.FileMode) (files.File, error) {
	return w.watch(w.FS.OpenFile(path, flag, perm))
}

func (w *witness) CreateTemp(dir string) (files.File, error) { return w.watch(w.FS.CreateTemp(dir)) }

func (w *witness) watch(f files.File, err error) (files.File, error) {
	if err != nil {
		return nil, err
	}
	return &watchedFile{f, w}, nil
}

type watchedFile struct {
	files.File
	w *witness
}

func (f *watchedFile) Write(p []byte) (int, error) {
	f.w.mu.Lock()
	defer f.w.mu.Unlock()
	f.w.synced[f.Name()] = false
	return f.File.Write(p)
}

func (f *watchedFile) Sync() error {
	f.w.mu.Lock()
	defer f.w.mu.Unlock()
	f.w.synced[f.Name()] = true
	if strings.HasPrefix(filepath.Base(f.Name()), journalPrefix) {
		f.w.checkJournal(f.Name())
	}
	return f.File.Sync()
}

func (w *witness) Rename(oldpath, newpath string) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.demand(w.synced[oldpath], "%s gets content that is not durable", newpath)
	w.synced[newpath], w.named[newpath] = w.synced[oldpath], false
	if err := w.FS.Rename(oldpath, newpath); err != nil {
		return err
	}
	if filepath.Base(newpath) == currentName {
		path := w.inUse(filepath.Dir(newpath))
		w.demand(w.isDurable(path), "%s names %s, which is not durable", newpath, path)
	}
	return nil
}

func (w *witness) Remove(path string) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	dir, name := filepath.Split(path)
	dir = filepath.Clean(dir)
	if number, ok := numbered(name, layerPrefix); ok && w.inUse(dir) != "" {
		w.demand(!w.names(w.inUse(dir), number), "%s is removed while the journal names it", path)
	}
	if _, ok := numbered(name, journalPrefix); ok {
		w.demand(w.isDurable(filepath.Join(dir, currentName)), "%s is removed while a crash may bring it back", path)
		w.demand(w.inUse(dir) != path, "%s is removed while it is in use", path)
	}
	return w.FS.Remove(path)
}

func (w *witness) SyncDir(dir string) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	entries, err := os.ReadDir(dir)
	for _, e := range entries {
		w.named[filepath.Join(dir, e.Name())] = true
	}
	return err
}

// checkJournal checks what an entry relies on that was just made durable. w.mu is held.
func (w *witness) checkJournal(path string) {
	dir := filepath.Dir(path)
	if w.named[path] { // else it is being created
		w.demand(w.isDurable(filepath.Join(dir, currentName)), "%s has an entry, and a crash may leave another journal in use", path)
	}
	for number := range w.layers(path) {
		layer := folder{dir: dir}.layer(number)
		w.demand(w.isDurable(layer), "%s names %s, which is not durable", path, layer)
	}
}

// inUse returns the path of the journal that CURRENT names, or nothing.
func (w *witness) inUse(dir string) string {
	f := folder{files.OS, dir}
	c, err := f.readCurrent()
	if errors.Is(err, fs.ErrNotExist) {
		return ""
	}
	w.demand(err == nil, "%w", err)
	return f.journal(c.journal)
}

// layers returns the numbers of the layers that count, as a journal says.
func (w *witness) layers(path string) map[uint64]bool {
	m, numbers := newManifest(), map[uint64]bool{}
	_, err := journal.Read(files.OS, path, journal.Position{}, func(entry []byte) error {
		c, err := decode(entry)
		if err == nil {
			_, err = m.apply(c)
		}
		return err
	})
	w.demand(err == nil, "%w", err)
	for _, t := range m.tables {
		if !inMemory(t) {
			numbers[t.number] = true
		}
	}
	return numbers
}

func (w *witness) names(path string, layer uint64) bool { return w.layers(path)[layer] }

func TestNothingReliesOnWhatACrashMayLose(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "index")
	w := newWitness()
	for range 2 {
		x := mustOpen(t, dir, Options{FS: w, sizes: eventful})
		newHistory().work(t, x)
		mustWait(t, x)
		require.Greater(t, x.log.number, uint64(1), "another journal")
		require.NoError(t, x.Close())
	}
	require.NoError(t, errors.Join(w.faults...))
	require.Greater(t, w.checks, 100)
}

// An append that fails may leave its entry in the file after all. A restart believes
// it, and then needs the layers that it names.
func TestALayerStaysWhileAnEntryThatFailedMayNameIt(t *testing.T) {
	dir := t.TempDir()
	var isBad atomic.Bool
	bad := fault.Always().Match(func(op fault.Op) bool {
		return isBad.Load() && fault.Is(fault.Sync, fault.Truncate)(op) && strings.Contains(op.Name, journalPrefix)
	})
	o := Options{FS: fault.FS(unsynced{files.OS}, bad), sizes: tiny}
	x := mustOpen(t, dir, o)
	isBad.Store(true)
	require.ErrorIs(t, x.Add(t.Context(), "a", span(0, 50)), fault.ErrInjected)
	require.NoError(t, x.Close())
	isBad.Store(false)

	x = mustOpen(t, dir, o)
	requireShards(t, x, multihashOf(0), "a")
	isBad.Store(true)
	require.ErrorIs(t, x.Add(t.Context(), "b", span(0, 50)), fault.ErrInjected)
	isBad.Store(false)
	mustAdd(t, x, "c", span(0, 50)) // to another journal, which does not name it
	mustWait(t, x)
	requireShards(t, x, multihashOf(0), "a", "c")
	requireNoLeaks(t, x, dir)
}
