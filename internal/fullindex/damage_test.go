package fullindex_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"math/rand/v2"
	"os"
	"runtime"
	"testing"

	carindex "github.com/ipld/go-car/v2/index"
	"github.com/multiformats/go-multicodec"
	"github.com/multiformats/go-multihash"
	"github.com/stretchr/testify/require"

	"github.com/filecoin-project/dagstore/internal/fullindex"
	"github.com/filecoin-project/dagstore/internal/mapped"
)

// Defect 10: an index of which a crash has left only a part.
func TestTruncatedIndexIsNoIndex(t *testing.T) {
	for _, format := range formats {
		_, b := serialise(t, format, mixed(rand.New(rand.NewPCG(3, 0)), 12))
		for n := range b {
			_, err := someForms(t, n, b[:n:n])
			require.ErrorIs(t, err, fullindex.ErrMalformed, "%d of %d bytes", n, len(b))
		}
	}
}

// Defect 10: an index whose end is zeros since it never reached the disk. When all
// but the head of an empty index is missing, it is shorter than its file.
func TestZeroFilledIndexIsNoIndex(t *testing.T) {
	for _, format := range formats {
		_, cids := uniform(t, 20)
		records := make([]carindex.Record, len(cids))
		for i, c := range cids {
			records[i] = carindex.Record{Cid: c, Offset: uint64(59 + i)}
		}
		_, b := serialise(t, format, records)
		for n := 3; n < len(b); n++ {
			torn := append(bytes.Clone(b[:n]), make([]byte, len(b)-n)...)
			if bytes.Equal(torn, b) {
				continue
			}
			all, err := someForms(t, n, torn)
			require.True(t, err == nil || errors.Is(err, fullindex.ErrMalformed))
			for _, f := range all {
				if f.index.Size() == int64(len(b)) { // else the repository refuses it
					require.ErrorIs(t, f.index.Verify(t.Context()), fullindex.ErrMalformed, "%d of %d bytes", n, len(b))
				}
			}
		}
	}
}

// tornByZeros yields copies of an index of one bucket with zeros among its records, and
// where they begin and end. They begin where what was written last ends, and are
// followed by what the file had before, if anything.
func tornByZeros(b []byte, records int) iter.Seq2[[]byte, [2]int] {
	head := len(b) - records*width
	r := rand.New(rand.NewPCG(1, 1))
	return func(yield func([]byte, [2]int) bool) {
		for range 25 {
			from := head + r.IntN(len(b)-head)
			to := len(b) - r.IntN((len(b)-from+width-1)/width)*width
			torn := bytes.Clone(b)
			clear(torn[from:to])
			if !bytes.Equal(torn, b) && !yield(torn, [2]int{from, to}) {
				return
			}
		}
	}
}

// A large index is served before it is verified.
func TestZerosInAnIndexAreNeverTakenForAMiss(t *testing.T) {
	const records = 400
	b, cids := uniform(t, records)
	for torn, zeros := range tornByZeros(b, records) {
		all, err := forms(t, torn)
		require.NoError(t, err)
		for _, f := range all {
			for i, c := range cids {
				got, err := offsets(f.index, c)
				if err != nil {
					require.ErrorIs(t, err, fullindex.ErrMalformed, "%s: zeros %v, record %d", f.name, zeros, i)
				} else {
					require.Equal(t, []uint64{uint64(59 + i)}, got)
				}
			}
			listed, err := recordsOf(f.index)
			require.ErrorIs(t, err, fullindex.ErrMalformed)
			for i, r := range listed[:max(len(listed)-1, 0)] {
				require.EqualValues(t, 59+i, r.Offset)
			}
		}
	}
}

func TestDuplicatesThatEndInZerosAreNotAllOfThem(t *testing.T) {
	same := func(offset uint64) []byte { return join(bytes.Repeat([]byte{7}, 32), le(8, offset)) }
	records := join(same(70), same(80), make([]byte, width))
	b := join([]byte{0x80, 8}, le(4, 1), le(4, width), le(8, uint64(len(records))), records)
	all, err := forms(t, b)
	require.NoError(t, err)
	for _, f := range all {
		m := f.index.Find(0, string(same(0)[:32]))
		for _, want := range []uint64{70, 80} {
			got, ok := m.Next()
			require.True(t, ok)
			require.Equal(t, want, got)
		}
		_, ok := m.Next()
		require.False(t, ok)
		require.ErrorIs(t, m.Err(), fullindex.ErrMalformed)
		_, ok = m.Next()
		require.False(t, ok)
	}
}

// Defect 10b: one wrong byte must not end the process.
func TestCorruptByteIsHarmless(t *testing.T) {
	records := mixed(rand.New(rand.NewPCG(5, 0)), 12)
	for _, format := range formats {
		_, b := serialise(t, format, records)
		for i := range b {
			for _, x := range []byte{1, 0xff} {
				bad := bytes.Clone(b)
				bad[i] ^= x
				use(t, bad, records)
			}
		}
	}
}

func TestAnIndexOutOfOrderIsNoIndex(t *testing.T) {
	b, _ := uniform(t, 30_000) // of more than one megabyte
	for _, i := range []int{1, 1000, 26_213, 26_214, 26_215, 29_999} {
		swapped := bytes.Clone(b)
		at := len(b) - 30_000*width + i*width
		copy(swapped[at:at+width], b[at-width:at])
		copy(swapped[at-width:at], b[at:at+width])
		all, err := forms(t, swapped)
		require.NoError(t, err)
		for _, f := range all {
			err := f.index.Verify(t.Context())
			require.ErrorIs(t, err, fullindex.ErrMalformed)
			require.ErrorContains(t, err, fmt.Sprintf("record %d ", i))
		}
	}
}

func TestVerifyEndsWithItsContext(t *testing.T) {
	b, _ := uniform(t, 10)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for _, f := range open(t, b) {
		require.ErrorIs(t, f.index.Verify(ctx), context.Canceled)
	}
}

func TestRefusesHeaders(t *testing.T) {
	bucket := func(width, length uint64) []byte {
		return join(le(4, width), le(8, length), make([]byte, min(length, 64)))
	}
	for name, b := range map[string][]byte{
		"nothing":            nil,
		"zeros":              make([]byte, 64),
		"another codec":      {0x55},
		"another long codec": {0x82, 8, 0, 0, 0, 0},
		"no codec":           {0x81, 0x88, 0, 0, 0, 0},
		"negative buckets":   append([]byte{0x80, 8}, 0xff, 0xff, 0xff, 0xff),
		"narrow record":      join([]byte{0x80, 8}, le(4, 1), bucket(7, 14)),
		"wide record":        join([]byte{0x80, 8}, le(4, 1), bucket(32<<20+9, 64)),
		"empty bucket":       join([]byte{0x80, 8}, le(4, 1), bucket(16, 0), make([]byte, 16)),
		"part of a record":   join([]byte{0x80, 8}, le(4, 1), bucket(16, 17)),
		"too long":           join([]byte{0x80, 8}, le(4, 1), bucket(16, 1<<63)),
		"2^62 bytes":         join([]byte{0x80, 8}, le(4, 1), bucket(16, 1<<62)),
		"a terabyte":         join([]byte{0x81, 8}, le(4, 1), le(8, 18), le(4, 1), bucket(40, 40<<30)),
		"equal widths":       join([]byte{0x80, 8}, le(4, 2), bucket(16, 16), bucket(16, 16)),
		"falling widths":     join([]byte{0x80, 8}, le(4, 2), bucket(16, 16), bucket(15, 15)),
		"equal codes":        join([]byte{0x81, 8}, le(4, 2), le(8, 1), le(4, 1), bucket(16, 16), le(8, 1), le(4, 1), bucket(16, 16)),
		"falling codes":      join([]byte{0x81, 8}, le(4, 2), le(8, 1), le(4, 1), bucket(16, 16), le(8, 0), le(4, 1), bucket(16, 16)),
		"no code of a hash":  join([]byte{0x81, 8}, le(4, 1), le(8, 1<<63), le(4, 1), bucket(16, 16)),
		"empty code":         join([]byte{0x81, 8}, le(4, 1), le(8, 1), le(4, 0), make([]byte, 64)),
	} {
		t.Run(name, func(t *testing.T) {
			_, err := forms(t, b)
			require.ErrorIs(t, err, fullindex.ErrMalformed)
		})
	}
}

// allocated returns how many bytes use allocates.
func allocated(use func()) uint64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	use()
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc
}

func TestHostileHeadersDoNotTakeMuchMemory(t *testing.T) {
	claim := join([]byte{0x81, 8}, le(4, 1<<31-1), le(8, 18), le(4, 1<<31-1), le(4, 40), le(8, 1<<62))
	require.Less(t, allocated(func() { _, _ = fullindex.FromBytes(claim) }), uint64(2<<10))

	const codes = 10_000
	many := manyCodes(codes)
	var x *fullindex.Index
	require.Less(t, allocated(func() {
		var err error
		x, err = fullindex.FromBytes(many)
		require.NoError(t, err)
	}), uint64(12*len(many)), "while it grows; a third of that stays")
	for i := range int64(codes) {
		r, err := x.Record(i)
		require.NoError(t, err)
		require.EqualValues(t, i, r.Code)
		m := x.Find(uint64(i), "")
		offset, ok := m.Next()
		require.True(t, ok)
		require.EqualValues(t, 59+i, offset)
	}
}

// manyCodes returns an index of codes that have one record each, without a digest.
func manyCodes(codes uint64) []byte {
	b := join([]byte{0x81, 8}, le(4, codes))
	for code := range codes {
		b = append(b, join(le(8, code), le(4, 1), le(4, 8), le(8, 8), le(8, 59+code))...)
	}
	return b
}

func TestTheNumberOfBucketsIsBounded(t *testing.T) {
	_, err := fullindex.FromBytes(manyCodes(1 << 16))
	require.NoError(t, err)
	_, err = fullindex.FromBytes(manyCodes(1<<16 + 1))
	require.ErrorIs(t, err, fullindex.ErrMalformed)
}

// cut returns an index over a mapped file of which only n bytes are left.
func cut(t *testing.T, b []byte, n int64) *fullindex.Index {
	t.Helper()
	path := makeFile(t, b)
	x, err := openFile(t, path, true)
	require.NoError(t, err)
	require.NoError(t, os.Truncate(path, n))
	return x
}

func TestTruncationUnderAMappingIsAnError(t *testing.T) {
	const records = 2000
	b, cids := uniform(t, records)
	for name, n := range map[string]int64{
		"all of it":            0,
		"the middle":           int64(len(b) / 2 / 4096 * 4096),
		"the middle of a page": int64(len(b)/2/4096*4096 + 2000),
		"the last page":        int64(len(b)) - 200,
		"the last offset":      int64(len(b)) - 7,
	} {
		t.Run(name, func(t *testing.T) {
			x := cut(t, b, n)
			_, err := recordsOf(x)
			requireCut(t, err)
			require.ErrorIs(t, x.Verify(t.Context()), fullindex.ErrMalformed)
			_, err = x.Marshal(io.Discard)
			requireCut(t, err)
			requireCut(t, x.Each(func(multihash.Multihash, uint64) error { return nil }))
			_, err = x.Record(records - 1)
			requireCut(t, err)
			_, err = x.Multihashes(records-3, 10)
			requireCut(t, err)
			whole := (n - int64(len(b)) + records*width) / width // records that are left
			for i, c := range cids {
				got, err := offsets(x, c)
				switch {
				case err != nil:
					require.ErrorIs(t, err, fullindex.ErrMalformed)
				case int64(i) > whole:
					t.Fatalf("record %d was cut off, and found at %v", i, got)
				default:
					require.Equal(t, uint64(59+i)&0xff, got[0]&0xff)
				}
			}
		})
	}
}

func requireCut(t *testing.T, err error) {
	t.Helper()
	require.ErrorIs(t, err, fullindex.ErrMalformed)
	if !errors.Is(err, io.ErrUnexpectedEOF) {
		require.ErrorContains(t, err, "without an offset")
	}
}

func TestAFileThatWasCutBeforeItIsOpenedIsNoIndex(t *testing.T) {
	b, _ := uniform(t, 10)
	for _, mapIt := range []bool{true, false} {
		path := makeFile(t, b)
		f, err := os.Open(path)
		require.NoError(t, err)
		data := dataOf(t, f, mapIt)
		require.NoError(t, data.Map())
		require.NoError(t, os.Truncate(path, 17))
		_, err = fullindex.FromData(data)
		require.ErrorIs(t, err, fullindex.ErrMalformed)
		require.ErrorIs(t, err, io.ErrUnexpectedEOF)
		require.NoError(t, data.Close(), "it is still the caller's")
	}
}

func TestErrorsOfReadingAreNotDamage(t *testing.T) {
	b, cids := uniform(t, 1000)
	broken := errors.New("broken disk")
	var fail bool
	memory := bytes.NewReader(b)
	data, err := mapped.Open(hidden{readerAt(func(p []byte, at int64) (int, error) {
		if fail {
			return 0, broken
		}
		return memory.ReadAt(p, at)
	}), memory, io.NopCloser(nil)})
	require.NoError(t, err)
	fail = true
	_, err = fullindex.FromData(data)
	require.ErrorIs(t, err, broken)
	fail = false
	x, err := fullindex.FromData(data)
	require.NoError(t, err)
	fail = true
	_, err = offsets(x, cids[0])
	requireBroken := func(err error) {
		t.Helper()
		require.ErrorIs(t, err, broken)
		require.NotErrorIs(t, err, fullindex.ErrMalformed)
	}
	requireBroken(err)
	requireBroken(x.Verify(t.Context()))
	_, err = x.Record(0)
	requireBroken(err)
	_, err = x.Multihashes(0, 1)
	requireBroken(err)
	_, err = x.Marshal(io.Discard)
	requireBroken(err)
}

func TestCodecsHaveNamesInErrors(t *testing.T) {
	_, err := fullindex.FromBytes([]byte{0x82, 8})
	require.ErrorContains(t, err, fmt.Sprintf("0x%x", uint64(multicodec.CarMultihashIndexSorted)+1))
}
