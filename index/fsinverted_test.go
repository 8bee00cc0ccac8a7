package index

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	ds "github.com/ipfs/go-datastore"
	"github.com/multiformats/go-multihash"
	"github.com/stretchr/testify/require"

	"github.com/filecoin-project/dagstore/internal/folderlock"
	"github.com/filecoin-project/dagstore/shard"
)

func openInverted(t *testing.T, dir string, o FSInvertedOptions) *FSInverted {
	t.Helper()
	x, err := OpenFSInverted(t.Context(), dir, o)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, x.Close()) })
	return x
}

func addNames(t *testing.T, x Inverted, key string, names ...string) {
	t.Helper()
	var mhs multihashes
	for _, n := range names {
		mhs = append(mhs, mhOf(t, n))
	}
	require.NoError(t, x.AddMultihashesForShard(t.Context(), mhs, shard.KeyFromString(key)))
}

func shardsOf(t *testing.T, x Inverted, name string) string {
	t.Helper()
	keys, err := x.GetShardsForMultihash(t.Context(), mhOf(t, name))
	if err != nil {
		require.ErrorIs(t, err, ds.ErrNotFound)
	}
	return fmt.Sprint(keys)
}

func TestManyAndFirstAnswerAsOne(t *testing.T) {
	for _, x := range []*FSInverted{NewMemoryInverted(), openInverted(t, t.TempDir(), FSInvertedOptions{})} {
		addNames(t, x, "b", "1", "2")
		addNames(t, x, "a", "2", "3")
		all, err := x.GetShardsForMultihashes(t.Context(), []multihash.Multihash{mhOf(t, "2"), mhOf(t, "none"), mhOf(t, "3")})
		require.NoError(t, err)
		require.Equal(t, "[[b a] [] [a]]", fmt.Sprint(all))
		require.Nil(t, all[1])
		_ = append(all[0], shard.KeyFromString("x"))
		require.Equal(t, "[a]", fmt.Sprint(all[2]), "answers share memory that can be written to")
		first, err := x.GetFirstShardForMultihash(t.Context(), mhOf(t, "2"))
		require.NoError(t, err)
		require.Equal(t, "b", first.String())
		_, err = x.GetFirstShardForMultihash(t.Context(), mhOf(t, "none"))
		require.ErrorIs(t, err, ds.ErrNotFound)
		require.NoError(t, x.Verify(t.Context()))
		require.NoError(t, x.Close())
		require.NoError(t, x.Close())
		_, err = x.GetShardsForMultihash(t.Context(), mhOf(t, "2"))
		require.ErrorIs(t, err, os.ErrClosed)
	}
}

func TestFolderHasOneWriterAndReadersThatFollow(t *testing.T) {
	dir := t.TempDir()
	_, err := OpenFSInverted(t.Context(), dir, FSInvertedOptions{ReadOnly: true})
	require.ErrorIs(t, err, os.ErrNotExist)
	writer := openInverted(t, dir, FSInvertedOptions{})
	addNames(t, writer, "a", "1")
	_, err = OpenFSInverted(t.Context(), dir, FSInvertedOptions{})
	require.ErrorIs(t, err, folderlock.ErrLocked)

	reader := openInverted(t, dir, FSInvertedOptions{ReadOnly: true})
	require.Equal(t, "[a]", shardsOf(t, reader, "1"))
	require.Error(t, reader.AddMultihashesForShard(t.Context(), multihashes{mhOf(t, "2")}, shard.KeyFromString("x")))
	require.Error(t, reader.Reset(t.Context()))
	addNames(t, writer, "b", "1")
	require.Eventually(t, func() bool { return shardsOf(t, reader, "1") == "[a b]" }, 10e9, 1e6)

	require.NoError(t, writer.Reset(t.Context()))
	require.Equal(t, "[]", shardsOf(t, writer, "1"))
	addNames(t, writer, "c", "1")
	require.NoError(t, writer.SetComplete(true))
	require.Eventually(t, func() bool { return shardsOf(t, reader, "1") == "[c]" }, 10e9, 1e6, "a reader follows to the next generation")
	require.NoError(t, writer.Close())
	again := openInverted(t, dir, FSInvertedOptions{})
	require.Equal(t, "[c]", shardsOf(t, again, "1"))
}

// A disk that is full has room again when what is damaged is gone. Until then, and
// after a crash, nobody may believe it.
func TestDamagedIndexThatCannotBeMadeAnewIsNotBelievedAgain(t *testing.T) {
	dir := t.TempDir()
	x := openInverted(t, dir, FSInvertedOptions{})
	addNames(t, x, "a", "1")
	block := filepath.Join(dir, generationFile)
	require.NoError(t, os.Remove(block))
	require.NoError(t, os.MkdirAll(filepath.Join(block, "in the way"), 0o700))
	for range 3 {
		require.Error(t, x.Reset(t.Context()))
		_, err := x.GetShardsForMultihash(t.Context(), mhOf(t, "1"))
		require.ErrorIs(t, err, ErrDamaged)
		err = x.AddMultihashesForShard(t.Context(), multihashes{mhOf(t, "1")}, shard.KeyFromString("b"))
		require.ErrorIs(t, err, ErrDamaged)
		require.Empty(t, folders(t, dir), "nothing is left of it, and of the attempts")
	}

	require.NoError(t, os.RemoveAll(block))
	require.NoError(t, os.WriteFile(block, []byte(generation{number: 1}.text()), 0o600))
	require.NoError(t, x.Close())
	_, err := OpenFSInverted(t.Context(), dir, FSInvertedOptions{})
	require.ErrorIs(t, err, ErrDamaged)
	x = openInverted(t, dir, FSInvertedOptions{Anew: true})
	require.Equal(t, "[]", shardsOf(t, x, "1"))
}

func TestIndexThatCouldNotBeMadeAnewIsMadeAnewByTheNextReset(t *testing.T) {
	dir := t.TempDir()
	x := openInverted(t, dir, FSInvertedOptions{})
	block := filepath.Join(dir, generationFile)
	require.NoError(t, os.Remove(block))
	require.NoError(t, os.MkdirAll(filepath.Join(block, "in the way"), 0o700))
	require.Error(t, x.Reset(t.Context()))
	require.NoError(t, os.RemoveAll(block))
	require.NoError(t, x.Reset(t.Context()))
	addNames(t, x, "a", "1")
	require.Equal(t, "[a]", shardsOf(t, x, "1"))
	require.NoError(t, x.Close())
	_, err := x.GetShardsForMultihash(t.Context(), mhOf(t, "1"))
	require.ErrorIs(t, err, os.ErrClosed)
}

// folders returns the names of the folders in a folder.
func folders(t *testing.T, dir string) (names []string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	for _, e := range entries {
		if e.IsDir() && e.Name() != generationFile {
			names = append(names, e.Name())
		}
	}
	return names
}

// damage changes a byte in the middle of each file of an index.
func damage(t *testing.T, dir string) {
	t.Helper()
	require.NoError(t, filepath.WalkDir(dir, func(path string, e os.DirEntry, err error) error {
		if err != nil || e.IsDir() || e.Name() == generationFile {
			return err
		}
		b, err := os.ReadFile(path)
		require.NoError(t, err)
		b[len(b)/2] ^= 0x40
		return os.WriteFile(path, b, 0o600)
	}))
}

func TestDamagedTopLevelIndexIsAnErrorOrMadeAnewIfWanted(t *testing.T) {
	for name, harm := range map[string]func(t *testing.T, dir string){
		"bits flipped":   damage,
		"folder missing": func(t *testing.T, dir string) { require.NoError(t, os.RemoveAll(filepath.Join(dir, "generation-1"))) },
		"generation torn": func(t *testing.T, dir string) {
			require.NoError(t, os.WriteFile(filepath.Join(dir, generationFile), nil, 0o600))
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			x := openInverted(t, dir, FSInvertedOptions{})
			addNames(t, x, "a", "1")
			require.NoError(t, x.Close())
			harm(t, dir)
			_, err := OpenFSInverted(t.Context(), dir, FSInvertedOptions{})
			require.ErrorIs(t, err, ErrDamaged)
			x = openInverted(t, dir, FSInvertedOptions{Anew: true})
			keys, err := x.Shards(t.Context())
			require.NoError(t, err)
			require.Empty(t, keys)
			addNames(t, x, "b", "1")
			require.NoError(t, x.Close())
			require.Equal(t, "[b]", shardsOf(t, openInverted(t, dir, FSInvertedOptions{}), "1"))
			require.Len(t, folders(t, dir), 1)
		})
	}
}

func TestRebuiltIndexIsThatOfTheFullIndices(t *testing.T) {
	repo, _ := newFS(t)
	for i := range 20 {
		require.NoError(t, repo.AddFullIndex(shard.KeyFromString(fmt.Sprint(i)), smallIndex(t, fmt.Sprint("own", i), "common")))
	}
	dir := t.TempDir()
	old := openInverted(t, dir, FSInvertedOptions{})
	addNames(t, old, "gone", "common")
	require.ErrorIs(t, RebuildFSInverted(t.Context(), dir, repo, nil), folderlock.ErrLocked)
	require.NoError(t, old.Close())
	reader := openInverted(t, dir, FSInvertedOptions{ReadOnly: true})

	// It is interrupted, and goes on.
	ctx, cancel := context.WithCancel(t.Context())
	steps := 0
	err := RebuildFSInverted(ctx, dir, repo, func(done, all int) {
		require.Equal(t, steps, done)
		require.Equal(t, 20, all)
		steps++
		if done == 7 {
			cancel()
		}
	})
	require.ErrorIs(t, err, context.Canceled)
	require.Equal(t, "[gone]", shardsOf(t, reader, "common"), "the old one serves until then")
	_, err = repo.DropFullIndex(shard.KeyFromString("3"))
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(repo.path(shard.KeyFromString("4")), []byte("damaged"), 0o600))
	resumed := 0
	err = RebuildFSInverted(t.Context(), dir, repo, func(done, all int) {
		resumed++
		require.Equal(t, 19, all)
	})
	if err != nil { // unless shard 4 was added before it was damaged
		require.ErrorIs(t, err, ErrDamaged)
		require.ErrorContains(t, err, `"4"`)
	}
	require.Less(t, resumed, 15, "what was done is not done again")
	x := openInverted(t, dir, FSInvertedOptions{})
	for i := range 20 {
		want := fmt.Sprintf("[%d]", i)
		switch {
		case i == 3:
			want = "[]"
		case i == 4 && err != nil:
			want = "[]"
		}
		require.Equal(t, want, shardsOf(t, x, fmt.Sprint("own", i)))
	}
	require.Len(t, folders(t, dir), 1)
	require.Eventually(t, func() bool { return shardsOf(t, reader, "own9") == "[9]" }, 10e9, 1e6)
}

func TestRebuildEndsWithAnErrorOfTheRepository(t *testing.T) {
	require.Error(t, RebuildFSInverted(t.Context(), filepath.Join(t.TempDir(), "missing"), NewMemoryRepo(), nil))
	boom := errors.New("boom")
	require.ErrorIs(t, RebuildFSInverted(t.Context(), t.TempDir(), failingRepo{NewMemoryRepo(), boom}, nil), boom)
}

type failingRepo struct {
	FullIndexRepo
	err error
}

func (f failingRepo) ForEach(func(shard.Key) (bool, error)) error { return f.err }

// onlyRecords are the multihashes of a full index that tells its records. To ask for
// them one by one would allocate them.
type onlyRecords struct{ RecordIterator }

func (onlyRecords) ForEach(func(multihash.Multihash) error) error {
	return errors.New("not what should be asked")
}

// manyRecords are n records of several codes and lengths.
type manyRecords int

func (n manyRecords) ForEachRecord(visit func(code uint64, digest []byte, offset uint64) error) error {
	digest := make([]byte, 64)
	for i := range n {
		binary.BigEndian.PutUint64(digest, uint64(i))
		code, length := uint64(multihash.SHA2_256), 32
		if i%2 == 0 {
			code, length = multihash.BLAKE2B_MIN+63, 64
		}
		if err := visit(code, digest[:length], uint64(i)); err != nil {
			return err
		}
	}
	return nil
}

func TestRecordsAreAddedAsTheirMultihashes(t *testing.T) {
	repo, _ := newFS(t)
	key := shard.KeyFromString("a")
	require.NoError(t, repo.AddFullIndex(key, smallIndex(t, "1", "2")))
	idx, err := repo.GetFullIndex(key)
	require.NoError(t, err)
	defer idx.(Releaser).Release()
	x := NewMemoryInverted()
	defer x.Close()
	require.NoError(t, x.AddMultihashesForShard(t.Context(), onlyRecords{idx.(RecordIterator)}, key))
	require.NoError(t, x.AddMultihashesForShard(t.Context(), onlyRecords{manyRecords(4)}, shard.KeyFromString("b")))
	require.Equal(t, "[a]", shardsOf(t, x, "1"))
	require.Equal(t, "[a]", shardsOf(t, x, "2"))
	for i, head := range []string{"\xc0\xe4\x02\x40", "\x12\x20"} {
		mh := append([]byte(head), make([]byte, 64)...)
		mh[len(head)+7] = byte(i)
		keys, err := x.GetShardsForMultihash(t.Context(), mh[:len(mh)-i*32])
		require.NoError(t, err)
		require.Equal(t, "[b]", fmt.Sprint(keys))
	}
}

func TestARecordIsVisitedWithoutAllocating(t *testing.T) {
	const records = 10_000
	visited := 0
	allocations := testing.AllocsPerRun(1, func() {
		_ = eachMultihash(onlyRecords{manyRecords(records)}, func([]byte) error {
			visited++
			return nil
		})
	})
	require.Equal(t, 2*records, visited)
	require.Less(t, allocations, 20.0)
}

func TestRebuildingAllocatesNoRecord(t *testing.T) {
	const records = 20_000
	var names []string
	for i := range records {
		names = append(names, fmt.Sprint(i))
	}
	repo, _ := newFS(t)
	require.NoError(t, repo.AddFullIndex(shard.KeyFromString("a"), smallIndex(t, names...)))
	dir := t.TempDir()
	allocations := testing.AllocsPerRun(1, func() {
		require.NoError(t, RebuildFSInverted(t.Context(), dir, repo, nil))
	})
	require.Less(t, allocations, records/4.0)
	x := openInverted(t, dir, FSInvertedOptions{})
	require.Equal(t, "[a]", shardsOf(t, x, "7"))
}
