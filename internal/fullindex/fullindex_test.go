package fullindex_test

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"testing"

	"github.com/ipfs/go-cid"
	carindex "github.com/ipld/go-car/v2/index"
	"github.com/multiformats/go-multicodec"
	"github.com/multiformats/go-multihash"
	"github.com/stretchr/testify/require"

	"github.com/filecoin-project/dagstore/internal/fullindex"
)

var formats = []multicodec.Code{multicodec.CarIndexSorted, multicodec.CarMultihashIndexSorted}

// records returns n records of several hash functions and digest lengths, some
// of them with equal digests.
func records(t testing.TB, n int, seed uint64) []carindex.Record {
	t.Helper()
	rnd := rand.New(rand.NewPCG(seed, 0))
	out := make([]carindex.Record, 0, n)
	for i := range n {
		data := make([]byte, rnd.IntN(40))
		for j := range data {
			data[j] = byte(rnd.Uint32())
		}
		code := []uint64{multihash.IDENTITY, multihash.SHA2_256, multihash.SHA2_512, multihash.BLAKE2B_MIN + 31}[rnd.IntN(4)]
		var mh multihash.Multihash
		var err error
		if code == multihash.BLAKE2B_MIN+31 {
			mh, err = multihash.Encode(append(make([]byte, 32-min(32, len(data))), data[:min(32, len(data))]...), code)
		} else {
			mh, err = multihash.Sum(data, code, -1)
		}
		require.NoError(t, err)
		c := cid.NewCidV1(cid.Raw, mh)
		if i > 0 && rnd.IntN(8) == 0 {
			c = out[rnd.IntN(i)].Cid
		}
		out = append(out, carindex.Record{Cid: c, Offset: rnd.Uint64()})
	}
	return out
}

func serialise(t testing.TB, format multicodec.Code, recs []carindex.Record) (carindex.Index, []byte) {
	t.Helper()
	idx, err := carindex.New(format)
	require.NoError(t, err)
	require.NoError(t, idx.Load(recs))
	var b bytes.Buffer
	_, err = carindex.WriteTo(idx, &b)
	require.NoError(t, err)
	return idx, b.Bytes()
}

func offsets(idx carindex.Index, c cid.Cid) ([]uint64, error) {
	var out []uint64
	err := idx.GetAll(c, func(o uint64) bool {
		out = append(out, o)
		return true
	})
	return out, err
}

type entry struct {
	mh     string
	offset uint64
}

func entries(t testing.TB, idx carindex.Index) []entry {
	t.Helper()
	var out []entry
	it, ok := idx.(carindex.IterableIndex)
	require.True(t, ok)
	require.NoError(t, it.ForEach(func(mh multihash.Multihash, o uint64) error {
		out = append(out, entry{string(mh), o})
		return nil
	}))
	return out
}

func TestAnswersAsGoCarDoes(t *testing.T) {
	for seed, n := range []int{0, 1, 2, 10, 300} {
		recs := records(t, n, uint64(seed))
		missing := records(t, 50, 1000+uint64(seed))
		for _, format := range formats {
			want, b := serialise(t, format, recs)
			got, err := fullindex.Open(append(bytes.Clone(b), "behind"...))
			require.NoError(t, err)
			require.Equal(t, len(b), got.Len())
			require.Equal(t, format, got.Codec())
			for _, r := range append(recs, missing...) {
				w, werr := offsets(want, r.Cid)
				g, gerr := offsets(got, r.Cid)
				require.Equal(t, werr, gerr)
				require.ElementsMatch(t, w, g)
			}
			var again bytes.Buffer
			k, err := carindex.WriteTo(got, &again)
			require.NoError(t, err)
			require.EqualValues(t, len(b), k)
			require.Equal(t, b, again.Bytes())
			if format == multicodec.CarMultihashIndexSorted {
				require.ElementsMatch(t, entries(t, want), entries(t, got))
			} else {
				require.NotImplements(t, (*carindex.IterableIndex)(nil), got)
			}
		}
	}
}

func TestVisitorsStopIt(t *testing.T) {
	r := records(t, 1, 7)[0]
	for _, format := range formats {
		_, b := serialise(t, format, []carindex.Record{r, {Cid: r.Cid, Offset: r.Offset + 1}})
		idx, err := fullindex.Open(b)
		require.NoError(t, err)
		calls := 0
		require.NoError(t, idx.GetAll(r.Cid, func(uint64) bool { calls++; return false }))
		require.Equal(t, 1, calls)
		if it, ok := idx.(carindex.IterableIndex); ok {
			require.ErrorIs(t, it.ForEach(func(multihash.Multihash, uint64) error { return io.ErrClosedPipe }), io.ErrClosedPipe)
		}
	}
}

func TestIsReadOnlyAndRefusesTheUndefinedCid(t *testing.T) {
	for _, format := range formats {
		_, b := serialise(t, format, records(t, 3, 1))
		idx, err := fullindex.Open(b)
		require.NoError(t, err)
		require.Error(t, idx.Load(nil))
		require.Error(t, idx.Unmarshal(bytes.NewReader(b)))
		_, err = offsets(idx, cid.Undef)
		require.ErrorIs(t, err, carindex.ErrNotFound)
	}
}

// Defect 10: an index of which a crash has left only a part.
func TestTruncatedIndexIsNoIndex(t *testing.T) {
	for _, format := range formats {
		_, b := serialise(t, format, records(t, 12, 3))
		for n := range b {
			_, err := fullindex.Open(b[:n:n])
			require.ErrorIs(t, err, fullindex.ErrMalformed, "%d of %d bytes", n, len(b))
		}
	}
}

// Defect 10: an index whose end is zeros since it never reached the disk. Only
// when no more than an offset is missing can it go unnoticed, or when all but the
// head of an empty index is.
func TestZeroFilledIndexIsNoIndex(t *testing.T) {
	const offsetSize = 8
	recs := records(t, 0, 0)
	for i := range 20 {
		mh, err := multihash.Sum([]byte{byte(i)}, multihash.SHA2_256, -1)
		require.NoError(t, err)
		recs = append(recs, carindex.Record{Cid: cid.NewCidV1(cid.Raw, mh), Offset: uint64(59 + i)})
	}
	for _, format := range formats {
		_, b := serialise(t, format, recs)
		for n := 3; n < len(b)-offsetSize; n++ {
			torn := append(bytes.Clone(b[:n]), make([]byte, len(b)-n)...)
			if bytes.Equal(torn, b) {
				continue
			}
			idx, err := fullindex.Open(torn)
			if err == nil {
				require.Less(t, idx.Len(), len(b), "%d of %d bytes", n, len(b)) // the repo refuses what is shorter than its file
			}
		}
	}
}

// Defect 10b: one wrong byte must not end the process.
func TestCorruptByteIsHarmless(t *testing.T) {
	recs := records(t, 12, 5)
	for _, format := range formats {
		_, b := serialise(t, format, recs)
		for i := range b {
			for _, x := range []byte{1, 0x80, 0xff} {
				bad := bytes.Clone(b)
				bad[i] ^= x
				use(t, bad, recs)
			}
		}
	}
}

// use does with b all that can be done, and checks what must hold.
func use(t testing.TB, b []byte, recs []carindex.Record) {
	idx, err := fullindex.Open(b)
	if err != nil {
		require.ErrorIs(t, err, fullindex.ErrMalformed)
		return
	}
	for _, r := range recs {
		if _, err := offsets(idx, r.Cid); err != nil {
			require.ErrorIs(t, err, carindex.ErrNotFound)
		}
	}
	var again bytes.Buffer
	_, err = carindex.WriteTo(idx, &again)
	require.NoError(t, err)
	require.Equal(t, b[:idx.Len()], again.Bytes())
	it, ok := idx.(carindex.IterableIndex)
	if !ok {
		return
	}
	require.NoError(t, it.ForEach(func(mh multihash.Multihash, _ uint64) error {
		_, err := offsets(idx, cid.NewCidV1(cid.Raw, mh))
		if errors.Is(err, carindex.ErrNotFound) {
			t.Errorf("%s is in the index and not found", mh)
		}
		return nil
	}))
}

func FuzzOpen(f *testing.F) {
	for _, format := range formats {
		for _, n := range []int{0, 1, 12} {
			_, b := serialise(f, format, records(f, n, uint64(n)))
			f.Add(b)
		}
	}
	f.Fuzz(func(t *testing.T, b []byte) { use(t, b, nil) })
}

func TestRefusesHeaders(t *testing.T) {
	le := func(n int, v uint64) []byte {
		b := make([]byte, n)
		for i := range b {
			b[i] = byte(v >> (8 * i))
		}
		return b
	}
	bucket := func(width, length uint64) []byte {
		return bytes.Join([][]byte{le(4, width), le(8, length), make([]byte, min(length, 64))}, nil)
	}
	for name, b := range map[string][]byte{
		"nothing":          nil,
		"another codec":    {0x55},
		"negative buckets": append([]byte{0x80, 8}, 0xff, 0xff, 0xff, 0xff),
		"narrow record":    bytes.Join([][]byte{{0x80, 8}, le(4, 1), bucket(7, 14)}, nil),
		"wide record":      bytes.Join([][]byte{{0x80, 8}, le(4, 1), bucket(32<<20+9, 64)}, nil),
		"empty bucket":     bytes.Join([][]byte{{0x80, 8}, le(4, 1), bucket(16, 0), make([]byte, 16)}, nil),
		"part of a record": bytes.Join([][]byte{{0x80, 8}, le(4, 1), bucket(16, 17)}, nil),
		"too long":         bytes.Join([][]byte{{0x80, 8}, le(4, 1), bucket(16, 1<<63)}, nil),
		"equal widths":     bytes.Join([][]byte{{0x80, 8}, le(4, 2), bucket(16, 16), bucket(16, 16)}, nil),
		"equal codes":      bytes.Join([][]byte{{0x81, 8}, le(4, 2), le(8, 1), le(4, 1), bucket(16, 16), le(8, 1), le(4, 1), bucket(16, 16)}, nil),
		"empty code":       bytes.Join([][]byte{{0x81, 8}, le(4, 1), le(8, 1), le(4, 0), make([]byte, 64)}, nil),
	} {
		_, err := fullindex.Open(b)
		require.ErrorIs(t, err, fullindex.ErrMalformed, name)
	}
}
