package mount_test

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"

	"github.com/filecoin-project/dagstore/internal/fault"
	"github.com/filecoin-project/dagstore/internal/files"
	"github.com/filecoin-project/dagstore/mount"
)

const complete = "transient-key.complete"

// write makes a file.
func write(t *testing.T, path string, content []byte) {
	t.Helper()
	require.NoError(t, os.WriteFile(path, content, 0o600))
}

func TestTransientSurvivesARestart(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, complete)
	first := upgraded(t, &remote{content: content}, dir)
	require.Empty(t, first.TransientPath())
	require.Equal(t, content, fetched(t, first))
	require.Equal(t, path, first.TransientPath())
	require.Equal(t, []string{complete}, names(t, dir))
	require.Equal(t, mount.Info{AccessSequential: true, AccessSeek: true, AccessRandom: true}, first.Info())

	for _, initial := range []string{"", path} {
		m := &remote{content: content}
		again, err := mount.Upgrade(m, nil, dir, "key", initial)
		require.NoError(t, err)
		require.Equal(t, path, again.TransientPath())
		st, err := again.Stat(t.Context())
		require.NoError(t, err)
		require.Equal(t, mount.Stat{Exists: true, Size: int64(len(content)), Ready: true}, st)
		require.NoError(t, again.Prepare(t.Context()))
		require.Equal(t, content, fetched(t, again))
		require.Zero(t, again.TimesFetched())
		require.Zero(t, m.fetched.Load())
	}
}

func TestPartialTransientIsNeverTrusted(t *testing.T) {
	dir := t.TempDir()
	write(t, filepath.Join(dir, "transient-key.partial"), content)
	u := upgraded(t, &remote{content: content}, dir)
	require.Empty(t, u.TransientPath())
	require.Equal(t, content, fetched(t, u))
	require.Equal(t, 1, u.TimesFetched())
	require.Equal(t, []string{complete}, names(t, dir))
}

// Defect 22r: a truncated transient was served.
func TestTransientOfTheWrongSizeIsFetchedAnew(t *testing.T) {
	dir := t.TempDir()
	for _, wrong := range [][]byte{nil, content[1:], append([]byte("x"), content...)} {
		write(t, filepath.Join(dir, complete), wrong)
		u := upgraded(t, &remote{content: content}, dir)
		require.Equal(t, content, fetched(t, u))
		require.Equal(t, 1, u.TimesFetched())
	}
}

func TestTransientIsTrustedWhenTheSourceCannotTellItsSize(t *testing.T) {
	for _, stat := range []func(context.Context) (mount.Stat, error){
		func(context.Context) (mount.Stat, error) { return mount.Stat{}, errors.New("the network is down") },
		func(context.Context) (mount.Stat, error) { return mount.Stat{}, nil },
		func(context.Context) (mount.Stat, error) { return mount.Stat{Exists: true}, nil },
		func(context.Context) (mount.Stat, error) { panic("boom") },
	} {
		dir := t.TempDir()
		write(t, filepath.Join(dir, complete), content)
		u := upgraded(t, &remote{stat: stat}, dir)
		require.Equal(t, content, fetched(t, u))
		require.Zero(t, u.TimesFetched())
	}
}

func TestCancelledSizeCheckTrustsNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		write(t, filepath.Join(dir, complete), content[1:])
		m := &remote{content: content, stat: func(ctx context.Context) (mount.Stat, error) {
			<-ctx.Done()
			return mount.Stat{}, ctx.Err()
		}}
		u := upgraded(t, m, dir)
		ctx, cancel := context.WithCancel(t.Context())
		out := outcome(ctx, u)
		synctest.Wait()
		cancel()
		require.ErrorIs(t, <-out, context.Canceled)
		m.stat = nil
		require.Equal(t, content, fetched(t, u))
	})
}

// Defect 3: GC, recovery, and any failing stat deleted the user's file.
func TestFileOfTheUserIsReadAndNeverDeleted(t *testing.T) {
	dir := t.TempDir()
	for name, path := range map[string]string{
		"elsewhere":                    filepath.Join(t.TempDir(), "a.car"),
		"elsewhere, named as ours":     filepath.Join(t.TempDir(), complete),
		"in the folder, named by user": filepath.Join(dir, "a.car"),
	} {
		t.Run(name, func(t *testing.T) {
			write(t, path, content)
			m := &remote{content: []byte("its size differs, as that of a padded piece does")}
			u, err := mount.Upgrade(m, nil, dir, "key", path)
			require.NoError(t, err)
			require.Equal(t, path, u.TransientPath())
			require.Equal(t, content, fetched(t, u))
			remove, err := u.RetireTransient()
			require.NoError(t, err)
			require.Nil(t, remove)
			require.Equal(t, path, u.TransientPath())
			require.Equal(t, content, fetched(t, u))
			require.Zero(t, m.fetched.Load())

			require.NoError(t, u.DeleteTransient())
			require.Empty(t, u.TransientPath(), "a deleted copy is not used any more")
			require.Equal(t, m.content, fetched(t, u))
			require.NoError(t, u.DeleteTransient())
			require.FileExists(t, path)
		})
	}
}

func TestMissingFileOfTheUserIsAsNone(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(t.TempDir(), "a.car")
	u, err := mount.Upgrade(&remote{content: content}, nil, dir, "key", path)
	require.NoError(t, err)
	require.Empty(t, u.TransientPath())
	require.Equal(t, content, fetched(t, u))
	require.Equal(t, filepath.Join(dir, complete), u.TransientPath())

	write(t, path, []byte("put back"))
	require.NoError(t, u.DeleteTransient())
	require.Equal(t, "put back", string(fetched(t, u)))
	require.NoError(t, os.Remove(path))
	require.Equal(t, content, fetched(t, u))
	require.NoError(t, u.DeleteTransient())
	require.Empty(t, names(t, dir))
}

// Defect 18: with a folder given once relative, then absolute, a shard's own
// transient was taken for somebody else's.
func TestOwnTransientIsRecognizedByWhateverPath(t *testing.T) {
	dir := t.TempDir()
	link := filepath.Join(t.TempDir(), "link")
	require.NoError(t, os.Symlink(dir, link))
	t.Chdir(filepath.Dir(dir))
	relative := filepath.Base(dir)
	for _, rootdir := range []string{dir, link, relative, "./" + relative + "/"} {
		for _, initial := range []string{dir, link, relative, dir + "/../" + relative} {
			path := filepath.Join(dir, complete)
			write(t, path, content)
			u, err := mount.Upgrade(&remote{content: content}, nil, rootdir, "key", initial+"/"+complete)
			require.NoError(t, err)
			require.Equal(t, content, fetched(t, u))
			require.Zero(t, u.TimesFetched())
			require.True(t, filepath.IsAbs(u.TransientPath()))
			require.NoError(t, u.DeleteTransient())
			require.NoFileExists(t, path)
		}
	}
}

func TestFilesThatAreInTheWayAreLeftAlone(t *testing.T) {
	dir := t.TempDir()
	require.NoError(t, os.MkdirAll(filepath.Join(dir, complete, "sub"), 0o700))
	_, err := upgraded(t, &remote{content: content}, dir).Fetch(t.Context())
	require.ErrorContains(t, err, "not a regular file")
	u, err := mount.Upgrade(&remote{content: content}, nil, t.TempDir(), "key", dir)
	require.NoError(t, err)
	_, err = u.Fetch(t.Context())
	require.ErrorContains(t, err, "not a regular file")
	require.DirExists(t, filepath.Join(dir, complete, "sub"))
}

// Defect 3: a file whose stat failed was removed.
func TestFailingStatDeletesNothing(t *testing.T) {
	dir, other := t.TempDir(), filepath.Join(t.TempDir(), "a.car")
	write(t, filepath.Join(dir, complete), content)
	write(t, other, content)
	for _, initial := range []string{"", other} {
		inj := fault.Always().Match(fault.Is(fault.Stat))
		u, err := mount.UpgradeOn(fault.FS(files.OS, inj), &remote{content: content}, nil, dir, "key", initial)
		require.NoError(t, err)
		_, err = u.Fetch(t.Context())
		require.ErrorIs(t, err, fault.ErrInjected)
		require.Empty(t, u.TransientPath())
		require.Positive(t, inj.Fired())
		require.Equal(t, []string{complete}, names(t, dir))
		require.FileExists(t, other)
	}
}

// A link under our name must not lead us to overwrite what it points to.
func TestLinksAreNotFollowedWhenWriting(t *testing.T) {
	dir, victim := t.TempDir(), filepath.Join(t.TempDir(), "wallet.key")
	write(t, victim, []byte("secret"))
	require.NoError(t, os.Symlink(victim, filepath.Join(dir, "transient-key.partial")))
	u := upgraded(t, &remote{content: content}, dir)
	require.Equal(t, content, fetched(t, u))
	require.NoError(t, u.DeleteTransient())

	require.NoError(t, os.Symlink(victim, filepath.Join(dir, complete)))
	u = upgraded(t, &remote{content: content}, dir)
	require.Equal(t, content, fetched(t, u), "the size differs")
	got, err := os.ReadFile(victim)
	require.NoError(t, err)
	require.Equal(t, "secret", string(got))
}

func TestTransientThatOthersRemovedIsFetchedAnew(t *testing.T) {
	dir := t.TempDir()
	u := upgraded(t, &remote{content: content}, dir)
	for i := range 3 {
		require.Equal(t, content, fetched(t, u))
		require.Equal(t, i+1, u.TimesFetched())
		require.NoError(t, os.RemoveAll(dir), "the folder too")
		st, err := u.Stat(t.Context())
		require.NoError(t, err)
		require.Equal(t, int64(len(content)), st.Size)
		require.NoError(t, u.DeleteTransient())
	}
}

func TestTransientThatIsRemovedAgainAndAgainIsAnError(t *testing.T) {
	dir := t.TempDir()
	inj := fault.Always().Match(fault.Is(fault.Open)).WithError(os.ErrNotExist)
	u, err := mount.UpgradeOn(fault.FS(files.OS, inj), &remote{content: content}, nil, dir, "key", "")
	require.NoError(t, err)
	_, err = u.Fetch(t.Context())
	require.ErrorContains(t, err, "again and again")
}

func TestRetiredTransientIsOutOfUseAtOnce(t *testing.T) {
	dir := t.TempDir()
	for _, key := range []string{"key", strings.Repeat("é", 117) + "x", strings.Repeat("k", 236), strings.Repeat("k", 300)} {
		u, err := mount.Upgrade(&remote{content: content}, nil, dir, key, "")
		require.NoError(t, err)
		require.NoError(t, u.Prepare(t.Context()))
		r, err := u.Fetch(t.Context())
		require.NoError(t, err)

		remove, err := u.RetireTransient()
		require.NoError(t, err)
		require.Empty(t, u.TransientPath())
		require.Len(t, names(t, dir), 1)
		require.Contains(t, names(t, dir)[0], ".retired-")
		require.NoError(t, remove())
		require.NoError(t, remove(), "it is gone")
		require.Empty(t, names(t, dir))

		got, err := io.ReadAll(r)
		require.NoError(t, err)
		require.Equal(t, content, got, "open readers go on")
		require.NoError(t, r.Close())
		remove, err = u.RetireTransient()
		require.NoError(t, err)
		require.Nil(t, remove)

		require.Equal(t, content, fetched(t, u))
		require.Equal(t, 2, u.TimesFetched())
		require.NoError(t, u.DeleteTransient())
	}
}

func TestTransientIsNotRetiredWhileItIsFetched(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		source := newBlocked()
		u := upgraded(t, &remote{fetch: func(context.Context) (mount.Reader, error) { return source, nil }}, t.TempDir())
		out := outcome(t.Context(), u)
		synctest.Wait()
		_, err := u.RetireTransient()
		require.ErrorIs(t, err, mount.ErrFetching)
		require.Error(t, u.DeleteTransient())
		close(source.release)
		require.NoError(t, <-out)
	})
}

// A store that has listed its folder does not look up each of 100,000 files.
func TestKnownTransientsAreNotLookedUp(t *testing.T) {
	dir := t.TempDir()
	inj := fault.Never()
	upgrade := func() *mount.Upgrader {
		u, err := mount.UpgradeOn(fault.FS(files.OS, inj), &remote{content: content}, nil, dir, "key", filepath.Join(dir, complete))
		require.NoError(t, err)
		return u
	}
	u := upgrade()
	u.AssumeTransient(false)
	u.AssumeTransient(true)
	require.Empty(t, u.TransientPath())
	require.NoError(t, u.DeleteTransient())
	require.Zero(t, inj.Count())
	require.Equal(t, content, fetched(t, u), "an assumption is not believed when it matters")

	u = upgrade()
	inj.Reset()
	u.AssumeTransient(true)
	require.Equal(t, filepath.Join(dir, complete), u.TransientPath())
	require.Zero(t, inj.Count())
	require.Equal(t, content, fetched(t, u))
	require.NoError(t, u.DeleteTransient())
	require.Empty(t, names(t, dir))

	u = upgrade()
	inj.Reset()
	require.Empty(t, u.TransientPath())
	require.Empty(t, u.TransientPath())
	require.Equal(t, 1, inj.Count(), "looked up once")
}

// Defect 11: keys wrote outside the folder, or failed.
func TestHostileKeysStayInTheFolder(t *testing.T) {
	parent := t.TempDir()
	dir := filepath.Join(parent, "transients")
	for i, key := range []string{"", ".", "..", "a/b", "/abs", "../evil", "ok/../../../esc", "a\x00b", "\xff", strings.Repeat("k", 1000), strings.Repeat("/", 236)} {
		u, err := mount.Upgrade(&remote{content: content}, nil, dir, key, "")
		require.NoError(t, err)
		require.Equal(t, content, fetched(t, u), "%q", key)
		name, partial := mount.TransientNames(key)
		require.Equal(t, filepath.Join(dir, name), u.TransientPath())
		require.Less(t, len(partial), 256)
		require.Len(t, names(t, dir), i+1)
	}
	require.Equal(t, []string{"transients"}, names(t, parent))
}

// Defects, last paragraph: with no folder, files went to the working folder.
func TestFolderDefaultsToThatOfTheSystem(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("TMPDIR", dir)
	u := upgraded(t, &remote{content: content}, "")
	require.Equal(t, content, fetched(t, u))
	require.Equal(t, filepath.Join(dir, complete), u.TransientPath())
}

func TestCapableMountsArePassedThrough(t *testing.T) {
	dir := t.TempDir()
	info := mount.Info{Kind: mount.KindRemote, AccessSequential: true, AccessSeek: true, AccessRandom: true}
	m := &remote{content: content, info: func() mount.Info { return info }}
	u := upgraded(t, m, dir)
	require.Equal(t, info, u.Info())
	require.NoError(t, u.Prepare(t.Context()))
	require.Zero(t, m.fetched.Load())
	require.Equal(t, content, fetched(t, u))
	require.Equal(t, content, fetched(t, u))
	require.EqualValues(t, 2, m.fetched.Load())
	require.Zero(t, u.TimesFetched())
	require.Empty(t, u.TransientPath())
	require.NoError(t, u.DeleteTransient())
	require.Empty(t, names(t, dir))
	st, err := u.Stat(t.Context())
	require.NoError(t, err)
	require.Equal(t, int64(len(content)), st.Size)
}

func TestUpgraderIsItsMountInAllElse(t *testing.T) {
	m := &mount.FileMount{Path: "/a"}
	u := upgraded(t, m, t.TempDir())
	require.Same(t, m, u.Underlying())
	require.Equal(t, m.Serialize(), u.Serialize())
	require.NoError(t, u.Deserialize((&mount.FileMount{Path: "/b"}).Serialize()))
	require.Equal(t, "/b", m.Path)
	require.NoError(t, u.Close())
}

func TestNothingCannotBeUpgraded(t *testing.T) {
	for _, m := range []mount.Mount{nil, (*mount.FileMount)(nil)} {
		_, err := mount.Upgrade(m, nil, t.TempDir(), "key", "")
		require.ErrorContains(t, err, "nil mount")
	}
}

func BenchmarkUpgrade(b *testing.B) {
	dir, m := b.TempDir(), &remote{}
	b.ReportAllocs()
	for b.Loop() {
		u, err := mount.Upgrade(m, nil, dir, "bafkreigh2akiscaildcqabsyg3dfr6chu3fgpregiymsck7e7aqa4s52zy", "")
		if err != nil {
			b.Fatal(err)
		}
		u.AssumeTransient(false)
	}
}
