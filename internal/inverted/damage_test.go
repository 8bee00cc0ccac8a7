package inverted

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/filecoin-project/dagstore/internal/files"
)

// damageable makes a folder with a layer and small additions.
func damageable(t *testing.T) (dir string, m *model) {
	dir, m = t.TempDir(), newModel()
	x := mustOpen(t, dir, Options{sizes: tiny})
	for i, n := range []int{60, 5, 3, 20} {
		mustAdd(t, x, shardName(i), span(i, i+n))
		m.add(shardName(i), i, i+n)
	}
	require.NoError(t, x.Remove(t.Context(), shardName(1)))
	m.remove(shardName(1))
	mustWait(t, x)
	require.NoError(t, x.Close())
	return dir, m
}

// requireNeverWrong checks that the answers of a damaged index are right or
// ErrDamaged, and that checking all of it finds the damage.
func requireNeverWrong(t *testing.T, x *Index, m *model, name string, at int) {
	t.Helper()
	for i := 0; i < 64; i += 7 {
		got, err := x.Lookup(multihashOf(i))
		if err != nil {
			require.ErrorIs(t, err, ErrDamaged, "%s, byte %d", name, at)
			continue
		}
		require.Equal(t, m.lookup(i), got, "%s, byte %d", name, at)
	}
	require.ErrorIs(t, x.Verify(t.Context()), ErrDamaged, "%s, byte %d", name, at)
}

func TestAFlippedBitIsFoundOutAndNeverGivesAWrongAnswer(t *testing.T) {
	t.Parallel()
	dir, m := damageable(t)
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	require.Greater(t, len(entries), 2)
	for _, e := range entries {
		path := filepath.Join(dir, e.Name())
		whole, err := os.ReadFile(path)
		require.NoError(t, err)
		for at := 0; at < len(whole); at++ {
			if at < len(whole)-200 && strings.HasPrefix(e.Name(), layerPrefix) {
				at += 72 // package layer flips them all
			}
			b := append([]byte(nil), whole...)
			b[at] ^= 1 << (at % 8)
			require.NoError(t, os.WriteFile(path, b, 0o666))
			x, err := OpenReader(t.Context(), dir, Options{})
			if err != nil {
				require.ErrorIs(t, err, ErrDamaged, "%s, byte %d", e.Name(), at)
				continue
			}
			requireNeverWrong(t, x, m, e.Name(), at)
			require.NoError(t, x.Close())
		}
		require.NoError(t, os.WriteFile(path, whole, 0o666))
	}
	x := mustOpen(t, dir, Options{})
	m.requireSame(t, x, 64)
}

func TestAFileThatIsMissingOrShortIsDamage(t *testing.T) {
	for _, damage := range []struct {
		name string
		do   func(path string) error
	}{
		{"missing", os.Remove},
		{"empty", func(path string) error { return os.Truncate(path, 0) }},
		{"short", func(path string) error {
			info, err := os.Stat(path)
			if err != nil {
				return err
			}
			return os.Truncate(path, info.Size()/3)
		}},
	} {
		for _, kind := range []string{currentName, journalPrefix, layerPrefix} {
			if damage.name == "short" && kind == journalPrefix {
				continue // it may be what a crash has left
			}
			t.Run(damage.name+" "+kind, func(t *testing.T) {
				dir, _ := damageable(t)
				matches, err := filepath.Glob(filepath.Join(dir, kind+"*"))
				require.NoError(t, err)
				require.NotEmpty(t, matches)
				require.NoError(t, damage.do(matches[0]))
				before := filesIn(t, dir)
				_, err = Open(t.Context(), dir, Options{})
				require.ErrorIs(t, err, ErrDamaged)
				require.Equal(t, before, filesIn(t, dir), "opening has removed files")
				_, err = Open(t.Context(), dir, Options{})
				require.ErrorIs(t, err, ErrDamaged, "the folder stays locked")
			})
		}
	}
}

func TestAFileThatIsCutWhileItIsInUseIsDamage(t *testing.T) {
	for _, o := range []Options{{sizes: tiny}, {sizes: tiny, FS: unmapped{unsynced{files.OS}}}} {
		dir := t.TempDir()
		x := mustOpen(t, dir, o)
		mustAdd(t, x, "a", span(0, 50))
		mustWait(t, x)
		matches, err := filepath.Glob(filepath.Join(dir, layerPrefix+"*"))
		require.NoError(t, err)
		require.Len(t, matches, 1)
		require.NoError(t, os.Truncate(matches[0], 0))
		_, err = x.Lookup(multihashOf(1))
		require.ErrorIs(t, err, ErrDamaged)
		_, err = x.LookupMany([][]byte{multihashOf(1)})
		require.ErrorIs(t, err, ErrDamaged)
		require.ErrorIs(t, x.Verify(t.Context()), ErrDamaged)
	}
}

func TestMergingEndsAtDamageAndAddingTellsIt(t *testing.T) {
	dir := t.TempDir()
	x := mustOpen(t, dir, Options{sizes: tiny})
	mustAdd(t, x, "a", span(0, 40))
	mustWait(t, x)
	matches, err := filepath.Glob(filepath.Join(dir, layerPrefix+"*"))
	require.NoError(t, err)
	f, err := os.OpenFile(matches[0], os.O_WRONLY, 0)
	require.NoError(t, err)
	_, err = f.WriteAt([]byte("damage"), 50)
	require.NoError(t, err)
	require.NoError(t, f.Close())
	mustAdd(t, x, "b", span(0, 60)) // which is to be merged with it
	require.ErrorIs(t, x.Wait(t.Context()), ErrDamaged)
	require.ErrorIs(t, x.Add(t.Context(), "c", span(0, 1)), ErrDamaged)
	require.NoError(t, x.Close())
}

func TestAWriterFindsOutThatItsJournalLostItsEnd(t *testing.T) {
	dir := t.TempDir()
	x := mustOpen(t, dir, Options{})
	mustAdd(t, x, "a", span(0, 3))
	require.NoError(t, x.Close())
	x = mustOpen(t, dir, Options{})
	mustAdd(t, x, "b", span(0, 3))
	require.NoError(t, x.Verify(t.Context()))
	path := x.folder.journal(1)
	whole, err := os.ReadFile(path)
	require.NoError(t, err)
	for _, size := range []int{freshJournal, len(whole) - 1} {
		require.NoError(t, os.Truncate(path, int64(size)))
		require.ErrorIs(t, x.Verify(t.Context()), ErrDamaged)
	}
	require.NoError(t, os.WriteFile(path, whole, 0o666))
	require.NoError(t, x.Verify(t.Context()))
}

func TestAnInterruptedCreationIsNoDamage(t *testing.T) {
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "journal-1"), []byte("dags"), 0o666))
	require.NoError(t, os.WriteFile(filepath.Join(dir, ".tmp-x"), []byte("dags"), 0o666))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "README"), []byte("mine"), 0o666))
	x := mustOpen(t, dir, Options{})
	mustAdd(t, x, "a", span(0, 1))
	require.Equal(t, map[string]int{"CURRENT": 1, "journal": 1, "README": 1}, filesIn(t, dir))
	require.NoError(t, x.Close())
	require.NoError(t, os.Remove(filepath.Join(dir, currentName)))
	_, err := Open(t.Context(), dir, Options{})
	require.ErrorIs(t, err, ErrDamaged, "a shard is lost")
}

func TestFreshJournalsHaveTheSizeThatTellsThemFromOthers(t *testing.T) {
	dir := t.TempDir()
	x := mustOpen(t, dir, Options{})
	require.Equal(t, int64(freshJournal), x.log.journal.Size())
}
