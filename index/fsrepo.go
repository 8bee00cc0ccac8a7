package index

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"
	"runtime"
	"strings"

	"github.com/ipfs/go-log/v2"
	carindex "github.com/ipld/go-car/v2/index"
	"github.com/multiformats/go-multicodec"
	"github.com/multiformats/go-multihash"

	"github.com/filecoin-project/dagstore/internal/files"
	"github.com/filecoin-project/dagstore/internal/fullindex"
	"github.com/filecoin-project/dagstore/internal/guard"
	"github.com/filecoin-project/dagstore/internal/indexbuild"
	"github.com/filecoin-project/dagstore/internal/keyname"
	"github.com/filecoin-project/dagstore/shard"
)

var logger = log.Logger("dagstore/index")

const (
	indexSuffix    = ".full.idx"
	versionFile    = ".version"
	currentVersion = "1"
)

// An FSIndexRepo is a Repo in a folder. Make it with NewFSRepo.
//
// The index of a shard is the file KEY.full.idx, as go-car's index.WriteTo
// writes it, and a checksum behind; keys that are not safe as file names are
// escaped. What is in the file is replaced as a whole and is durable when
// AddFullIndex returns. Other files in the folder are left alone.
//
// Up to 256 files that were used stay open, so that they need not be opened anew;
// the garbage collector closes them after the repo has become unreachable.
type FSIndexRepo struct {
	dir     string
	fs      files.FS
	open    *openFiles
	sorting *indexbuild.Budget
}

var _ Repo = (*FSIndexRepo)(nil)

// NewFSRepo opens the repo in a folder, which it makes if it is missing. It
// refuses a folder of another version of the format, without touching it. One
// process at a time may use a folder: what an earlier one has left unfinished is
// removed.
func NewFSRepo(baseDir string) (*FSIndexRepo, error) {
	return openFSRepo(files.OS, baseDir)
}

func openFSRepo(fsys files.FS, dir string) (*FSIndexRepo, error) {
	r := &FSIndexRepo{dir: dir, fs: fsys, open: newOpenFiles(fsys), sorting: indexbuild.NewBudget(0)}
	if err := r.prepare(); err != nil {
		return nil, fmt.Errorf("index folder: %w", err)
	}
	runtime.AddCleanup(r, (*openFiles).closeIdle, r.open)
	return r, nil
}

// prepare makes the folder, or checks its version.
func (r *FSIndexRepo) prepare() error {
	if err := r.fs.MkdirAll(r.dir, 0o755); err != nil {
		return err
	}
	path := filepath.Join(r.dir, versionFile)
	version, err := r.readVersion(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		err = files.Replace(r.fs, path, func(w io.Writer) error {
			_, err := io.WriteString(w, currentVersion)
			return err
		})
		if err != nil {
			return err
		}
	case err != nil:
		return err
	case version != currentVersion:
		return fmt.Errorf("%s holds %q, want %q: use the release of dagstore that made it, or another folder", path, version, currentVersion)
	}
	return r.sweep()
}

// sweep removes the temporary files that crashes have left. The prefix alone does
// not tell them: the index of shard ".tmp-x" has it too.
func (r *FSIndexRepo) sweep() error {
	entries, err := r.fs.ReadDir(r.dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		name := e.Name()
		if !strings.HasPrefix(name, files.TempPrefix) || strings.HasSuffix(name, indexSuffix) || !e.Type().IsRegular() {
			continue
		}
		if err := r.fs.Remove(filepath.Join(r.dir, name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

func (r *FSIndexRepo) readVersion(path string) (string, error) {
	f, err := r.fs.Open(path)
	if err != nil {
		return "", err
	}
	b, err := io.ReadAll(io.LimitReader(f, 64))
	return string(b), errors.Join(err, f.Close())
}

func (r *FSIndexRepo) path(key shard.Key) string {
	return filepath.Join(r.dir, keyname.File(key.String())+indexSuffix)
}

// Len implements FullIndexRepo.
func (r *FSIndexRepo) Len() (int, error) {
	n := 0
	err := r.each(func(shard.Key, uint64) (bool, error) {
		n++
		return true, nil
	})
	return n, err
}

// Size implements FullIndexRepo. The size of an index is that of its file.
func (r *FSIndexRepo) Size() (uint64, error) {
	var sum uint64
	err := r.each(func(_ shard.Key, size uint64) (bool, error) {
		sum += size
		return true, nil
	})
	return sum, err
}

// ForEach implements FullIndexRepo.
func (r *FSIndexRepo) ForEach(visit func(key shard.Key) (bool, error)) error {
	return r.each(func(key shard.Key, _ uint64) (bool, error) { return visit(key) })
}

// each visits the indices that are there, with the sizes of their files.
func (r *FSIndexRepo) each(visit func(shard.Key, uint64) (bool, error)) error {
	entries, err := r.fs.ReadDir(r.dir)
	if err != nil {
		return fmt.Errorf("index folder: %w", err)
	}
	for _, e := range entries {
		name, ok := strings.CutSuffix(e.Name(), indexSuffix)
		if !ok {
			continue
		}
		size, exists, err := r.size(filepath.Join(r.dir, e.Name()))
		if err != nil {
			return err
		}
		if !exists {
			continue
		}
		key, ok := r.keyOf(name, size)
		if !ok {
			continue
		}
		if more, err := visit(key, uint64(size)); err != nil || !more {
			return err
		}
	}
	return nil
}

// keyOf returns the key whose file has this name. There is none if the file is
// not one of ours.
func (r *FSIndexRepo) keyOf(name string, size int64) (shard.Key, bool) {
	var key string
	var err error
	if keyname.IsDigest(name) {
		key, err = r.trailingKey(filepath.Join(r.dir, name+indexSuffix), size)
	} else {
		key, err = keyname.Unescape(name)
	}
	if err == nil && keyname.File(key) != name {
		err = errors.New("another key's name")
	}
	if err != nil {
		logger.Warnw("file is not an index of a shard", "name", name+indexSuffix, "err", err)
		return shard.Key{}, false
	}
	return shard.KeyFromString(key), true
}

// size returns the size of a file, if there is a regular one.
func (r *FSIndexRepo) size(path string) (int64, bool, error) {
	info, err := r.stat(path)
	if err != nil || info == nil {
		return 0, false, err
	}
	return info.Size(), info.Mode().IsRegular(), nil
}

// stat returns nil for a file that is not there.
func (r *FSIndexRepo) stat(path string) (fs.FileInfo, error) {
	info, err := r.fs.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, r.folderThere()
	}
	if err != nil {
		return nil, fmt.Errorf("index file: %w", err)
	}
	return info, nil
}

// folderThere returns an error if the folder has vanished: that a file is
// missing means nothing then.
func (r *FSIndexRepo) folderThere() error {
	if _, err := r.fs.Stat(r.dir); err != nil {
		return fmt.Errorf("index folder: %w", err)
	}
	return nil
}

// StatFullIndex implements FullIndexRepo.
func (r *FSIndexRepo) StatFullIndex(key shard.Key) (Stat, error) {
	size, exists, err := r.size(r.path(key))
	if err != nil || !exists {
		return Stat{}, err
	}
	return Stat{Exists: true, Size: uint64(size)}, nil
}

// AddFullIndex implements FullIndexRepo. Of an index that tells its multihashes
// (any carindex.IterableIndex) it keeps the records, sorted, in the format 0x0401.
// Any other must be of the format 0x0400, and sorted.
func (r *FSIndexRepo) AddFullIndex(key shard.Key, index carindex.Index) error {
	return r.WriteFullIndex(key, func(w io.Writer) error {
		return guard.Call(func() error { return r.writeIndex(w, index) })
	})
}

// WriteFullIndex is AddFullIndex for the index that write writes, in the form of
// go-car's index.WriteTo, while it writes it. An error of write comes back, and
// then the old index stays.
func (r *FSIndexRepo) WriteFullIndex(key shard.Key, write func(io.Writer) error) error {
	path := r.path(key)
	err := files.Replace(r.fs, path, func(w io.Writer) error {
		b := bufio.NewWriterSize(w, 64<<10)
		s := newSumWriter(b)
		if err := write(s); err != nil {
			return err
		}
		if err := s.writeTrailer(key); err != nil {
			return err
		}
		return b.Flush()
	})
	r.open.forget(path)
	if err != nil {
		return fmt.Errorf("index of shard %q: %w", key, err)
	}
	return nil
}

func (r *FSIndexRepo) writeIndex(w io.Writer, index carindex.Index) (err error) {
	if full, ok := fullindex.Of(index); ok {
		defer runtime.KeepAlive(index) // which may hold full open
		_, err = carindex.WriteTo(full, w)
		return err
	}
	if iterable, ok := index.(carindex.IterableIndex); ok {
		return r.sortIndex(w, iterable)
	}
	if c := index.Codec(); c != multicodec.CarIndexSorted {
		return fmt.Errorf("codec %s is not one that can be read again", c)
	}
	var b bytes.Buffer
	if _, err := carindex.WriteTo(index, &b); err != nil {
		return err
	}
	full, err := fullindex.FromBytes(b.Bytes())
	if err == nil {
		err = full.Verify(context.Background())
	}
	if err != nil {
		return err
	}
	_, err = w.Write(b.Bytes()[:full.Size()])
	return err
}

// sortIndex writes the records of an index in the format 0x0401.
func (r *FSIndexRepo) sortIndex(w io.Writer, index carindex.IterableIndex) (err error) {
	x := indexbuild.New(r.fs, r.dir, r.sorting)
	defer func() { err = errors.Join(err, x.Close()) }()
	err = index.ForEach(func(h multihash.Multihash, offset uint64) error {
		decoded, err := multihash.Decode(h)
		if err != nil {
			return err
		}
		if offset == 0 {
			return fmt.Errorf("multihash %s at offset 0, where a CAR has its header", h)
		}
		return x.Add(decoded.Code, decoded.Digest, offset)
	})
	if err != nil {
		return err
	}
	return x.WriteTo(context.Background(), w)
}

// GetFullIndex implements FullIndexRepo. The index is immutable: to load into it
// is an error. It is a Releaser and a Verifier, and of the format 0x0401 also a
// carindex.IterableIndex, a RecordIterator and a RangeIterator. It is served from
// the file, which may be replaced or dropped meanwhile. The headers of the file are
// checked; the rest of a large one is left to Verify.
func (r *FSIndexRepo) GetFullIndex(key shard.Key) (carindex.Index, error) {
	path := r.path(key)
	info, err := r.stat(path)
	if err != nil {
		return nil, err
	}
	if info == nil || !info.Mode().IsRegular() {
		return nil, indexNotFound(key)
	}
	o, err := r.open.use(path, info, key)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, indexNotFound(key) // dropped meanwhile
	}
	if err != nil {
		return nil, fmt.Errorf("index of shard %q: %w", key, err)
	}
	return newHandle(r.open, o, key), nil
}

// DropFullIndex implements FullIndexRepo. It is durable when it returns nil.
func (r *FSIndexRepo) DropFullIndex(key shard.Key) (dropped bool, err error) {
	path := r.path(key)
	defer r.open.forget(path)
	return r.drop(path)
}

// drop removes a file. The folder is synced even if the file is not there: an
// earlier drop may have failed at that.
func (r *FSIndexRepo) drop(path string) (dropped bool, err error) {
	_, exists, err := r.size(path)
	if err != nil {
		return false, err
	}
	if exists {
		err = r.fs.Remove(path)
		dropped = err == nil
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return false, fmt.Errorf("index file: %w", err)
		}
	}
	if err := r.fs.SyncDir(r.dir); err != nil {
		return dropped, fmt.Errorf("index folder: %w", err)
	}
	return dropped, nil
}
