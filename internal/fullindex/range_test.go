package fullindex_test

import (
	"bytes"
	"cmp"
	"errors"
	"io"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/multiformats/go-multicodec"
	"github.com/multiformats/go-multihash"
	"github.com/stretchr/testify/require"

	"github.com/filecoin-project/dagstore/internal/cartest"
	"github.com/filecoin-project/dagstore/internal/fullindex"
	"github.com/filecoin-project/dagstore/internal/mapped"
)

func hashOf(code uint64, digest string) multihash.Multihash {
	return cartest.Cid(code, []byte(digest)).Hash()
}

func TestMultihashesAreOrderedByCodeThenLengthThenDigest(t *testing.T) {
	ascending := []multihash.Multihash{
		nil,
		{18},            // no length
		{18, 5, 1, 2},   // cut
		{0x92, 0, 1, 1}, // not minimal
		hashOf(0, ""),
		hashOf(0, "\x00"),
		hashOf(0, "\xff"),
		hashOf(0, "\x00\x00"),
		hashOf(18, ""),
		hashOf(18, "a"),
		hashOf(18, "b"),
		hashOf(18, "aa"),
		hashOf(127, "z"),
		hashOf(128, "a"), // whose varint begins with 0x80
		hashOf(255, "a"),
		hashOf(256, "a"), // whose varint begins with 0x80, again
		hashOf(256, string(make([]byte, 127))),
		hashOf(256, string(make([]byte, 128))),
		hashOf(1<<62, ""),
	}
	for i, a := range ascending {
		for k, b := range ascending {
			require.Equal(t, cmp.Compare(i, k), fullindex.Compare(a, b), "%x and %x", []byte(a), []byte(b))
		}
	}
	require.Zero(t, fullindex.Compare(nil, multihash.Multihash{}))
}

// A span is a range as tests have it.
type span struct{ after, through multihash.Multihash }

func (s span) has(h string) bool {
	return (len(s.after) == 0 || fullindex.Compare(multihash.Multihash(h), s.after) > 0) &&
		(len(s.through) == 0 || fullindex.Compare(multihash.Multihash(h), s.through) <= 0)
}

// of returns those of all entries that are in the range.
func (s span) of(all []entry) []entry {
	var in []entry
	for _, e := range all {
		if s.has(e.hash) {
			in = append(in, e)
		}
	}
	return in
}

// inRange returns what an index has in a range.
func inRange(x *fullindex.Index, s span) ([]entry, error) {
	var in []entry
	err := x.EachInRange(s.after, s.through, func(h multihash.Multihash, offset uint64) bool {
		in = append(in, entry{string(h), offset})
		return true
	})
	return in, err
}

// bounds returns a generator of bounds: multihashes that are there, their neighbours,
// others of the same and of other codes and lengths, and none.
func bounds(r *rand.Rand, all []entry) func() multihash.Multihash {
	return func() multihash.Multihash {
		choice := r.IntN(8)
		if choice == 0 {
			return nil
		}
		if choice < 3 || len(all) == 0 {
			code := []uint64{0, 1, multihash.SHA2_256, multihash.SHA2_512, multihash.BLAKE2B_MIN + 31, 1 << 40}[r.IntN(6)]
			return cartest.Cid(code, cartest.Bytes(r, []int{0, 1, r.IntN(129), 32, 64}[r.IntN(5)])).Hash()
		}
		h := multihash.Multihash(all[r.IntN(len(all))].hash)
		if last := len(h) - 1; choice < 5 && h[last] > 0x80 {
			h[last] += byte(r.IntN(3)) - 1
		}
		return h
	}
}

func TestARangeHasExactlyTheMultihashesBetweenItsBounds(t *testing.T) {
	for name, generate := range kinds {
		t.Run(name, func(t *testing.T) {
			r := rand.New(rand.NewPCG(7, 7))
			_, b := serialise(t, multicodec.CarMultihashIndexSorted, generate(r))
			for _, f := range open(t, b) {
				all := entries(t, f.index.CarIndex())
				require.True(t, slices.IsSortedFunc(all, func(a, b entry) int {
					return fullindex.Compare(multihash.Multihash(a.hash), multihash.Multihash(b.hash))
				}))
				bound := bounds(r, all)
				for range 60 {
					s := span{bound(), bound()}
					got, err := inRange(f.index, s)
					require.NoError(t, err)
					require.Equal(t, s.of(all), got, "%s: after %x through %x", f.name, []byte(s.after), []byte(s.through))
				}
			}
		})
	}
}

func TestRangesThatFollowEachOtherHaveEverythingOnce(t *testing.T) {
	r := rand.New(rand.NewPCG(8, 8))
	_, b := serialise(t, multicodec.CarMultihashIndexSorted, mixed(r, 2000))
	for _, f := range open(t, b) {
		all := entries(t, f.index.CarIndex())
		var cuts []multihash.Multihash
		for bound := bounds(r, all); len(cuts) < 20; {
			if h := bound(); h != nil {
				cuts = append(cuts, h)
			}
		}
		slices.SortFunc(cuts, fullindex.Compare)
		var got []entry
		var last multihash.Multihash
		for _, next := range append(cuts, nil) {
			part, err := inRange(f.index, span{last, next})
			require.NoError(t, err)
			got, last = append(got, part...), next
		}
		require.Equal(t, all, got, f.name)
	}
}

func TestAVisitorThatHasEnoughIsNotCalledAgain(t *testing.T) {
	_, b := serialise(t, multicodec.CarMultihashIndexSorted, mixed(rand.New(rand.NewPCG(9, 9)), 100))
	for _, f := range open(t, b) {
		visits := 0
		require.NoError(t, f.index.EachInRange(nil, nil, func(multihash.Multihash, uint64) bool {
			visits++
			return visits < 42
		}))
		require.Equal(t, 42, visits)
	}
}

func TestABoundThatIsNoMultihashIsRefused(t *testing.T) {
	b, cids := uniform(t, 10)
	x, err := fullindex.FromBytes(b)
	require.NoError(t, err)
	for name, s := range map[string]span{
		"a CID":           {after: cids[3].Bytes()},
		"a digest":        {through: cids[3].Hash()[2:]},
		"a cut multihash": {through: cids[3].Hash()[:33]},
	} {
		in, err := inRange(x, s)
		require.ErrorContains(t, err, "not a multihash", name)
		require.NotErrorIs(t, err, fullindex.ErrMalformed)
		require.Empty(t, in)
	}
}

func TestAnIndexWithoutMultihashesHasNoRanges(t *testing.T) {
	_, b := serialise(t, multicodec.CarIndexSorted, mixed(rand.New(rand.NewPCG(1, 1)), 10))
	x, err := fullindex.FromBytes(b)
	require.NoError(t, err)
	_, err = inRange(x, span{})
	require.ErrorIs(t, err, errors.ErrUnsupported)
}

// Whoever wants ten multihashes from the middle of a million pays for ten.
func TestARangeInTheMiddleDoesNotReadWhatIsBefore(t *testing.T) {
	const records = 100_000
	b, cids := uniform(t, records)
	var read int
	memory := bytes.NewReader(b)
	data, err := mapped.Open(hidden{readerAt(func(p []byte, at int64) (int, error) {
		read += len(p)
		return memory.ReadAt(p, at)
	}), memory, io.NopCloser(nil)})
	require.NoError(t, err)
	x, err := fullindex.FromData(data)
	require.NoError(t, err)
	for i := 5; i < records-20; i += records / 30 {
		read = 0
		in, err := inRange(x, span{cids[i].Hash(), cids[i+10].Hash()})
		require.NoError(t, err)
		require.Len(t, in, 10)
		require.EqualValues(t, 59+i+1, in[0].offset)
		require.Less(t, read, 100_000)

		read = 0
		require.NoError(t, x.EachInRange(cids[i].Hash(), nil, func(multihash.Multihash, uint64) bool { return false }))
		require.Less(t, read, 150_000)
	}
}

func TestARangeAllocatesTheSameWhateverItsSize(t *testing.T) {
	if raceDetector {
		t.Skip("the race detector allocates what the compiler does not")
	}
	b, cids := uniform(t, 20_000)
	var sum uint64
	visit := func(h multihash.Multihash, offset uint64) bool {
		sum += offset + uint64(h[2])
		return true
	}
	for _, f := range open(t, b) {
		if f.name == "file" {
			continue // it has to read somewhere
		}
		walk := func(from, to int) float64 {
			after, through := cids[from].Hash(), cids[to].Hash()
			return testing.AllocsPerRun(20, func() { _ = f.index.EachInRange(after, through, visit) })
		}
		few := walk(9000, 9001)
		require.LessOrEqual(t, few, 12.0)
		require.Equal(t, few, walk(0, 19_999), f.name)
	}
	require.NotZero(t, sum)
}

func TestZerosInAnIndexAreNeverTakenForTheEndOfARange(t *testing.T) {
	const records = 400
	b, cids := uniform(t, records)
	sound, err := fullindex.FromBytes(b)
	require.NoError(t, err)
	all := entries(t, sound.CarIndex())
	r := rand.New(rand.NewPCG(1, 1))
	for torn, zeros := range tornByZeros(b, records) {
		broken, err := forms(t, torn)
		require.NoError(t, err)
		for _, f := range broken {
			for i := 0; i < records; i += 1 + r.IntN(9) {
				s := span{after: cids[i].Hash()}
				if k := i + r.IntN(records); k < records {
					s.through = cids[k].Hash()
				}
				got, err := inRange(f.index, s)
				if err != nil {
					require.ErrorIs(t, err, fullindex.ErrMalformed)
					continue
				}
				require.Equal(t, s.of(all), got, "%s: zeros %v", f.name, zeros)
			}
		}
	}
}

func TestARangeOfWhatWasCutUnderTheMappingIsAnError(t *testing.T) {
	b, cids := uniform(t, 2000)
	for _, left := range []int64{0, int64(len(b) / 2 / 4096 * 4096), int64(len(b)/2/4096*4096 + 2000), int64(len(b)) - 7} {
		x := cut(t, b, left)
		_, err := inRange(x, span{})
		requireCut(t, err)
		_, err = inRange(x, span{after: cids[1000].Hash()})
		requireCut(t, err)
	}
}

func TestThePanicOfAVisitorGoesOnAndLeavesTheIndexUsable(t *testing.T) {
	b, _ := uniform(t, 100)
	for _, f := range open(t, b) {
		require.PanicsWithValue(t, "visitor", func() {
			_ = f.index.EachInRange(nil, nil, func(multihash.Multihash, uint64) bool { panic("visitor") })
		})
		in, err := inRange(f.index, span{})
		require.NoError(t, err)
		require.Len(t, in, 100)
		require.NoError(t, f.index.Close(), "nobody is in it any more")
	}
}

func TestCloseDoesNotWaitForTheEndOfALargeRange(t *testing.T) {
	requireCloseEnds(t, 20_000, func(x *fullindex.Index, visit func()) error {
		return x.EachInRange(nil, nil, func(multihash.Multihash, uint64) bool {
			visit()
			return true
		})
	})
}

// Any bytes, any bounds: what is visited is what a pass over all of it finds there.
func FuzzEachInRange(f *testing.F) {
	r := rand.New(rand.NewPCG(1, 0))
	for _, generate := range kinds {
		records := generate(r)
		_, b := serialise(f, multicodec.CarMultihashIndexSorted, records[:min(len(records), 8)])
		for _, c := range records[:min(len(records), 3)] {
			f.Add(b[:min(len(b), 600)], []byte(c.Hash()), []byte(nil))
			f.Add(b[:min(len(b), 600)], []byte{0, 0}, []byte(c.Hash()))
		}
	}
	f.Fuzz(func(t *testing.T, b, after, through []byte) {
		x, err := fullindex.FromBytes(b)
		if err != nil || x.Codec() != multicodec.CarMultihashIndexSorted {
			return
		}
		s := span{after, through}
		got, err := inRange(x, s)
		memory := bytes.NewReader(b)
		data, dataErr := mapped.Open(hidden{memory, memory, io.NopCloser(nil)})
		require.NoError(t, dataErr)
		read, readErr := fullindex.FromData(data)
		require.NoError(t, readErr)
		gotRead, readErr := inRange(read, s)
		require.LessOrEqual(t, int64(max(len(got), len(gotRead))), x.Len())
		if x.Verify(t.Context()) != nil {
			return
		}
		_, afterErr := multihash.Decode(after)
		_, throughErr := multihash.Decode(through)
		if len(after) > 0 && afterErr != nil || len(through) > 0 && throughErr != nil {
			require.ErrorContains(t, err, "not a multihash")
			return
		}
		require.NoError(t, err)
		require.NoError(t, readErr)
		require.Equal(t, s.of(entries(t, x.CarIndex())), got)
		require.Equal(t, got, gotRead)
	})
}
