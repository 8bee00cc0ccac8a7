package index

import (
	"context"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/filecoin-project/dagstore/internal/fault"
	"github.com/filecoin-project/dagstore/internal/files"
	"github.com/filecoin-project/dagstore/shard"
)

// A folderStory is what is done to a folder: two shards with an emptying between
// them, and then a rebuild. Done is how far it got.
type folderStory struct {
	fsys    files.FS
	dir     string
	repo    FullIndexRepo
	first   multihashes
	second  multihashes
	done    int
	resets  int // that were tried
	rebuilt bool
}

const (
	nothingDone = iota
	opened
	firstAdded
	emptied
	secondAdded
	rebuilt
)

func (s *folderStory) run(ctx context.Context) error {
	x, err := openFSInverted(ctx, s.fsys, s.dir, FSInvertedOptions{})
	if err != nil {
		return err
	}
	s.done = opened
	if err := s.change(ctx, x); err != nil {
		_ = x.Close()
		return err
	}
	if err := x.Close(); err != nil {
		return err
	}
	s.rebuilt = true
	if err := rebuildFSInverted(ctx, generations{s.fsys, s.dir}, s.repo, nil); err != nil {
		return err
	}
	s.done = rebuilt
	return nil
}

func (s *folderStory) change(ctx context.Context, x *FSInverted) error {
	if err := x.AddMultihashesForShard(ctx, s.first, shard.KeyFromString("first")); err != nil {
		return err
	}
	s.done = firstAdded
	s.resets++
	if err := x.Reset(ctx); err != nil {
		return err
	}
	s.done = emptied
	if err := x.AddMultihashesForShard(ctx, s.second, shard.KeyFromString("second")); err != nil {
		return err
	}
	s.done = secondAdded
	return x.SetComplete(true)
}

// check requires that what was acknowledged is there, and nothing else: of what was
// being done all or nothing.
func (s *folderStory) check(t *testing.T) {
	t.Helper()
	x, err := OpenFSInverted(t.Context(), s.dir, FSInvertedOptions{})
	if s.done == firstAdded && s.resets > 0 { // what was to be gone may not be there
		if err != nil {
			require.ErrorIs(t, err, ErrDamaged)
		}
		x, err = reopened(t, x, s.dir)
	}
	require.NoError(t, err)
	defer x.Close()
	require.NoError(t, x.Verify(t.Context()))
	first, second, k := shardsOf(t, x, "1"), shardsOf(t, x, "2"), shardsOf(t, x, "3")
	switch s.done {
	case firstAdded:
		require.Equal(t, "[]", second)
		require.Contains(t, []string{"[first]", "[]"}, first)
		require.True(t, first == "[first]" || s.resets > 0)
	case secondAdded:
		require.Equal(t, "[]", first)
		require.True(t, second == "[second]" && k == "[]" || s.rebuilt && second == "[]" && k == "[k]", "%s %s", second, k)
	case rebuilt:
		require.Equal(t, "[] [] [k]", first+" "+second+" "+k)
	}
	require.Len(t, folders(t, s.dir), 1)
	left, err := filepath.Glob(filepath.Join(s.dir, "*", files.TempPrefix+"*"))
	require.NoError(t, err)
	require.Empty(t, left)
}

// reopened returns the index, made anew if it could not be opened.
func reopened(t *testing.T, x *FSInverted, dir string) (*FSInverted, error) {
	t.Helper()
	if x != nil {
		return x, nil
	}
	return OpenFSInverted(t.Context(), dir, FSInvertedOptions{Anew: true})
}

func TestWhatWasAcknowledgedSurvivesAnyFailureOfTheFolder(t *testing.T) {
	repo := NewMemoryRepo()
	require.NoError(t, repo.AddFullIndex(shard.KeyFromString("k"), smallIndex(t, "3")))
	for name, failing := range map[string]func(int) *fault.Injector{"one operation": fault.OnIndex, "all from one on": fault.From} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			base, failures := t.TempDir(), map[int]int{}
			for n := 0; ; n++ {
				inj := failing(n).Match(fault.Writing)
				s := folderStory{fsys: fault.FS(files.OS, inj), dir: filepath.Join(base, strconv.Itoa(n)), repo: repo, first: multihashes{mhOf(t, "1")}, second: multihashes{mhOf(t, "2")}}
				err := s.run(t.Context())
				s.check(t)
				if inj.Fired() == 0 {
					require.NoError(t, err)
					require.Equal(t, rebuilt, s.done)
					break
				}
				failures[s.done]++
			}
			for _, at := range []int{nothingDone, opened, firstAdded, emptied, secondAdded} {
				require.NotZero(t, failures[at], "%v", failures)
			}
		})
	}
}
