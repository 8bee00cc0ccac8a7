package compat

import (
	"bytes"
	"slices"
	"testing"

	"github.com/ipfs/go-cid"
	car "github.com/ipld/go-car/v2"
	carindex "github.com/ipld/go-car/v2/index"
	"github.com/multiformats/go-multicodec"
	"github.com/multiformats/go-multihash"
	"github.com/stretchr/testify/require"

	"github.com/filecoin-project/dagstore/internal/cartest"
	"github.com/filecoin-project/dagstore/internal/fullindex"
	"github.com/filecoin-project/dagstore/internal/indexer"
	"github.com/filecoin-project/dagstore/internal/mapped"
	"github.com/filecoin-project/dagstore/mount"
)

// scanned returns the index that we make of a whole file.
func scanned(t *testing.T, file []byte) ([]byte, error) {
	t.Helper()
	idx, err := indexer.Memory(t.Context(), bytes.NewReader(file), int64(len(file)))
	if err != nil {
		return nil, err
	}
	return serialized(t, idx.CarIndex()), nil
}

// streamed returns the index that we make of a file while it arrives in pieces.
func streamed(t *testing.T, file []byte) ([]byte, error) {
	t.Helper()
	x := indexer.New(indexer.Options{})
	defer func() { require.NoError(t, x.Close()) }()
	s := x.Stream(t.Context())
	for piece := range slices.Chunk(file, 1009) {
		if _, err := s.Write(piece); err != nil {
			return nil, err
		}
	}
	if err := s.Finish(); err != nil {
		return nil, err
	}
	var b bytes.Buffer
	require.NoError(t, x.WriteTo(t.Context(), &b))
	return b.Bytes(), nil
}

var ways = map[string]func(*testing.T, []byte) ([]byte, error){"scanned": scanned, "streamed": streamed}

func serialized(t *testing.T, idx carindex.Index) []byte {
	t.Helper()
	var b bytes.Buffer
	_, err := carindex.WriteTo(idx, &b)
	require.NoError(t, err)
	return b.Bytes()
}

func TestOurIndexIsGoCarsByteForByte(t *testing.T) {
	for _, f := range cars {
		t.Run(f.String(), func(t *testing.T) {
			b := f.read(t)
			want := cartest.GoCarIndex(t, b)
			for name, index := range ways {
				got, err := index(t, b)
				require.NoError(t, err)
				require.True(t, bytes.Equal(want, got), name)
			}
		})
	}
}

func TestBadCarsAreNotIndexed(t *testing.T) {
	for _, f := range refused {
		t.Run(f.String(), func(t *testing.T) {
			b := f.read(t)
			for name, index := range ways {
				_, err := index(t, b)
				require.ErrorIs(t, err, f.want, name)
			}
		})
	}
}

// cids returns the CIDs of a CAR, in the order of the file.
func cids(t *testing.T, file []byte) (all []cid.Cid) {
	t.Helper()
	for _, b := range blocksOf(t, file) {
		all = append(all, b.Cid())
	}
	return all
}

func TestIndicesOfOthersAnswerAsWithGoCar(t *testing.T) {
	asked := cids(t, cars[0].read(t))
	for _, f := range indices {
		t.Run(f.String(), func(t *testing.T) {
			b := f.read(t)
			require.Equal(t, len(b), answerAlike(t, b, asked))
		})
	}
}

// What a CARv2 brings along is not believed, but it is a format that others write.
func TestEmbeddedIndicesAnswerAsWithGoCar(t *testing.T) {
	codecs := map[multicodec.Code]int{}
	for _, f := range cars {
		b := f.read(t)
		r, err := car.NewReader(bytes.NewReader(b))
		require.NoError(t, err)
		if r.Version != 2 || !r.Header.HasIndex() {
			continue
		}
		t.Run(f.String(), func(t *testing.T) {
			embedded := b[r.Header.IndexOffset:]
			require.Equal(t, len(embedded), answerAlike(t, embedded, cids(t, b)))
			codec, err := carindex.ReadCodec(bytes.NewReader(embedded))
			require.NoError(t, err)
			codecs[codec]++
		})
	}
	require.Equal(t, map[multicodec.Code]int{multicodec.CarIndexSorted: 2, multicodec.CarMultihashIndexSorted: 5}, codecs)
}

// answerAlike compares what go-car and we say about an index, in memory and in a
// file, and returns its size.
func answerAlike(t *testing.T, b []byte, asked []cid.Cid) int {
	t.Helper()
	theirs, err := carindex.ReadFrom(bytes.NewReader(b))
	require.NoError(t, err)
	inMemory, err := fullindex.FromBytes(b)
	require.NoError(t, err)
	data, err := mapped.Open(opened(t, b))
	require.NoError(t, err)
	inFile, err := fullindex.FromData(data)
	require.NoError(t, err)
	asked = append(asked, cartest.Raw([]byte("absent")).Cid, cartest.Identity([]byte("absent")).Cid)
	for _, ours := range []*fullindex.Index{inMemory, inFile} {
		require.NoError(t, ours.Verify(t.Context()))
		require.Equal(t, theirs.Codec(), ours.CarIndex().Codec())
		require.Equal(t, serialized(t, theirs), serialized(t, ours.CarIndex()))
		for _, c := range asked {
			require.Equal(t, offsets(t, theirs, c), offsets(t, ours.CarIndex(), c), c)
		}
		require.Equal(t, entries(t, theirs), entries(t, ours.CarIndex()))
		require.Equal(t, inMemory.Size(), ours.Size())
		require.NoError(t, ours.Close())
	}
	return int(inMemory.Size())
}

// opened returns a reader of a file with these bytes.
func opened(t *testing.T, b []byte) mount.Reader {
	t.Helper()
	r, err := (&mount.FileMount{Path: cartest.Write(t, "index", b)}).Fetch(t.Context())
	require.NoError(t, err)
	return r
}

// offsets returns what an index says about c, nil if it says that there is nothing.
func offsets(t *testing.T, idx carindex.Index, c cid.Cid) (all []uint64) {
	t.Helper()
	err := idx.GetAll(c, func(offset uint64) bool {
		all = append(all, offset)
		return true
	})
	if len(all) == 0 {
		require.ErrorIs(t, err, carindex.ErrNotFound)
	} else {
		require.NoError(t, err)
	}
	return all
}

type entry struct {
	hash   string
	offset uint64
}

// entries returns all that an index lists; of one that cannot, nothing.
func entries(t *testing.T, idx carindex.Index) (all []entry) {
	t.Helper()
	iterable, ok := idx.(carindex.IterableIndex)
	require.Equal(t, idx.Codec() == multicodec.CarMultihashIndexSorted, ok)
	if !ok {
		return nil
	}
	require.NoError(t, iterable.ForEach(func(h multihash.Multihash, offset uint64) error {
		all = append(all, entry{string(h), offset})
		return nil
	}))
	return all
}
