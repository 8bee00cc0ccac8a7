package fullindex_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/ipfs/go-cid"
	carindex "github.com/ipld/go-car/v2/index"
	"github.com/multiformats/go-multicodec"
	"github.com/multiformats/go-multihash"
	"github.com/stretchr/testify/require"

	"github.com/filecoin-project/dagstore/internal/cartest"
	"github.com/filecoin-project/dagstore/internal/fullindex"
	"github.com/filecoin-project/dagstore/internal/mapped"
)

var formats = []multicodec.Code{multicodec.CarIndexSorted, multicodec.CarMultihashIndexSorted}

// serialise returns the index of records that go-car makes, and its bytes.
func serialise(t testing.TB, format multicodec.Code, records []carindex.Record) (carindex.Index, []byte) {
	t.Helper()
	idx, err := carindex.New(format)
	require.NoError(t, err)
	require.NoError(t, idx.Load(records))
	var b bytes.Buffer
	_, err = carindex.WriteTo(idx, &b)
	require.NoError(t, err)
	return idx, b.Bytes()
}

// kinds are sets of records that indices are made of.
var kinds = map[string]func(*rand.Rand) []carindex.Record{
	"nothing":        func(*rand.Rand) []carindex.Record { return nil },
	"one record":     func(r *rand.Rand) []carindex.Record { return mixed(r, 1) },
	"a few":          func(r *rand.Rand) []carindex.Record { return mixed(r, 12) },
	"many functions": func(r *rand.Rand) []carindex.Record { return mixed(r, 600) },
	"identities": func(r *rand.Rand) []carindex.Record {
		return generate(130, func(i int) cid.Cid { return cartest.Cid(multihash.IDENTITY, cartest.Bytes(r, i)) })
	},
	"empty digests": func(*rand.Rand) []carindex.Record {
		return generate(5, func(int) cid.Cid { return cartest.Cid(multihash.IDENTITY, nil) })
	},
	"one byte": func(r *rand.Rand) []carindex.Record {
		return generate(500, func(int) cid.Cid { return cartest.Cid(multihash.IDENTITY, cartest.Bytes(r, 1)) })
	},
	"same digests of several functions": func(r *rand.Rand) []carindex.Record {
		return generate(120, func(i int) cid.Cid {
			return cartest.Cid([]uint64{multihash.IDENTITY, multihash.SHA2_256, 0xb220, 1 << 40}[i%4], slices.Repeat([]byte{byte(i / 4)}, 32))
		})
	},
	"duplicates on many pages": func(r *rand.Rand) []carindex.Record {
		digests := [][]byte{cartest.Bytes(r, 32), cartest.Bytes(r, 32), make([]byte, 32), slices.Repeat([]byte{0xff}, 32)}
		return generate(1500, func(i int) cid.Cid { return cartest.Cid(multihash.SHA2_256, digests[i%len(digests)]) })
	},
	"uniform": func(r *rand.Rand) []carindex.Record {
		return generate(3000, func(int) cid.Cid { return cartest.Cid(multihash.SHA2_256, cartest.Bytes(r, 32)) })
	},
	"one key": func(r *rand.Rand) []carindex.Record {
		return generate(1000, func(int) cid.Cid {
			return cartest.Cid(multihash.SHA2_256, append([]byte("the same"), cartest.Bytes(r, 24)...))
		})
	},
	"crowded at both ends": func(r *rand.Rand) []carindex.Record {
		return generate(1500, func(i int) cid.Cid {
			key := uint64(1) << r.IntN(64)
			if i%2 == 0 {
				key = ^key
			}
			return cartest.Cid(multihash.SHA2_256, binary.BigEndian.AppendUint64(nil, key+r.Uint64N(3)))
		})
	},
	"wider than a page": func(r *rand.Rand) []carindex.Record {
		return generate(9, func(int) cid.Cid { return cartest.Cid(multihash.IDENTITY, cartest.Bytes(r, 5000)) })
	},
}

func generate(n int, c func(i int) cid.Cid) []carindex.Record {
	records := make([]carindex.Record, n)
	for i := range records {
		records[i] = carindex.Record{Cid: c(i), Offset: uint64(59 + 100*i)}
	}
	return records
}

// mixed returns n records of several hash functions and digest lengths, some of them
// with equal digests.
func mixed(r *rand.Rand, n int) []carindex.Record {
	var seen []cid.Cid
	return generate(n, func(i int) cid.Cid {
		if i > 0 && r.IntN(8) == 0 {
			seen = append(seen, seen[r.IntN(i)])
			return seen[i]
		}
		code := []uint64{multihash.IDENTITY, multihash.SHA2_256, multihash.SHA2_512, multihash.BLAKE2B_MIN + 31}[r.IntN(4)]
		c := cartest.Cid(code, cartest.Bytes(r, []int{r.IntN(40), 32, 64, 32}[r.IntN(4)]))
		seen = append(seen, c)
		return c
	})
}

// A hidden is a file that is not seen to be one, and so is not mapped.
type hidden struct {
	io.ReaderAt
	io.Seeker
	io.Closer
}

// makeFile returns the path of a file with content.
func makeFile(t testing.TB, content []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "index")
	require.NoError(t, os.WriteFile(path, content, 0o600))
	return path
}

// openFile returns the index in a file, which is closed with the test.
func openFile(t testing.TB, path string, mapIt bool) (*fullindex.Index, error) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	require.NoError(t, err)
	data := dataOf(t, f, mapIt)
	x, err := fullindex.FromData(data)
	if err == nil {
		require.Equal(t, mapIt, x.Mapping() != nil)
	}
	return x, err
}

// A form is one way to have the bytes of an index.
type form struct {
	name  string
	index *fullindex.Index
}

// forms returns the index b in all forms, or the error of all of them.
func forms(t testing.TB, b []byte) ([]form, error) {
	t.Helper()
	inMemory, err := fullindex.FromBytes(b)
	path := makeFile(t, b)
	inMapping, mappedErr := openFile(t, path, len(b) > 0)
	inFile, fileErr := openFile(t, path, false)
	if err != nil {
		require.EqualError(t, mappedErr, err.Error())
		require.EqualError(t, fileErr, err.Error())
		return nil, err
	}
	require.NoError(t, mappedErr)
	require.NoError(t, fileErr)
	return []form{{"memory", inMemory}, {"mapped", inMapping}, {"file", inFile}}, nil
}

// someForms is forms, but mostly only what is fast: the index in memory.
func someForms(t testing.TB, n int, b []byte) ([]form, error) {
	t.Helper()
	if n%16 == 0 {
		return forms(t, b)
	}
	x, err := fullindex.FromBytes(b)
	if err != nil {
		return nil, err
	}
	return []form{{"memory", x}}, nil
}

// open is forms of a sound index.
func open(t testing.TB, b []byte) []form {
	t.Helper()
	all, err := forms(t, b)
	require.NoError(t, err)
	for _, f := range all {
		require.NoError(t, f.index.Verify(t.Context()))
	}
	return all
}

func offsets(idx carindex.Index, c cid.Cid) ([]uint64, error) {
	var out []uint64
	err := idx.GetAll(c, func(o uint64) bool {
		out = append(out, o)
		return true
	})
	return out, err
}

// An entry is a multihash with an offset.
type entry struct {
	hash   string
	offset uint64
}

func entries(t testing.TB, idx carindex.Index) []entry {
	t.Helper()
	iterable, ok := idx.(carindex.IterableIndex)
	require.True(t, ok)
	var out []entry
	require.NoError(t, iterable.ForEach(func(h multihash.Multihash, o uint64) error {
		out = append(out, entry{string(h), o})
		return nil
	}))
	return out
}

// recordsOf returns copies of all records.
func recordsOf(x *fullindex.Index) ([]fullindex.Record, error) {
	var out []fullindex.Record
	err := x.EachRecord(func(code uint64, digest []byte, offset uint64) error {
		out = append(out, fullindex.Record{Code: code, Digest: bytes.Clone(digest), Offset: offset})
		return nil
	})
	return out, err
}

func le(n int, v uint64) []byte { return binary.LittleEndian.AppendUint64(nil, v)[:n] }

func join(parts ...[]byte) []byte { return slices.Concat(parts...) }

// uniform returns the bytes of an index of n random sha2-256 digests, and its
// multihashes in their order.
func uniform(t testing.TB, n int) ([]byte, []cid.Cid) {
	t.Helper()
	r := rand.New(rand.NewPCG(uint64(n), 0))
	digests := make([][]byte, n)
	for i := range digests {
		digests[i] = cartest.Bytes(r, 32)
	}
	slices.SortFunc(digests, bytes.Compare)
	b := join([]byte{0x81, 8}, le(4, 1), le(8, multihash.SHA2_256), le(4, 1), le(4, width), le(8, uint64(n*width)))
	cids := make([]cid.Cid, n)
	for i, d := range digests {
		b = append(append(b, d...), le(8, uint64(59+i))...)
		cids[i] = cartest.Cid(multihash.SHA2_256, d)
	}
	return b, cids
}

const width = 32 + fullindex.OffsetSize

type readerAt func([]byte, int64) (int, error)

func (f readerAt) ReadAt(p []byte, at int64) (int, error) { return f(p, at) }

// dataOf returns the data of a file, which can be mapped or not.
func dataOf(t testing.TB, f *os.File, canMap bool) *mapped.Data {
	t.Helper()
	var source mapped.Source = f
	if !canMap {
		source = hidden{f, f, f}
	}
	data, err := mapped.Open(source)
	require.NoError(t, err)
	t.Cleanup(func() { _ = data.Close() })
	return data
}

// use does with b all that can be done, and checks what must hold of any bytes.
func use(t testing.TB, b []byte, records []carindex.Record) {
	t.Helper()
	x, err := fullindex.FromBytes(b)
	memory := bytes.NewReader(b)
	data, dataErr := mapped.Open(hidden{memory, memory, io.NopCloser(nil)})
	require.NoError(t, dataErr)
	read, readErr := fullindex.FromData(data)
	if err != nil {
		require.ErrorIs(t, err, fullindex.ErrMalformed)
		require.EqualError(t, readErr, err.Error())
		return
	}
	require.NoError(t, readErr)
	sound := x.Verify(t.Context())
	require.Equal(t, sound, read.Verify(t.Context()))
	for _, x := range []*fullindex.Index{x, read} {
		var again bytes.Buffer
		_, err = carindex.WriteTo(x, &again)
		require.NoError(t, err)
		require.Equal(t, b[:x.Size()], again.Bytes())
	}
	said, readSaid := ask(t, x, records), ask(t, read, records)
	if sound != nil { // records out of order are found or not by chance
		require.ErrorIs(t, sound, fullindex.ErrMalformed)
		return
	}
	require.Equal(t, said, readSaid)
	theirs, err := carindex.ReadFrom(bytes.NewReader(b))
	require.NoError(t, err, "go-car takes what is sound")
	for c, a := range said.found {
		found, err := offsets(theirs, c)
		require.Equal(t, a.err, err)
		require.Equal(t, a.offsets, found)
	}
	for _, r := range said.listed {
		m := x.Find(r.Code, string(r.Digest))
		_, ok := m.Next()
		require.True(t, ok, "%x is in the index and not found", r.Digest)
	}
}

// Answers are what an index says.
type answers struct {
	listed  []fullindex.Record
	listErr error
	found   map[cid.Cid]answer
	at      []error
}

type answer struct {
	offsets []uint64
	err     error
}

// ask asks an index all that it can be asked.
func ask(t testing.TB, x *fullindex.Index, records []carindex.Record) answers {
	t.Helper()
	a := answers{found: map[cid.Cid]answer{}}
	a.listed, a.listErr = recordsOf(x)
	asked := generate(len(a.listed), func(i int) cid.Cid { return cartest.Cid(a.listed[i].Code, a.listed[i].Digest) })
	for _, r := range append(asked, records...) {
		if _, again := a.found[r.Cid]; again {
			continue
		}
		found, err := offsets(x, r.Cid)
		if err != nil && !errors.Is(err, carindex.ErrNotFound) {
			require.ErrorIs(t, err, fullindex.ErrMalformed)
		}
		a.found[r.Cid] = answer{found, err}
	}
	for i := range x.Len() {
		_, err := x.Record(i)
		a.at = append(a.at, err)
	}
	return a
}
