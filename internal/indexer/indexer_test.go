package indexer_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"io"
	"math/rand/v2"
	"runtime"
	"slices"
	"testing"

	"github.com/ipfs/go-cid"
	carindex "github.com/ipld/go-car/v2/index"
	"github.com/multiformats/go-multicodec"
	"github.com/multiformats/go-multihash"
	"github.com/stretchr/testify/require"

	"github.com/filecoin-project/dagstore/internal/carfile"
	"github.com/filecoin-project/dagstore/internal/cartest"
	"github.com/filecoin-project/dagstore/internal/files"
	"github.com/filecoin-project/dagstore/internal/indexbuild"
	"github.com/filecoin-project/dagstore/internal/indexer"
)

// randomBlock returns a block of any kind, often a copy of one before.
func randomBlock(r *rand.Rand, before []cartest.Block) cartest.Block {
	data := cartest.Bytes(r, r.IntN(60))
	codec := []uint64{cid.Raw, cid.DagCBOR, 0x300, 0x12345, 0x300003}[r.IntN(5)]
	in := func(b cartest.Block) cartest.Block {
		return cartest.Block{Cid: cid.NewCidV1(codec, b.Cid.Hash()), Data: b.Data}
	}
	switch r.IntN(7) {
	case 0:
		return cartest.V0(data)
	case 1:
		return in(cartest.Identity(data))
	case 2:
		if len(before) > 0 {
			return in(before[r.IntN(len(before))])
		}
	case 3:
		return in(cartest.Hashed(data, multihash.SHA2_512, r.IntN(65)))
	case 4:
		return in(cartest.Hashed(data, multihash.BLAKE2B_MIN+31, -1))
	case 5: // chosen so that they nearly collide
		digest := bytes.Repeat([]byte{0xff}, 32)
		binary.BigEndian.PutUint16(digest[30:], uint16(r.IntN(500)))
		return cartest.Block{Cid: cartest.Cid(0x12, digest), Data: data}
	}
	return cartest.Raw(data)
}

// limited returns options with so little memory that records are put aside.
func limited(t testing.TB) indexer.Options {
	return indexer.Options{FS: files.OS, Dir: t.TempDir(), Budget: indexbuild.NewBudget(1)}
}

func scanned(t testing.TB, o indexer.Options, file []byte) []byte {
	t.Helper()
	x := indexer.New(o)
	defer x.Close()
	require.NoError(t, x.Scan(t.Context(), bytes.NewReader(file), int64(len(file))))
	return written(t, x)
}

func written(t testing.TB, x *indexer.Indexer) []byte {
	t.Helper()
	var b bytes.Buffer
	require.NoError(t, x.WriteTo(t.Context(), &b))
	return b.Bytes()
}

func TestIndexOfAnyCARIsByteForByteGoCars(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	little := limited(t)
	for range 25 {
		var blocks []cartest.Block
		for range r.IntN(1500) {
			blocks = append(blocks, randomBlock(r, blocks))
		}
		v1 := cartest.V1(nil, blocks)
		want := cartest.GoCarIndex(t, v1)
		for name, file := range map[string][]byte{
			"v1":              v1,
			"piece":           cartest.Padded(v1, 1+r.IntN(300)),
			"v2":              cartest.V2(v1, cartest.V2Options{DataPadding: r.IntN(1500)}),
			"v2 with index":   cartest.V2(v1, cartest.V2Options{Index: want, IndexPadding: r.IntN(100)}),
			"v2 with a piece": cartest.V2(cartest.Padded(v1, 50), cartest.V2Options{DataPadding: 7}),
		} {
			require.Equal(t, want, scanned(t, indexer.Options{}, file), name)
			require.Equal(t, want, scanned(t, little, file), name)
			x := indexer.New(indexer.Options{})
			stream := x.Stream(t.Context())
			for rest := file; len(rest) > 0; {
				n := min(len(rest), 1+r.IntN(1000))
				_, err := stream.Write(rest[:n])
				require.NoError(t, err)
				rest = rest[n:]
			}
			require.NoError(t, stream.Finish())
			require.Equal(t, want, written(t, x), name)
			require.NoError(t, x.Close())
		}
	}
}

func TestIndexInMemoryOutlivesItsIndexer(t *testing.T) {
	blocks := cartest.Blocks(100, 20, 1)
	v1 := cartest.V1(nil, blocks)
	idx, err := indexer.Memory(t.Context(), bytes.NewReader(v1), int64(len(v1)))
	require.NoError(t, err)
	require.Implements(t, (*carindex.IterableIndex)(nil), idx.CarIndex())
	for _, b := range blocks {
		require.NoError(t, idx.GetAll(b.Cid, func(uint64) bool { return false }))
	}
	_, err = indexer.Memory(t.Context(), bytes.NewReader(v1), int64(len(v1))-1)
	require.ErrorIs(t, err, carfile.ErrTruncated)
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = indexer.Memory(ended, bytes.NewReader(v1), int64(len(v1)))
	require.ErrorIs(t, err, context.Canceled)
}

func TestBlocksAreComparedWithTheirHashesIfWanted(t *testing.T) {
	v1 := cartest.V1(nil, cartest.Blocks(100, 2000, 1))
	verify := indexer.Options{Verify: 2}
	require.Equal(t, cartest.GoCarIndex(t, v1), scanned(t, verify, v1))
	v1[len(v1)/2] ^= 1
	x := indexer.New(verify)
	require.ErrorIs(t, x.Scan(t.Context(), bytes.NewReader(v1), int64(len(v1))), carfile.ErrHashMismatch)
	require.NoError(t, x.Close())
}

// A partIndex finds some CIDs, and misplaces others.
type partIndex struct {
	carindex.Index
	sound, misplaced map[cid.Cid]uint64
	err              error
}

func (p partIndex) GetAll(c cid.Cid, visit func(uint64) bool) error {
	if offset, ok := p.sound[c]; ok {
		visit(offset)
		return nil
	}
	if offset, ok := p.misplaced[c]; ok {
		visit(offset + 1)
		return nil
	}
	return p.err
}

func TestOnlySectionsThatAnotherIndexFindsAreIndexed(t *testing.T) {
	blocks := cartest.Blocks(3, 50, 1)
	v1 := cartest.V1(nil, blocks)
	all, err := carindex.ReadFrom(bytes.NewReader(cartest.GoCarIndex(t, v1)))
	require.NoError(t, err)
	at := func(b cartest.Block) map[cid.Cid]uint64 {
		offset, err := carindex.GetFirst(all, b.Cid)
		require.NoError(t, err)
		return map[cid.Cid]uint64{b.Cid: offset}
	}
	idx := partIndex{sound: at(blocks[0]), misplaced: at(blocks[1]), err: carindex.ErrNotFound}
	x := indexer.New(indexer.Options{})
	defer x.Close()
	require.NoError(t, x.ScanIndexed(t.Context(), bytes.NewReader(v1), int64(len(v1)), idx))
	got, err := x.InMemory(t.Context())
	require.NoError(t, err)
	require.EqualValues(t, 1, got.Len())
	require.NoError(t, got.GetAll(blocks[0].Cid, func(uint64) bool { return false }))

	idx.err = io.ErrClosedPipe
	require.ErrorIs(t, x.ScanIndexed(t.Context(), bytes.NewReader(v1), int64(len(v1)), idx), io.ErrClosedPipe)
}

// allocated returns how many bytes indexing the file allocates.
func allocated(file []byte) int64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	x := indexer.New(indexer.Options{FS: files.OS})
	if x.Scan(context.Background(), bytes.NewReader(file), int64(len(file))) == nil {
		_ = x.WriteTo(context.Background(), io.Discard)
	}
	_ = x.Close()
	runtime.ReadMemStats(&after)
	return int64(after.TotalAlloc - before.TotalAlloc)
}

func TestSmallHostileCarCannotExhaustTheMemory(t *testing.T) {
	const size = 1 << 20
	fill := func(section func(i int) cartest.Block) []byte {
		file := cartest.Header(1)
		for i := 0; len(file) < size; i++ {
			file = append(file, cartest.Section(section(i))...)
		}
		return file
	}
	for name, file := range map[string][]byte{
		"empty identity CIDs": fill(func(int) cartest.Block { return cartest.Identity(nil) }),
		"a code for each block": fill(func(i int) cartest.Block {
			return cartest.Block{Cid: cartest.Cid(uint64(i), nil)}
		}),
		"a length for each block": fill(func(i int) cartest.Block {
			return cartest.Block{Cid: cartest.Cid(uint64(i/40), make([]byte, i%40))}
		}),
		"long CIDs":           fill(func(int) cartest.Block { return cartest.Identity(make([]byte, 2000)) }),
		"a header alone":      cartest.Header(1),
		"overlapping (§5)":    slices.Concat(cartest.Header(1), bytes.Repeat([]byte{4, 1, 0x55, 0x12, 0x20}, size/5)),
		"copies of one block": fill(func(int) cartest.Block { return cartest.Raw(nil) }),
	} {
		n := int64(len(file))
		got := allocated(file)
		t.Logf("%-24s %7d bytes: %9d allocated, K = %.1f", name, n, got, float64(got)/float64(n))
		require.LessOrEqual(t, got, 32*n+1<<20, name)
	}
	usual := cartest.V1(nil, cartest.Blocks(8000, 1024, 1))
	t.Logf("usual: %.2f", float64(allocated(usual))/float64(len(usual)))
	require.LessOrEqual(t, allocated(usual), int64(len(usual))/2+1<<20)
}

// FuzzIndex: whatever is accepted, every section is found in its index, in memory
// or put aside.
func FuzzIndex(f *testing.F) {
	r := rand.New(rand.NewPCG(1, 0))
	var blocks []cartest.Block
	for range 8 {
		blocks = append(blocks, randomBlock(r, blocks))
	}
	v1 := cartest.V1(nil, blocks)
	f.Add(v1)
	f.Add(cartest.V2(v1, cartest.V2Options{DataPadding: 7}))
	f.Add(cartest.Padded(v1, 2))
	little := limited(f)
	f.Fuzz(func(t *testing.T, file []byte) {
		idx, err := indexer.Memory(t.Context(), bytes.NewReader(file), int64(len(file)))
		if err != nil {
			var e *carfile.Error
			require.ErrorAs(t, err, &e)
			return
		}
		require.NoError(t, idx.Verify(t.Context()))
		require.Equal(t, multicodec.CarMultihashIndexSorted, idx.Codec())
		sections := int64(0)
		require.NoError(t, carfile.Scan(t.Context(), bytes.NewReader(file), int64(len(file)), carfile.Options{}, func(s *carfile.Section) error {
			sections++
			matches := idx.Find(s.Code, string(s.Digest))
			for offset, ok := matches.Next(); ok; offset, ok = matches.Next() {
				if offset == uint64(s.Offset) {
					return nil
				}
			}
			t.Fatalf("section at %d is not in the index", s.Offset)
			return nil
		}))
		require.Equal(t, sections, idx.Len())
		var b bytes.Buffer
		_, err = carindex.WriteTo(idx, &b)
		require.NoError(t, err)
		require.Equal(t, b.Bytes(), scanned(t, little, file))
	})
}

// An index that can be made can be opened, and one that cannot be opened is not
// made.
func TestIndexWithAsManyHashFunctionsAsAreAllowedCanBeOpened(t *testing.T) {
	x := indexer.New(indexer.Options{})
	defer x.Close()
	file := cartest.Header(1)
	for code := range uint64(indexbuild.MaxShapes) {
		file = append(file, cartest.Section(cartest.Block{Cid: cartest.Cid(code, nil)})...)
	}
	require.NoError(t, x.Scan(t.Context(), bytes.NewReader(file), int64(len(file))))
	idx, err := x.InMemory(t.Context())
	require.NoError(t, err)
	require.EqualValues(t, indexbuild.MaxShapes, idx.Len())

	file = append(file, cartest.Section(cartest.Raw(nil))...)
	file = append(file, cartest.Section(cartest.Block{Cid: cartest.Cid(1<<40, nil)})...)
	_, err = indexer.Memory(t.Context(), bytes.NewReader(file), int64(len(file)))
	require.ErrorIs(t, err, carfile.ErrMalformed)
}
