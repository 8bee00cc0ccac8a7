package main

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

const page = "../../testdata/wikipedia-cryptographic-hash-function.car"

// command runs the command on a store in folder.
func command(t *testing.T, folder string, files ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, reasons bytes.Buffer
	code = run(t.Context(), append([]string{"-store", folder}, files...), &out, &reasons)
	return code, out.String(), reasons.String()
}

// write writes a file of a new folder and returns its path.
func write(t *testing.T, name string, content []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	require.NoError(t, os.WriteFile(path, content, 0o644))
	return path
}

func content(t *testing.T, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	require.NoError(t, err)
	return b
}

// row returns the line of the table about a file.
func row(t *testing.T, table, name string) string {
	t.Helper()
	for line := range strings.Lines(table) {
		if strings.HasPrefix(line, name+" ") {
			return line
		}
	}
	require.Fail(t, "no line about "+name, table)
	return ""
}

func TestSecondRunReusesTheStoreOfTheFirst(t *testing.T) {
	t.Setenv("HOME", t.TempDir())
	t.Setenv("XDG_CACHE_HOME", "")
	for _, done := range []string{"registered", "reused"} {
		var stdout, stderr bytes.Buffer
		code := run(t.Context(), nil, &stdout, &stderr)
		require.Equal(t, exitOK, code, stderr.String())
		require.Empty(t, stderr.String())
		line := row(t, stdout.String(), defaultFile)
		require.Contains(t, line, "available  1049 ")
		require.Contains(t, line, done+"; all blocks match their hashes")
		require.Contains(t, stdout.String(), "0 hash mismatches; 1 of 1 intact")
	}
}

func TestReusedShardIsNotIndexedAgain(t *testing.T) {
	folder := t.TempDir()
	_, _, stderr := command(t, folder, page)
	require.Empty(t, stderr)
	indices, err := filepath.Glob(filepath.Join(folder, "index", "*.full.idx"))
	require.NoError(t, err)
	require.Len(t, indices, 1)
	past := time.Unix(1e9, 0)
	require.NoError(t, os.Chtimes(indices[0], past, past))
	_, stdout, _ := command(t, folder, page)
	require.Contains(t, stdout, "reused")
	info, err := os.Stat(indices[0])
	require.NoError(t, err)
	require.True(t, info.ModTime().Equal(past), "the index was written again")
}

func TestBadFilesDoNotKeepGoodOnesFromBeingServed(t *testing.T) {
	broken := write(t, "broken.car", []byte("this is not a CAR"))
	truncated := write(t, "truncated.car", content(t, page)[:100_000])
	missing := filepath.Join(t.TempDir(), "missing.car")
	folder := t.TempDir()
	for range 2 {
		code, stdout, stderr := command(t, folder, broken, missing, truncated, t.TempDir(), page)
		require.Equal(t, exitWrong, code)
		require.Contains(t, row(t, stdout, page), "available  5 ")
		require.Contains(t, row(t, stdout, page), "all blocks match")
		require.Contains(t, row(t, stdout, broken), "errored")
		require.Contains(t, row(t, stdout, truncated), "errored")
		require.Contains(t, row(t, stdout, missing), "unreadable")
		require.Contains(t, stdout, "1 of 5 intact")
		require.Equal(t, 4, strings.Count(stderr, "\n"), stderr)
		require.Contains(t, stderr, missing+": no such file or directory\n")
	}
}

func TestFlippedByteIsReported(t *testing.T) {
	damaged := content(t, page)
	damaged[len(damaged)-1] ^= 1
	name := write(t, "flipped.car", damaged)
	folder := t.TempDir()
	for range 2 {
		code, stdout, stderr := command(t, folder, name)
		require.Equal(t, exitWrong, code, stderr)
		require.Contains(t, row(t, stdout, name), "1 hash mismatch\n")
		require.Contains(t, stdout, "read 5 blocks")
		require.Contains(t, stdout, "0 of 1 intact")
	}
}

func TestFilesOfOneNameAreTwoShards(t *testing.T) {
	first := write(t, "a.car", content(t, page))
	second := write(t, "a.car", content(t, defaultFile))
	code, stdout, stderr := command(t, t.TempDir(), first, second, first)
	require.Equal(t, exitOK, code, stderr)
	require.Contains(t, row(t, stdout, first), "available  5 ")
	require.Contains(t, row(t, stdout, second), "available  1049 ")
	require.Contains(t, stdout, "2 of 2 intact", "a file given twice is read once")
}

func TestChangedFileIsRegisteredAnew(t *testing.T) {
	name := write(t, "a.car", []byte("not yet a CAR"))
	folder := t.TempDir()
	code, _, _ := command(t, folder, name)
	require.Equal(t, exitWrong, code)
	for _, source := range []string{page, defaultFile} {
		require.NoError(t, os.WriteFile(name, content(t, source), 0o644))
		code, stdout, stderr := command(t, folder, name)
		require.Equal(t, exitOK, code, stderr)
		require.Contains(t, row(t, stdout, name), "changed, registered anew; all blocks match")
	}
}

func TestInterruptedRunLeavesAStoreThatOpens(t *testing.T) {
	folder := t.TempDir()
	ctx, interrupt := context.WithCancel(t.Context())
	interrupt()
	var stdout, stderr bytes.Buffer
	require.Equal(t, exitWrong, run(ctx, []string{"-store", folder, page}, &stdout, &stderr))
	require.Contains(t, stderr.String(), "context canceled")
	code, _, reasons := command(t, folder, page)
	require.Equal(t, exitOK, code, reasons)
}

func TestStoreInUseIsAReason(t *testing.T) {
	folder := t.TempDir()
	l, err := openLibrary(t.Context(), folder)
	require.NoError(t, err)
	code, stdout, stderr := command(t, folder, page)
	require.Equal(t, exitWrong, code)
	require.Empty(t, stdout)
	require.Contains(t, stderr, "one process at a time can use a store")
	require.NoError(t, l.close())
}

func TestStoreThatCannotBeOpenedIsAReason(t *testing.T) {
	for _, file := range []string{"", "records", "index", "transients"} {
		folder := filepath.Join(t.TempDir(), "store")
		if file != "" {
			require.NoError(t, os.Mkdir(folder, 0o755))
		}
		require.NoError(t, os.WriteFile(filepath.Join(folder, file), nil, 0o644))
		code, stdout, stderr := command(t, folder, page)
		require.Equal(t, exitWrong, code, file)
		require.Empty(t, stdout)
		require.Equal(t, 1, strings.Count(stderr, "\n"), stderr)
	}
}

func TestUsage(t *testing.T) {
	var stdout, stderr bytes.Buffer
	require.Equal(t, exitOK, run(t.Context(), []string{"-h"}, &stdout, &stderr))
	require.Contains(t, stderr.String(), "Usage: dagstore")
	require.Equal(t, exitUsage, run(t.Context(), []string{"-nonsense"}, &stdout, &stderr))
	t.Setenv("HOME", "")
	t.Setenv("XDG_CACHE_HOME", "")
	require.Equal(t, exitUsage, run(t.Context(), nil, &stdout, &stderr))
	require.Contains(t, stderr.String(), "use -store")
	require.Empty(t, stdout.String())
}

func TestNamesCannotDisturbTheTerminal(t *testing.T) {
	name := write(t, "a\x1b[2J\n\t.car", content(t, page))
	_, stdout, stderr := command(t, t.TempDir(), name, name+"\x1b")
	require.NotContains(t, stdout+stderr, "\x1b")
	require.Equal(t, 4, strings.Count(stdout, "\n"), stdout)
}

func TestFailedShardIsRecovered(t *testing.T) {
	folder := t.TempDir()
	name := write(t, "a.car", content(t, page)[:100_000])
	_, _, _ = command(t, folder, name)
	l, err := openLibrary(t.Context(), folder)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(name, content(t, page), 0o644))
	require.NoError(t, l.records.Put(t.Context(), stampKey(name), stamp(mustStat(t, name))))
	require.NoError(t, l.close())
	code, stdout, stderr := command(t, folder, name)
	require.Equal(t, exitOK, code, stderr)
	require.Contains(t, row(t, stdout, name), "recovered; all blocks match")
}

func mustStat(t *testing.T, path string) os.FileInfo {
	t.Helper()
	info, err := os.Stat(path)
	require.NoError(t, err)
	return info
}

func TestFileThatShrankUnnoticedIsUnreadable(t *testing.T) {
	folder := t.TempDir()
	name := write(t, "a.car", content(t, page))
	_, _, stderr := command(t, folder, name)
	require.Empty(t, stderr)
	l, err := openLibrary(t.Context(), folder)
	require.NoError(t, err)
	require.NoError(t, os.Truncate(name, 100_000))
	require.NoError(t, l.records.Put(t.Context(), stampKey(name), stamp(mustStat(t, name))))
	require.NoError(t, l.close())
	code, stdout, stderr := command(t, folder, name)
	require.Equal(t, exitWrong, code)
	require.Contains(t, row(t, stdout, name), "unreadable")
	require.NotEmpty(t, stderr)
}
