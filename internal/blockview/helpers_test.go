package blockview

import (
	"bytes"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/ipfs/go-cid"
	carindex "github.com/ipld/go-car/v2/index"
	"github.com/multiformats/go-multicodec"
	"github.com/multiformats/go-multihash"
	"github.com/stretchr/testify/require"

	"github.com/filecoin-project/dagstore/internal/carfile"
	"github.com/filecoin-project/dagstore/internal/fullindex"
	"github.com/filecoin-project/dagstore/internal/mapped"
)

// open returns the bytes of a CAR in a real file, closed at the end of the test.
func open(t testing.TB, car []byte) (*mapped.Data, *os.File) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "car")
	require.NoError(t, os.WriteFile(path, car, 0o600))
	return openPath(t, path)
}

// records are what an index of the data must hold.
func records(t testing.TB, data *mapped.Data) []carindex.Record {
	t.Helper()
	var all []carindex.Record
	err := carfile.Scan(t.Context(), data, data.Size(), carfile.Options{}, func(s *carfile.Section) error {
		_, c, err := cid.CidFromBytes(s.Cid)
		all = append(all, carindex.Record{Cid: c, Offset: uint64(s.Offset)})
		return err
	})
	require.NoError(t, err)
	return all
}

// goCars returns an index of go-car's own type.
func goCars(t testing.TB, codec multicodec.Code, all []carindex.Record) carindex.Index {
	t.Helper()
	idx, err := carindex.New(codec)
	require.NoError(t, err)
	require.NoError(t, idx.Load(all))
	return idx
}

// encoded returns the file of an index.
func encoded(t testing.TB, idx carindex.Index) []byte {
	t.Helper()
	var file bytes.Buffer
	_, err := carindex.WriteTo(idx, &file)
	require.NoError(t, err)
	return file.Bytes()
}

// ours returns an index of our own type, in memory.
func ours(t testing.TB, codec multicodec.Code, all []carindex.Record) carindex.Index {
	t.Helper()
	full, err := fullindex.FromBytes(encoded(t, goCars(t, codec, all)))
	require.NoError(t, err)
	return full.CarIndex()
}

// index returns the index that the store would make of the data.
func index(t testing.TB, data *mapped.Data) carindex.IterableIndex {
	t.Helper()
	return ours(t, multicodec.CarMultihashIndexSorted, records(t, data)).(carindex.IterableIndex)
}

// inFile returns our index over a file, which is mapped, and the file.
func inFile(t testing.TB, b []byte) (carindex.Index, *os.File) {
	t.Helper()
	data, file := open(t, b)
	full, err := fullindex.FromData(data)
	require.NoError(t, err)
	return full.CarIndex(), file
}

// unmappable hides that a file is one.
type unmappable struct{ mapped.Source }

// unmapped returns the content of the file, which can only be read.
func unmapped(t testing.TB, path string) *mapped.Data {
	t.Helper()
	file, err := os.Open(path)
	require.NoError(t, err)
	data, err := mapped.Open(unmappable{file})
	require.NoError(t, err)
	require.NoError(t, data.Map())
	t.Cleanup(func() { require.NoError(t, data.Close()) })
	return data
}

// indices are all kinds of index of the data.
func indices(t testing.TB, data *mapped.Data) map[string]carindex.Index {
	t.Helper()
	all := records(t, data)
	goCar := goCars(t, multicodec.CarMultihashIndexSorted, all)
	inMapping, file := inFile(t, encoded(t, goCar))
	read, err := fullindex.FromData(unmapped(t, file.Name()))
	require.NoError(t, err)
	return map[string]carindex.Index{
		"ours":          ours(t, multicodec.CarMultihashIndexSorted, all),
		"ours, mapped":  inMapping,
		"ours, read":    read.CarIndex(),
		"ours, 0x0400":  ours(t, multicodec.CarIndexSorted, all),
		"go-car's":      goCar,
		"go-car's 0400": goCars(t, multicodec.CarIndexSorted, all),
		"unsorted list": list{entries: entries(t, goCar.(carindex.IterableIndex))},
	}
}

func view(t testing.TB, car []byte) (*Blocks, *mapped.Data) {
	t.Helper()
	data, _ := open(t, car)
	return newBlocks(t, data, index(t, data)), data
}

// newBlocks returns blocks whose index must not turn out to be damaged.
func newBlocks(t testing.TB, data *mapped.Data, idx carindex.Index) *Blocks {
	t.Helper()
	b, err := New(data, idx, func(err error) { t.Errorf("damaged index: %v", err) })
	require.NoError(t, err)
	return b
}

// suspect returns blocks over an index that is wrong, and what was reported of it.
func suspect(t testing.TB, data *mapped.Data, idx carindex.Index) (*Blocks, *[]error) {
	t.Helper()
	var reports []error
	b, err := New(data, idx, func(err error) { reports = append(reports, err) })
	require.NoError(t, err)
	return b, &reports
}

// A list is an index of any entries, true or not.
type list struct {
	carindex.Index // nil: what the tests do not need panics
	codec          multicodec.Code
	entries        []entry
	err            error
}

type entry struct {
	hash   multihash.Multihash
	offset uint64
}

func (l list) Codec() multicodec.Code { return l.codec }

func (l list) GetAll(c cid.Cid, visit func(uint64) bool) error {
	for _, e := range l.entries {
		if e.hash == nil || bytes.Equal(e.hash, c.Hash()) {
			visit(e.offset) // goes on when told to stop
		}
	}
	return l.err
}

func (l list) ForEach(visit func(multihash.Multihash, uint64) error) error {
	for _, e := range l.entries {
		if err := visit(e.hash, e.offset); err != nil {
			return err
		}
	}
	return l.err
}

func entries(t testing.TB, idx carindex.IterableIndex) []entry {
	t.Helper()
	var all []entry
	require.NoError(t, idx.ForEach(func(mh multihash.Multihash, offset uint64) error {
		all = append(all, entry{bytes.Clone(mh), offset})
		return nil
	}))
	return all
}

// opaque hides ForEach and what is ours.
type opaque struct{ carindex.Index }

// A flaky file fails to read from its middle on.
type flaky struct {
	io.ReaderAt
	io.Seeker
	io.Closer
	from int64
}

func (f flaky) ReadAt(p []byte, off int64) (int, error) {
	if off >= f.from {
		return 0, errDisk
	}
	return f.ReaderAt.ReadAt(p, off)
}

// openPath returns the content of a file, which the test closes at its end.
func openPath(t testing.TB, path string) (*mapped.Data, *os.File) {
	t.Helper()
	file, err := os.OpenFile(path, os.O_RDWR, 0)
	require.NoError(t, err)
	data, err := mapped.Open(file)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, data.Close()) })
	return data, file
}
