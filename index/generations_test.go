package index

import (
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	carindex "github.com/ipld/go-car/v2/index"
	"github.com/multiformats/go-multihash"
	"github.com/stretchr/testify/require"

	"github.com/filecoin-project/dagstore/internal/fault"
	"github.com/filecoin-project/dagstore/internal/files"
	"github.com/filecoin-project/dagstore/shard"
)

func TestFlippedBitsOfGenerationAreFoundOut(t *testing.T) {
	for _, g := range []generation{{1, false}, {20, true}} {
		text := g.text()
		found, err := parseGeneration(text)
		require.NoError(t, err)
		require.Equal(t, g, found)
		for i := range 8 * len(text) {
			flipped := []byte(text)
			flipped[i/8] ^= 1 << (i % 8)
			_, err := parseGeneration(string(flipped))
			require.ErrorIs(t, err, ErrDamaged, "%q", flipped)
		}
		for n := range text {
			_, err := parseGeneration(text[:n])
			require.ErrorIs(t, err, ErrDamaged)
		}
	}
	future := "dagstore top-level index 2\nsomething\nelse\n"
	_, err := parseGeneration(fmt.Sprintf("%s%08x\n", future, crc32.Checksum([]byte(future), castagnoli)))
	require.ErrorIs(t, err, errors.ErrUnsupported, "it is not made anew")
}

func TestIndexThatLostItsGenerationIsDamagedAndNotEmpty(t *testing.T) {
	dir := t.TempDir()
	x := openInverted(t, dir, FSInvertedOptions{})
	addNames(t, x, "a", "1")
	require.NoError(t, x.Close())
	path := filepath.Join(dir, generationFile)
	text, err := os.ReadFile(path)
	require.NoError(t, err)
	require.NoError(t, os.Remove(path))
	for _, o := range []FSInvertedOptions{{}, {ReadOnly: true}} {
		_, err = OpenFSInverted(t.Context(), dir, o)
		require.ErrorIs(t, err, ErrDamaged)
	}
	require.NoError(t, os.WriteFile(path, text, 0o600))
	x = openInverted(t, dir, FSInvertedOptions{})
	require.Equal(t, "[a]", shardsOf(t, x, "1"), "nothing was removed")
	require.NoError(t, x.Close())

	folder := filepath.Join(dir, "generation-1")
	entries, err := os.ReadDir(folder)
	require.NoError(t, err)
	for _, e := range entries {
		require.NoError(t, os.Remove(filepath.Join(folder, e.Name())))
	}
	_, err = OpenFSInverted(t.Context(), dir, FSInvertedOptions{})
	require.ErrorIs(t, err, ErrDamaged)
}

// changedIndices is a repository of full indices with one shard, k, and some others.
func changedIndices(t *testing.T, of string) *FSIndexRepo {
	t.Helper()
	repo, _ := newFS(t)
	require.NoError(t, repo.AddFullIndex(shard.KeyFromString("a"), smallIndex(t, "of a")))
	require.NoError(t, repo.AddFullIndex(shard.KeyFromString("k"), smallIndex(t, of)))
	return repo
}

// interruptRebuild has a rebuild end when it has added the shards a and k.
func interruptRebuild(t *testing.T, dir string, repo FullIndexRepo) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	require.NoError(t, repo.AddFullIndex(shard.KeyFromString("z"), smallIndex(t, "of z")))
	err := RebuildFSInverted(ctx, dir, repo, func(done, _ int) {
		if done == 2 {
			cancel()
		}
	})
	require.ErrorIs(t, err, context.Canceled)
}

func TestWhatAnInterruptedRebuildLeftIsNotBelievedAfterAWriter(t *testing.T) {
	for name, go2 := range map[string]func(dir string, repo *FSIndexRepo) *FSInverted{
		"rebuilt again": func(dir string, repo *FSIndexRepo) *FSInverted {
			require.NoError(t, openInverted(t, dir, FSInvertedOptions{}).Close())
			require.NoError(t, RebuildFSInverted(t.Context(), dir, repo, nil))
			return openInverted(t, dir, FSInvertedOptions{})
		},
		"made anew": func(dir string, _ *FSIndexRepo) *FSInverted {
			require.NoError(t, os.RemoveAll(filepath.Join(dir, "generation-1")))
			return openInverted(t, dir, FSInvertedOptions{Anew: true})
		},
		"reset": func(dir string, _ *FSIndexRepo) *FSInverted {
			x := openInverted(t, dir, FSInvertedOptions{})
			require.NoError(t, x.Reset(t.Context()))
			return x
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			require.NoError(t, openInverted(t, dir, FSInvertedOptions{}).Close())
			repo := changedIndices(t, "old")
			interruptRebuild(t, dir, repo)
			require.NoError(t, repo.AddFullIndex(shard.KeyFromString("k"), smallIndex(t, "new")))
			x := go2(dir, repo)
			require.Equal(t, "[]", shardsOf(t, x, "old"))
			require.Len(t, folders(t, dir), 1)
			if name == "rebuilt again" {
				require.Equal(t, "[k]", shardsOf(t, x, "new"))
			}
		})
	}
}

func TestIndexIsMadeAnewBesideADamagedRebuild(t *testing.T) {
	dir := t.TempDir()
	require.NoError(t, openInverted(t, dir, FSInvertedOptions{}).Close())
	interruptRebuild(t, dir, changedIndices(t, "old"))
	damage(t, dir)
	x := openInverted(t, dir, FSInvertedOptions{Anew: true})
	addNames(t, x, "b", "1")
	require.Equal(t, "[b]", shardsOf(t, x, "1"))
	require.Len(t, folders(t, dir), 1)
}

func TestPassingErrorDoesNotPutAnEmptyIndexInPlaceOfAWholeOne(t *testing.T) {
	dir := t.TempDir()
	repo := changedIndices(t, "1")
	require.NoError(t, RebuildFSInverted(t.Context(), dir, repo, nil))
	require.ErrorIs(t, RebuildFSInverted(t.Context(), dir, tiredRepo{repo}, nil), syscall.EMFILE)
	require.Equal(t, "[k]", shardsOf(t, openInverted(t, dir, FSInvertedOptions{}), "1"))
}

// A tiredRepo has no file descriptors.
type tiredRepo struct{ FullIndexRepo }

func (tiredRepo) GetFullIndex(shard.Key) (carindex.Index, error) { return nil, syscall.EMFILE }

func TestDamagedIndexIsNotChangedAndNotOpenedAgain(t *testing.T) {
	dir := t.TempDir()
	x := openInverted(t, dir, FSInvertedOptions{})
	var many []string
	for i := range 9000 {
		many = append(many, strings.Repeat("x", i%7)+string(rune(i+1000)))
	}
	addNames(t, x, "many", many...)
	addNames(t, x, "a", "1")
	require.NoError(t, x.Close())
	layers, err := filepath.Glob(filepath.Join(dir, "*", "layer-*"))
	require.NoError(t, err)
	require.Len(t, layers, 1)
	b, err := os.ReadFile(layers[0])
	require.NoError(t, err)
	for at := 100; at < 9000*20; at += 4096 {
		b[at] ^= 1
	}
	require.NoError(t, os.WriteFile(layers[0], b, 0o600))

	x = openInverted(t, dir, FSInvertedOptions{})
	require.Equal(t, "[a]", shardsOf(t, x, "1"))
	_, err = x.GetShardsForMultihash(t.Context(), mhOf(t, many[0]))
	require.ErrorIs(t, err, ErrDamaged)
	require.ErrorIs(t, x.AddMultihashesForShard(t.Context(), multihashes{mhOf(t, "2")}, shard.KeyFromString("b")), ErrDamaged)
	require.ErrorIs(t, x.RemoveShard(t.Context(), shard.KeyFromString("a"), nil), ErrDamaged)
	require.Equal(t, "[a]", shardsOf(t, x, "1"), "what can be read is read")
	require.NoError(t, x.Close())
	_, err = OpenFSInverted(t.Context(), dir, FSInvertedOptions{})
	require.ErrorIs(t, err, ErrDamaged)
	require.Equal(t, "[]", shardsOf(t, openInverted(t, dir, FSInvertedOptions{Anew: true}), "1"))
	require.Len(t, folders(t, dir), 1)
}

// An iterator can have an error of its own that is ErrDamaged.
func TestDamageOfWhatIsAddedIsNotDamageOfTheIndex(t *testing.T) {
	dir := t.TempDir()
	x := openInverted(t, dir, FSInvertedOptions{})
	require.ErrorIs(t, x.AddMultihashesForShard(t.Context(), damagedMultihashes{}, shard.KeyFromString("a")), ErrDamaged)
	addNames(t, x, "b", "1")
	require.NoError(t, x.Close())
	require.Equal(t, "[b]", shardsOf(t, openInverted(t, dir, FSInvertedOptions{}), "1"))
}

type damagedMultihashes struct{}

func (damagedMultihashes) ForEach(func(multihash.Multihash) error) error { return ErrDamaged }

func TestClosedIndexLeavesTheFolderToTheNextWriter(t *testing.T) {
	dir := t.TempDir()
	for _, x := range []*FSInverted{openInverted(t, dir, FSInvertedOptions{}), NewMemoryInverted()} {
		require.NoError(t, x.Close())
		y := openInverted(t, dir, FSInvertedOptions{})
		addNames(t, y, "a", "1")
		require.ErrorIs(t, x.Reset(t.Context()), fs.ErrClosed)
		require.ErrorIs(t, x.SetComplete(false), fs.ErrClosed)
		addNames(t, y, "b", "1")
		require.NoError(t, y.Close())
		y = openInverted(t, dir, FSInvertedOptions{})
		require.Equal(t, "[a b]", shardsOf(t, y, "1"))
		require.NoError(t, y.Close())
	}
}

func TestReadersAreToldThatAnIndexIsBeingFilled(t *testing.T) {
	dir := t.TempDir()
	writer := openInverted(t, dir, FSInvertedOptions{})
	addNames(t, writer, "a", "1")
	reader := openInverted(t, dir, FSInvertedOptions{ReadOnly: true})
	require.Equal(t, "[a]", shardsOf(t, reader, "1"))
	require.NoError(t, writer.Reset(t.Context()))
	addNames(t, writer, "b", "2")
	isIncomplete := func() bool {
		_, err := reader.GetShardsForMultihash(t.Context(), mhOf(t, "2"))
		return errors.Is(err, ErrIncomplete)
	}
	require.Eventually(t, isIncomplete, 10e9, 1e6)
	require.True(t, isIncomplete())
	require.Equal(t, "[b]", shardsOf(t, writer, "2"), "who fills it knows")
	require.NoError(t, writer.Close())
	writer = openInverted(t, dir, FSInvertedOptions{})
	require.True(t, isIncomplete(), "also after a restart")
	require.NoError(t, writer.SetComplete(true))
	require.Eventually(t, func() bool { return !isIncomplete() }, 10e9, 1e6)
	require.Equal(t, "[b]", shardsOf(t, reader, "2"))
}

func TestReaderThatCouldNotFollowOnceFollowsTheNextTime(t *testing.T) {
	dir := t.TempDir()
	writer := openInverted(t, dir, FSInvertedOptions{})
	var tired atomic.Bool
	inj := fault.From(0).Match(func(op fault.Op) bool { return tired.Load() && op.Kind == fault.Open }).WithError(syscall.EMFILE)
	reader, err := openFSInverted(t.Context(), fault.FS(files.OS, inj), dir, FSInvertedOptions{ReadOnly: true})
	require.NoError(t, err)
	defer reader.Close()
	before := reader.engine.Load()
	require.NoError(t, writer.Reset(t.Context()))
	addNames(t, writer, "a", "1")
	require.NoError(t, writer.SetComplete(true))
	tired.Store(true)
	require.Eventually(t, func() bool {
		_, err := reader.GetShardsForMultihash(t.Context(), mhOf(t, "1"))
		return errors.Is(err, syscall.EMFILE)
	}, 10e9, 1e6)
	tired.Store(false)
	require.Equal(t, "[a]", shardsOf(t, reader, "1"))
	_, err = before.Lookup(mhOf(t, "1"))
	require.ErrorIs(t, err, fs.ErrClosed, "it was let go of")
}

func TestOnlyFilesOfItsOwnFolderAreSwept(t *testing.T) {
	base := t.TempDir()
	dir, other := filepath.Join(base, "[abc]"), filepath.Join(base, "a")
	require.NoError(t, os.MkdirAll(other, 0o700))
	precious := filepath.Join(other, files.TempPrefix+"precious")
	require.NoError(t, os.WriteFile(precious, nil, 0o600))
	require.NoError(t, openInverted(t, dir, FSInvertedOptions{}).Close())
	left := filepath.Join(dir, files.TempPrefix+"left")
	require.NoError(t, os.WriteFile(left, nil, 0o600))
	require.NoError(t, openInverted(t, dir, FSInvertedOptions{}).Close())
	require.FileExists(t, precious)
	require.NoFileExists(t, left)
}
