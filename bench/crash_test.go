package bench

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"

	ds "github.com/ipfs/go-datastore"
	"github.com/stretchr/testify/require"

	"github.com/filecoin-project/dagstore"
	"github.com/filecoin-project/dagstore/internal/cartest"
	"github.com/filecoin-project/dagstore/internal/keyname"
	"github.com/filecoin-project/dagstore/mount"
)

const crashRounds = 10

func TestWhatWasAcknowledgedIsThereAfterAKill(t *testing.T) {
	seed := rand.Uint64()
	if s := os.Getenv(crashSeed); s != "" {
		var err error
		seed, err = strconv.ParseUint(s, 10, 64)
		require.NoError(t, err)
	}
	t.Logf("%s=%d", crashSeed, seed)
	r := rand.New(rand.NewPCG(seed, 0))
	dir := t.TempDir()
	foreign := layForeignFiles(t, dir)
	last := map[int]string{} // the last word about each shard
	for round := range crashRounds {
		lines := killedAfter(t, dir, seed+uint64(round), 20+r.IntN(800), last)
		checkStore(t, dir, last)
		for path, want := range foreign {
			got, err := os.ReadFile(path)
			require.NoError(t, err, "a file that is not the store's")
			require.True(t, bytes.Equal(want, got), path)
		}
		t.Logf("round %d: killed after %d lines; %d shards known", round, lines, len(last))
	}
}

// layForeignFiles makes the CARs, and files that are nobody's business.
func layForeignFiles(t *testing.T, dir string) map[string][]byte {
	t.Helper()
	foreign := map[string][]byte{
		filepath.Join(dir, "indices", "notes.txt"):           []byte("indices"),
		filepath.Join(dir, "transients", "kept", "mine.car"): []byte("a folder in the transients"),
		filepath.Join(dir, "transients.txt"):                 []byte("beside the transients"),
	}
	for i := range crashShards {
		foreign[crashCAR(dir, i)] = cartest.V1(nil, crashBlocks(i))
	}
	for path, data := range foreign {
		require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o755))
		require.NoError(t, os.WriteFile(path, data, 0o600))
	}
	return foreign
}

func crashBlocks(i int) []cartest.Block { return cartest.Blocks(5, 200, uint64(i)) }

// killedAfter runs a child that is killed when it has written n lines, and
// brings last up to date with all that it wrote.
func killedAfter(t *testing.T, dir string, seed uint64, n int, last map[int]string) (lines int) {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), crashFolder+"="+dir, fmt.Sprintf("%s=%d", crashSeed, seed), "GOLOG_LOG_LEVEL=error")
	var complaints bytes.Buffer
	cmd.Stderr = &complaints
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	for s := bufio.NewScanner(out); s.Scan(); {
		var what string
		var i int
		_, err := fmt.Sscanf(s.Text(), "%s %d", &what, &i)
		require.NoError(t, err, s.Text())
		last[i] = what
		if lines++; lines == n {
			require.NoError(t, cmd.Process.Kill())
		}
	}
	var exit *exec.ExitError
	require.ErrorAs(t, cmd.Wait(), &exit)
	require.GreaterOrEqual(t, lines, n, "the child ended by itself: %s", &complaints)
	require.Equal(t, -1, exit.ExitCode(), "the child was not killed: %s", &complaints)
	return lines
}

// checkStore holds what the child has left against its words: first the files as
// they lie, before a start can mend them, then the store.
func checkStore(t *testing.T, dir string, last map[int]string) {
	t.Helper()
	for i, word := range last {
		switch word {
		case registered:
			require.Len(t, filesOf(t, dir, i), 2, "index and transient of %q", crashKey(i))
		case destroyed:
			require.Empty(t, filesOf(t, dir, i))
		}
	}
	s, err := openCrashStore(dir)
	require.NoError(t, err)
	defer func() { require.NoError(t, s.shut()) }()
	require.Empty(t, s.UnreadableRecords())
	for i, word := range last {
		switch word {
		case registered, recorded:
			requireServed(t, s, i)
		case destroyed:
			requireGone(t, s, i)
		default:
			requireWholeOrUnknown(t, s, i)
		}
	}
}

// filesOf returns the files that the store keeps of a shard.
func filesOf(t *testing.T, dir string, i int) (found []string) {
	t.Helper()
	key := crashKey(i).String()
	whole, partial := mount.TransientNames(key)
	for _, pattern := range []string{
		filepath.Join(dir, "indices", keyname.File(key)+".*"),
		filepath.Join(dir, "transients", whole),
		filepath.Join(dir, "transients", partial),
	} {
		names, err := filepath.Glob(pattern)
		require.NoError(t, err)
		found = append(found, names...)
	}
	return found
}

func requireServed(t *testing.T, s *crashStore, i int) {
	t.Helper()
	ctx := context.Background()
	a, err := dagstore.Acquire(ctx, s, crashKey(i))
	require.NoError(t, err, crashKey(i))
	bs, err := a.Blockstore()
	require.NoError(t, err)
	bs.HashOnRead(true)
	for _, b := range crashBlocks(i) {
		got, err := bs.Get(ctx, b.Cid)
		require.NoError(t, err)
		require.Equal(t, b.Data, got.RawData())
		keys, err := s.ShardsContainingMultihash(ctx, b.Cid.Hash())
		require.NoError(t, err)
		require.Contains(t, keys, crashKey(i))
	}
	require.NoError(t, a.Close())
}

// requireWholeOrUnknown is for a shard whose last request was not answered.
func requireWholeOrUnknown(t *testing.T, s *crashStore, i int) {
	t.Helper()
	a, err := dagstore.Acquire(context.Background(), s, crashKey(i))
	if errors.Is(err, dagstore.ErrShardUnknown) {
		return
	}
	require.NoError(t, err)
	require.NoError(t, a.Close())
	requireServed(t, s, i)
}

func requireGone(t *testing.T, s *crashStore, i int) {
	t.Helper()
	ctx, key := context.Background(), crashKey(i)
	_, err := s.GetShardInfo(key)
	require.ErrorIs(t, err, dagstore.ErrShardUnknown, key)
	has, err := s.records.Has(ctx, dagstore.StoreNamespace.ChildString(keyname.Escape(key.String())))
	require.NoError(t, err)
	require.False(t, has, "record of %q", key)
	for _, b := range crashBlocks(i) {
		_, err := s.topLevel.GetShardsForMultihash(ctx, b.Cid.Hash())
		require.ErrorIs(t, err, ds.ErrNotFound, "top-level answer for %q", key)
	}
}
