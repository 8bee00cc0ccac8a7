package fullindex_test

import (
	"bytes"
	"errors"
	"io"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/ipfs/go-cid"
	carindex "github.com/ipld/go-car/v2/index"
	"github.com/multiformats/go-multicodec"
	"github.com/multiformats/go-multihash"
	"github.com/stretchr/testify/require"

	"github.com/filecoin-project/dagstore/internal/cartest"
	"github.com/filecoin-project/dagstore/internal/fullindex"
)

func TestAnswersAsGoCarDoes(t *testing.T) {
	for kind, generate := range kinds {
		t.Run(kind, func(t *testing.T) {
			r := rand.New(rand.NewPCG(1, 2))
			records := generate(r)
			asked := map[cid.Cid]bool{}
			for _, r := range slices.Concat(mixed(r, 50), records, near(records)) {
				asked[r.Cid] = true
			}
			for _, format := range formats {
				want, b := serialise(t, format, records)
				for _, f := range open(t, append(bytes.Clone(b), "behind"...)) {
					t.Run(format.String()+" "+f.name, func(t *testing.T) {
						require.EqualValues(t, len(b), f.index.Size())
						require.EqualValues(t, len(records), f.index.Len())
						require.Equal(t, format, f.index.Codec())
						for c := range asked {
							w, werr := offsets(want, c)
							g, gerr := offsets(f.index, c)
							require.Equal(t, werr, gerr)
							require.Equal(t, w, g)
						}
						requireListed(t, want, b, f.index)
					})
				}
			}
		})
	}
}

// near returns records with digests next to those of others.
func near(records []carindex.Record) (out []carindex.Record) {
	for _, r := range records[:min(len(records), 300)] {
		d, err := multihash.Decode(r.Hash())
		if err != nil || d.Length == 0 {
			continue
		}
		for _, by := range []byte{1, 0xff} {
			digest := bytes.Clone(d.Digest)
			digest[len(digest)-1] += by
			out = append(out, carindex.Record{Cid: cartest.Cid(d.Code, digest)})
		}
	}
	return out
}

// requireListed checks that x lists what go-car's index, with the bytes b, does.
func requireListed(t *testing.T, want carindex.Index, b []byte, x *fullindex.Index) {
	t.Helper()
	var again bytes.Buffer
	n, err := carindex.WriteTo(x, &again)
	require.NoError(t, err)
	require.EqualValues(t, len(b), n)
	require.Equal(t, b, again.Bytes())
	all, err := recordsOf(x)
	require.NoError(t, err)
	require.Len(t, all, int(x.Len()))
	for i, r := range all {
		got, err := x.Record(int64(i))
		require.NoError(t, err)
		require.Equal(t, r.Offset, got.Offset)
		require.Equal(t, r.Code, got.Code)
		require.True(t, bytes.Equal(r.Digest, got.Digest))
	}
	if x.Codec() == multicodec.CarIndexSorted {
		return
	}
	listed := entries(t, x.CarIndex())
	require.Equal(t, entries(t, want), listed)
	var at int64
	for {
		hashes, err := x.Multihashes(at, 100)
		require.NoError(t, err)
		if len(hashes) == 0 {
			break
		}
		for _, h := range hashes {
			require.Equal(t, listed[at].hash, string(h))
			at++
		}
	}
	require.Equal(t, x.Len(), at)
}

func TestTheOldFormatFindsADigestWhateverItsFunction(t *testing.T) {
	digest := []byte("some digest or other")
	_, b := serialise(t, multicodec.CarIndexSorted, []carindex.Record{{Cid: cartest.Cid(multihash.SHA2_256, digest), Offset: 70}})
	for _, f := range open(t, b) {
		got, err := offsets(f.index, cartest.Cid(multihash.BLAKE2B_MIN+31, digest))
		require.NoError(t, err)
		require.Equal(t, []uint64{70}, got)
	}
}

func TestTheOldFormatDoesNotTellItsMultihashes(t *testing.T) {
	_, b := serialise(t, multicodec.CarIndexSorted, mixed(rand.New(rand.NewPCG(1, 1)), 10))
	for _, f := range open(t, b) {
		require.NotImplements(t, (*carindex.IterableIndex)(nil), f.index.CarIndex())
		err := f.index.Each(func(multihash.Multihash, uint64) error { return nil })
		require.ErrorIs(t, err, errors.ErrUnsupported)
		_, err = f.index.Multihashes(0, 1)
		require.ErrorIs(t, err, errors.ErrUnsupported)
		all, err := recordsOf(f.index)
		require.NoError(t, err)
		require.Len(t, all, 10)
		for _, r := range all {
			require.Zero(t, r.Code)
		}
	}
}

func TestOthersCanEmbedIt(t *testing.T) {
	_, b := serialise(t, multicodec.CarMultihashIndexSorted, nil)
	x, err := fullindex.FromBytes(b)
	require.NoError(t, err)
	for _, idx := range []carindex.Index{x, x.CarIndex(), struct{ *fullindex.Index }{x}} {
		full, ok := fullindex.Of(idx)
		require.True(t, ok)
		require.Same(t, x, full)
	}
	_, ok := fullindex.Of(carindex.NewMultihashSorted())
	require.False(t, ok)
	_, ok = fullindex.Of(nil)
	require.False(t, ok)
}

func TestVisitorsStopIt(t *testing.T) {
	c := cartest.Raw([]byte("x")).Cid
	_, b := serialise(t, multicodec.CarMultihashIndexSorted, []carindex.Record{{Cid: c, Offset: 70}, {Cid: c, Offset: 71}})
	for _, f := range open(t, b) {
		calls := 0
		require.NoError(t, f.index.GetAll(c, func(uint64) bool { calls++; return false }))
		require.Equal(t, 1, calls)
		// As it is, also if it looks like one of the index itself.
		for _, stop := range []error{io.ErrClosedPipe, io.ErrUnexpectedEOF} {
			err := f.index.EachRecord(func(uint64, []byte, uint64) error { return stop })
			require.Equal(t, stop, err)
			err = f.index.Each(func(multihash.Multihash, uint64) error { return stop })
			require.Equal(t, stop, err)
		}
	}
}

func TestPanicsOfVisitorsGoOn(t *testing.T) {
	b, cids := uniform(t, 10)
	for _, f := range open(t, b) {
		require.PanicsWithValue(t, "mine", func() { _ = f.index.GetAll(cids[0], func(uint64) bool { panic("mine") }) })
		require.PanicsWithValue(t, "mine", func() { _ = f.index.EachRecord(func(uint64, []byte, uint64) error { panic("mine") }) })
		require.NoError(t, f.index.Close(), "nothing is in use any more")
	}
}

func TestMarshalReportsWritersThatFail(t *testing.T) {
	b, _ := uniform(t, 10)
	for _, f := range open(t, b) {
		r, w := io.Pipe()
		require.NoError(t, r.CloseWithError(io.ErrUnexpectedEOF))
		_, err := f.index.Marshal(w)
		require.ErrorIs(t, err, io.ErrUnexpectedEOF)
		require.NotErrorIs(t, err, fullindex.ErrMalformed, "the index is not to blame")
	}
}

func TestIsReadOnlyAndRefusesTheUndefinedCid(t *testing.T) {
	for _, format := range formats {
		_, b := serialise(t, format, mixed(rand.New(rand.NewPCG(1, 1)), 3))
		for _, f := range open(t, b) {
			require.Error(t, f.index.Load(nil))
			require.Error(t, f.index.Unmarshal(bytes.NewReader(b)))
			_, err := offsets(f.index, cid.Undef)
			require.ErrorIs(t, err, carindex.ErrNotFound)
		}
	}
}

func TestPlacesThatDoNotExist(t *testing.T) {
	b, _ := uniform(t, 10)
	for _, f := range open(t, b) {
		for _, i := range []int64{-1, 10, 1 << 62, -1 << 63} {
			_, err := f.index.Record(i)
			require.ErrorContains(t, err, "of 10")
			hashes, err := f.index.Multihashes(i, 5)
			require.NoError(t, err)
			require.Empty(t, hashes)
		}
	}
}

func TestBatchesOfMultihashes(t *testing.T) {
	b, cids := uniform(t, 30_000)
	for _, f := range open(t, b) {
		for _, n := range []int{-5, 0, 1} {
			hashes, err := f.index.Multihashes(3, n)
			require.NoError(t, err)
			require.Len(t, hashes, 1, "none would mean that it is the end")
			require.Equal(t, cids[3].Hash(), hashes[0])
		}
		hashes, err := f.index.Multihashes(0, math.MaxInt)
		require.NoError(t, err)
		require.Less(t, len(hashes), 30_000, "memory is bounded, whatever the caller wants")
		first, second := hashes[0], slices.Clone(hashes[1])
		_ = append(first, "grown"...)
		require.Equal(t, second, hashes[1])
	}
}

func TestWhatIsGivenAwayIsTheCallers(t *testing.T) {
	b, cids := uniform(t, 3)
	for _, f := range open(t, bytes.Clone(b)) {
		r, err := f.index.Record(0)
		require.NoError(t, err)
		clear(r.Digest)
		hashes, err := f.index.Multihashes(0, 3)
		require.NoError(t, err)
		clear(hashes[0])
		require.NoError(t, f.index.Each(func(h multihash.Multihash, _ uint64) error {
			clear(h)
			return nil
		}))
		for i, c := range cids {
			got, err := offsets(f.index, c)
			require.NoError(t, err)
			require.Equal(t, []uint64{uint64(59 + i)}, got)
		}
	}
}
