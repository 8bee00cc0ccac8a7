package journal_test

import (
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/filecoin-project/dagstore/internal/fault"
	"github.com/filecoin-project/dagstore/internal/files"
	"github.com/filecoin-project/dagstore/internal/journal"
)

// attempt creates a journal of two entries, or opens it, and appends. It returns
// the texts of the entries that are acknowledged.
func attempt(t *testing.T, fsys files.FS, path string, texts []string) (acknowledged []string, j *journal.Journal) {
	j, acknowledged, err := open(fsys, path)
	if errors.Is(err, os.ErrNotExist) {
		j, err = journal.Create(fsys, path, entries(texts[:2]...))
		acknowledged = texts[:2:2]
	}
	if err != nil {
		return nil, nil
	}
	for _, text := range texts[len(acknowledged):] {
		done := 0
		if err := j.Append(ctx, []byte(text), func() { done++ }); err != nil {
			require.Zero(t, done, "what failed is not done")
			break
		}
		require.Equal(t, 1, done)
		acknowledged = append(acknowledged, text)
	}
	return acknowledged, j
}

func injectors(n int) map[string]*fault.Injector {
	return map[string]*fault.Injector{
		"whole": fault.From(n).Match(fault.Writing),
		"short": fault.From(n).Match(fault.Writing).Short(),
	}
}

func TestCrashAtAnyWriteLosesNothingAcknowledged(t *testing.T) {
	texts := numbered(8)
	for n, last := 0, false; !last; n++ {
		for name, inj := range injectors(n) {
			path := newPath(t)
			d := faulty(inj)
			d.dead = true
			acknowledged, j := attempt(t, d, path, texts)
			last = inj.Fired() == 0
			if j == nil {
				require.Empty(t, acknowledged)
				continue // there is no journal yet that anyone refers to
			}
			_ = j.Close()
			got := reopened(t, path)
			require.GreaterOrEqual(t, len(got), len(acknowledged), "%s %d", name, n)
			require.LessOrEqual(t, len(got), len(acknowledged)+1, "%s %d", name, n)
			require.Equal(t, texts[:len(got)], got, "%s %d", name, n)
			again, j := attempt(t, files.OS, path, texts)
			require.Equal(t, texts, again, "the rest can be appended")
			require.NoError(t, j.Close())
			require.Equal(t, texts, reopened(t, path))
		}
	}
}

func TestFailedAppendIsTakenBackAndFailsTheLaterOnes(t *testing.T) {
	for _, kind := range []fault.Kind{fault.Write, fault.Sync} {
		for n := 1; n < 4; n++ { // the first one is of Create
			path := newPath(t)
			inj := fault.OnIndex(n).Match(fault.Is(kind)).WithError(syscall.ENOSPC).Short()
			d := faulty(inj)
			texts := numbered(8)
			acknowledged, j := attempt(t, d, path, texts)
			require.Equal(t, 1, inj.Fired())
			require.Equal(t, 1, d.cuts)
			require.Equal(t, texts[:n+1], acknowledged)

			first := j.Append(ctx, []byte("later"), func() { t.Error("done") })
			require.ErrorIs(t, first, syscall.ENOSPC)
			require.Equal(t, first, j.Append(ctx, []byte("later still"), nil))
			require.Equal(t, sizeOf(t, path), j.Size())
			require.NoError(t, j.Close())
			got, _, err := followed(path, journal.Position{})
			require.NoError(t, err)
			require.Equal(t, acknowledged, got)
		}
	}
}

func TestAppendThatCannotBeTakenBackSaysSo(t *testing.T) {
	mine := errors.New("mine")
	for name, d := range map[string]*disk{
		"truncate": {inj: fault.OnIndex(1).Match(fault.Is(fault.Sync)), err: mine},
		"sync":     {inj: fault.From(1).Match(fault.Is(fault.Sync)).WithError(mine)},
	} {
		d.FS = fault.FS(files.OS, d.inj)
		path := newPath(t)
		j, err := journal.Create(d, path, entries("begin"))
		require.NoError(t, err)
		err = j.Append(ctx, []byte("unknown"), nil)
		require.ErrorIs(t, err, mine, name)
		require.ErrorContains(t, err, "what was written stays", name)
		require.NoError(t, j.Close())
	}
}

func TestFailedCreateLeavesNoFile(t *testing.T) {
	for _, kind := range []fault.Kind{fault.Create, fault.Write, fault.Sync, fault.SyncDir} {
		path := newPath(t)
		inj := fault.OnIndex(0).Match(fault.Is(kind)).Short()
		_, err := journal.Create(faulty(inj), path, entries("begin"))
		require.ErrorIs(t, err, fault.ErrInjected, kind)
		require.Equal(t, 1, inj.Fired())
		if kind != fault.Create {
			require.Equal(t, 1, inj.Count(fault.Close), kind)
		}
		left, err := os.ReadDir(filepath.Dir(path))
		require.NoError(t, err)
		require.Empty(t, left, kind)
	}
}

func TestFailureWhileOpeningIsReportedAndLosesNothing(t *testing.T) {
	path := newPath(t)
	texts, ends := small(t, path)
	torn := contents(t, path)[:ends[len(ends)-1]-1]
	for n := 0; ; n++ {
		replace(t, path, torn)
		inj := fault.OnIndex(n).Match(func(op fault.Op) bool { return op.Kind != fault.Close })
		j, _, err := open(faulty(inj), path)
		if inj.Fired() == 0 {
			require.NoError(t, err)
			require.NoError(t, j.Close())
			require.Equal(t, 4, n, "open, stat, read, sync")
			break
		}
		require.ErrorIs(t, err, fault.ErrInjected)
		require.NotErrorIs(t, err, journal.ErrDamaged)
		require.Equal(t, min(n, 1), inj.Count(fault.Close), "nothing stays open")
		require.Equal(t, texts[:len(texts)-1], reopened(t, path))
	}

	replace(t, path, torn)
	d := faulty(fault.Never())
	d.err = errors.New("mine")
	_, _, err := open(d, path)
	require.ErrorIs(t, err, d.err)
	require.Equal(t, torn, contents(t, path))
}

func TestFailureWhileReadingIsNotTakenForDamage(t *testing.T) {
	path := newPath(t)
	texts, _ := small(t, path)
	for n := 0; ; n++ {
		inj := fault.OnIndex(n)
		var got []string
		_, err := journal.Read(fault.FS(files.OS, inj), path, journal.Position{}, collect(&got))
		require.Equal(t, texts[:len(got)], append(make([]string, 0), got...))
		if inj.Fired() == 0 {
			require.NoError(t, err)
			require.Equal(t, 4, n, "open, stat, read, close")
			return
		}
		require.ErrorIs(t, err, fault.ErrInjected)
		require.NotErrorIs(t, err, journal.ErrDamaged)
	}
}

func TestEntriesThatWereFoundAreMadeDurable(t *testing.T) {
	path := newPath(t)
	write(t, path, "perhaps never synced")
	inj := fault.Never()
	j, _, err := open(faulty(inj), path)
	require.NoError(t, err)
	require.Equal(t, 1, inj.Count(fault.Sync))
	require.NoError(t, j.Close())
}
