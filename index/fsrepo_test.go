package index

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ipfs/go-cid"
	carindex "github.com/ipld/go-car/v2/index"
	"github.com/multiformats/go-multicodec"
	"github.com/multiformats/go-multihash"
	"github.com/stretchr/testify/require"

	"github.com/filecoin-project/dagstore/internal/fault"
	"github.com/filecoin-project/dagstore/internal/files"
	"github.com/filecoin-project/dagstore/internal/keyname"
	"github.com/filecoin-project/dagstore/shard"
)

var (
	key     = shard.KeyFromString("k")
	longKey = shard.KeyFromString(strings.Repeat("long/", 100))
)

func mhOf(t testing.TB, data string) multihash.Multihash {
	mh, err := multihash.Sum([]byte(data), multihash.SHA2_256, -1)
	require.NoError(t, err)
	return mh
}

func indexOf(t testing.TB, format multicodec.Code, names ...string) carindex.Index {
	idx, err := carindex.New(format)
	require.NoError(t, err)
	var recs []carindex.Record
	for i, n := range names {
		recs = append(recs, carindex.Record{Cid: cid.NewCidV1(cid.Raw, mhOf(t, n)), Offset: uint64(59 + 100*i)})
	}
	require.NoError(t, idx.Load(recs))
	return idx
}

func smallIndex(t testing.TB, names ...string) carindex.Index {
	return indexOf(t, multicodec.CarMultihashIndexSorted, names...)
}

func bytesOf(t testing.TB, idx carindex.Index) []byte {
	var b bytes.Buffer
	_, err := carindex.WriteTo(idx, &b)
	require.NoError(t, err)
	return b.Bytes()
}

func newFS(t testing.TB) (*FSIndexRepo, string) {
	dir := t.TempDir()
	r, err := NewFSRepo(dir)
	require.NoError(t, err)
	return r, dir
}

func names(t testing.TB, dir string) []string {
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	var out []string
	for _, e := range entries {
		out = append(out, e.Name())
	}
	return out
}

func TestFilesAreThoseOfV07(t *testing.T) {
	r, dir := newFS(t)
	for _, format := range []multicodec.Code{multicodec.CarIndexSorted, multicodec.CarMultihashIndexSorted} {
		idx := indexOf(t, format, "a", "b", "c")
		require.NoError(t, r.AddFullIndex(key, idx))
		b, err := os.ReadFile(filepath.Join(dir, "k.full.idx"))
		require.NoError(t, err)
		want := append(bytesOf(t, idx), b[len(b)-trailerEnd:]...)
		require.Equal(t, want, b, "what follows the index is a trailer, which go-car does not read")
		got, err := r.GetFullIndex(key)
		require.NoError(t, err)
		require.Equal(t, format, got.Codec())
	}
	version, err := os.ReadFile(filepath.Join(dir, ".version"))
	require.NoError(t, err)
	require.Equal(t, "1", string(version))
	require.Equal(t, []string{".version", "k.full.idx"}, names(t, dir))
}

func TestGoCarReadsTheIndexOfALongKey(t *testing.T) {
	r, dir := newFS(t)
	idx := smallIndex(t, "a", "b")
	require.NoError(t, r.AddFullIndex(longKey, idx))
	b, err := os.ReadFile(filepath.Join(dir, keyname.File(longKey.String())+".full.idx"))
	require.NoError(t, err)
	want := append(append(bytesOf(t, idx), longKey.String()...), "\xf4\x01\x00\x00"...)
	want = binary.LittleEndian.AppendUint32(want, crc32.Checksum(want, crc32.MakeTable(crc32.Castagnoli)))
	require.Equal(t, append(want, "dagsidx1"...), b)
	got, err := carindex.ReadFrom(bytes.NewReader(b))
	require.NoError(t, err)
	require.Equal(t, bytesOf(t, idx), bytesOf(t, got))
}

func TestRefusesAFolderOfAnotherVersionAndTouchesNothing(t *testing.T) {
	for _, version := range []string{"2", "", strings.Repeat("1", 1000)} {
		dir := t.TempDir()
		require.NoError(t, os.WriteFile(filepath.Join(dir, ".version"), []byte(version), 0o600))
		require.NoError(t, os.WriteFile(filepath.Join(dir, files.TempPrefix+"x"), nil, 0o600))
		_, err := NewFSRepo(dir)
		require.ErrorContains(t, err, ".version")
		require.Equal(t, []string{".tmp-x", ".version"}, names(t, dir))
	}
}

func TestOpeningRemovesWhatACrashLeftAndNothingElse(t *testing.T) {
	r, dir := newFS(t)
	require.NoError(t, r.AddFullIndex(key, smallIndex(t, "a")))
	foreign := []string{"README", "%zz.full.idx", "%sha256-" + strings.Repeat("0", 64) + ".full.idx", "x.partial", ".tmp-k.full.idx"}
	for _, n := range append(foreign, ".tmp-1") {
		require.NoError(t, os.WriteFile(filepath.Join(dir, n), []byte("foreign, and longer than a trailer"), 0o600))
	}
	require.NoError(t, os.Mkdir(filepath.Join(dir, "folder.full.idx"), 0o700))
	require.NoError(t, os.Mkdir(filepath.Join(dir, ".tmp-folder"), 0o700))
	require.NoError(t, os.Symlink("nowhere", filepath.Join(dir, "link.full.idx")))

	r, err := NewFSRepo(dir)
	require.NoError(t, err)
	require.ElementsMatch(t, append(foreign, "folder.full.idx", ".tmp-folder", "link.full.idx", ".version", "k.full.idx"), names(t, dir))
	var keys []string
	require.NoError(t, r.ForEach(func(k shard.Key) (bool, error) {
		keys = append(keys, k.String())
		return true, nil
	}))
	require.ElementsMatch(t, []string{"k", ".tmp-k"}, keys) // the latter is a name of v0.7
	st, err := r.StatFullIndex(shard.KeyFromString("folder"))
	require.NoError(t, err)
	require.False(t, st.Exists)
}

// Defect 22n: a folder that has vanished ended the process.
func TestVanishedFolderIsAnError(t *testing.T) {
	r, dir := newFS(t)
	require.NoError(t, os.RemoveAll(dir))
	manifest := ManifestKey{Shard: key}
	_, errLen := r.Len()
	_, errSize := r.Size()
	_, errStat := r.StatFullIndex(key)
	_, errGet := r.GetFullIndex(key)
	_, errDrop := r.DropFullIndex(key)
	_, errList := r.ListManifests(key)
	_, errManifest := r.GetManifest(manifest)
	_, errDropOne := r.DropManifest(manifest)
	_, errDropAll := r.DropManifests(key)
	errEach := r.ForEach(func(shard.Key) (bool, error) { return true, nil })
	errAdd := r.AddFullIndex(key, smallIndex(t, "a"))
	errAddManifest := r.AddManifest(Manifest{Key: manifest})
	for i, err := range []error{
		errLen, errSize, errStat, errGet, errDrop, errList, errManifest, errDropOne, errDropAll,
		errEach, errAdd, errAddManifest,
	} {
		require.Error(t, err, "call %d", i)
		require.NotErrorIs(t, err, ErrNotFound, "call %d", i)
	}
}

// Defects 10 and 10b: a torn or corrupt file must be seen as such.
func TestDamagedIndexIsIndexedAnewNotServed(t *testing.T) {
	for _, k := range []shard.Key{key, longKey} {
		r, _ := newFS(t)
		idx := smallIndex(t, "a", "b", "c")
		require.NoError(t, r.AddFullIndex(k, idx))
		path := r.path(k)
		whole, err := os.ReadFile(path)
		require.NoError(t, err)
		damaged := func(b []byte, what string, i int) {
			require.NoError(t, os.WriteFile(path, b, 0o600))
			_, err := r.GetFullIndex(k)
			require.ErrorIs(t, err, ErrDamaged, "%s %d of %d", what, i, len(whole))
			require.NotErrorIs(t, err, ErrNotFound)
		}
		for n := range whole {
			if n != len(bytesOf(t, idx)) || k != key { // there ends a file of v0.7
				damaged(whole[:n], "cut at", n)
			}
			if n < len(bytesOf(t, idx))-8 { // all but a part of the last offset
				damaged(append(bytes.Clone(whole[:n]), make([]byte, len(whole)-n)...), "zeros from", n)
			}
		}
		damaged(append(bytes.Clone(whole), 0), "longer", 1)
		require.NoError(t, r.AddFullIndex(k, idx))
		got, err := r.GetFullIndex(k)
		require.NoError(t, err)
		require.Equal(t, bytesOf(t, idx), bytesOf(t, got))
	}
}

// A badIndex fails or panics while it is written.
type badIndex struct {
	carindex.Index
	codec multicodec.Code
	err   error
}

func (b badIndex) Codec() multicodec.Code { return b.codec }

func (b badIndex) Marshal(w io.Writer) (uint64, error) {
	_, _ = w.Write(make([]byte, 1<<17))
	if b.err == nil {
		panic("bad index")
	}
	return 0, b.err
}

func TestIndexThatPanicsOrFailsLeavesTheOldOne(t *testing.T) {
	r, dir := newFS(t)
	mem := NewMemoryRepo()
	for _, repo := range []Repo{r, mem} {
		idx := smallIndex(t, "a")
		require.NoError(t, repo.AddFullIndex(key, idx))
		for _, bad := range []carindex.Index{
			nil,
			badIndex{codec: multicodec.CarIndexSorted},
			badIndex{codec: multicodec.CarIndexSorted, err: io.ErrClosedPipe},
		} {
			require.Error(t, repo.AddFullIndex(key, bad))
		}
		got, err := repo.GetFullIndex(key)
		require.NoError(t, err)
		require.Equal(t, bytesOf(t, idx), bytesOf(t, got))
	}
	require.ErrorContains(t, r.AddFullIndex(key, badIndex{codec: multicodec.Raw}), "raw")
	require.Equal(t, []string{".version", "k.full.idx"}, names(t, dir))
}

// Defect 10: a crash while an index is written.
func TestFailedWriteLosesNoIndexAndLeavesNoTornOne(t *testing.T) {
	oldIndex, newIndex := smallIndex(t, "old"), smallIndex(t, "new", "newer")
	for n, fired := 0, true; fired; n++ {
		for _, inj := range []*fault.Injector{fault.OnIndex(n).Match(fault.Writing), fault.From(n).Match(fault.Writing), fault.OnIndex(n).Match(fault.Writing).Short()} {
			r, dir := newFS(t)
			require.NoError(t, r.AddFullIndex(longKey, oldIndex))
			faulty, err := openFSRepo(fault.FS(files.OS, inj), dir)
			if err == nil {
				err = faulty.AddFullIndex(longKey, newIndex)
				require.Equal(t, inj.Fired() > 0, err != nil, "operation %d", n)
			}
			r, openErr := NewFSRepo(dir)
			require.NoError(t, openErr)
			got, getErr := r.GetFullIndex(longKey)
			require.NoError(t, getErr)
			if err == nil || !bytes.Equal(bytesOf(t, oldIndex), bytesOf(t, got)) {
				require.Equal(t, bytesOf(t, newIndex), bytesOf(t, got), "operation %d", n)
			}
			require.Len(t, names(t, dir), 2)
			require.NoError(t, r.AddFullIndex(longKey, newIndex))
			fired = inj.Fired() > 0
		}
		require.Less(t, n, 100)
	}
}

func TestEveryFailureOfTheFolderIsAnErrorAndCanBeRetried(t *testing.T) {
	manifest := Manifest{Key: ManifestKey{Shard: longKey, Name: longKey.String()}, Multihashes: []multihash.Multihash{mhOf(t, "a")}}
	work := func(r *FSIndexRepo) error {
		idx := smallIndex(t, "a")
		errs := []error{r.AddFullIndex(longKey, idx), r.AddManifest(manifest)}
		_, err := r.GetFullIndex(longKey)
		_, errStat := r.StatFullIndex(longKey)
		_, errSize := r.Size()
		_, errManifest := r.GetManifest(manifest.Key)
		_, errList := r.ListManifests(longKey)
		_, errDrop := r.DropFullIndex(longKey)
		_, errDrops := r.DropManifests(longKey)
		return errors.Join(append(errs, err, errStat, errSize, errManifest, errList, errDrop, errDrops)...)
	}
	for n, fired := 0, true; fired; n++ {
		dir := t.TempDir()
		inj := fault.OnIndex(n)
		r, err := openFSRepo(fault.FS(files.OS, inj), dir)
		if err == nil {
			err = work(r)
		}
		fired = inj.Fired() > 0
		if !fired {
			require.NoError(t, err)
		}
		r, err = NewFSRepo(dir)
		require.NoError(t, err, fmt.Sprint("operation ", n))
		require.NoError(t, work(r), fmt.Sprint("operation ", n))
		require.Equal(t, []string{".version"}, names(t, dir))
	}
}

func TestDamagedManifestIsAnError(t *testing.T) {
	r, dir := newFS(t)
	good := Manifest{Key: ManifestKey{Shard: key, Name: "a.b"}, Multihashes: []multihash.Multihash{mhOf(t, "a")}}
	require.NoError(t, r.AddManifest(good))
	path := filepath.Join(dir, "k.a%2Eb.manifest")
	whole, err := os.ReadFile(path)
	require.NoError(t, err)
	for _, bad := range []string{
		"", "{", "null", string(whole[:len(whole)-1]), string(whole) + "}",
		strings.Replace(string(whole), `"version":1`, `"version":2`, 1),
		strings.Replace(string(whole), `"shard":"aw=="`, `"shard":"bA=="`, 1),
		strings.Replace(string(whole), `"EiD`, `"EiH`, 1),
	} {
		require.NotEqual(t, string(whole), bad)
		require.NoError(t, os.WriteFile(path, []byte(bad), 0o600))
		_, err := r.GetManifest(good.Key)
		require.ErrorIs(t, err, ErrDamaged, bad)
	}
	for _, n := range []string{"k.%zz", "k.%sha256-00", "k.a%2eb", "k.n.n"} {
		require.NoError(t, os.WriteFile(filepath.Join(dir, n+".manifest"), []byte("foreign"), 0o600))
	}
	keys, err := r.ListManifests(key)
	require.NoError(t, err)
	require.Equal(t, []ManifestKey{good.Key}, keys)
	require.NoError(t, r.AddManifest(good))
	_, err = r.GetManifest(good.Key)
	require.NoError(t, err)
}

func TestIndexThatPointsAtTheHeaderIsRefused(t *testing.T) {
	r, _ := newFS(t)
	idx, err := carindex.New(multicodec.CarMultihashIndexSorted)
	require.NoError(t, err)
	require.NoError(t, idx.Load([]carindex.Record{{Cid: cid.NewCidV1(cid.Raw, mhOf(t, "a"))}}))
	require.ErrorContains(t, r.AddFullIndex(key, idx), "offset 0")
}
