package blockview

import (
	"testing"

	"github.com/ipfs/go-cid"
	carindex "github.com/ipld/go-car/v2/index"
	"github.com/multiformats/go-multicodec"
	"github.com/multiformats/go-multihash"
	"github.com/stretchr/testify/require"

	"github.com/filecoin-project/dagstore/internal/cartest"
	"github.com/filecoin-project/dagstore/internal/fullindex"
)

func TestAnIndexOfTheDataFits(t *testing.T) {
	made := append(cartest.Blocks(101, 50, 1), cartest.Identity([]byte("x")))
	v1 := cartest.V1(nil, made)
	for _, car := range [][]byte{v1, cartest.V2(v1, cartest.V2Options{DataPadding: 9})} {
		data, _ := open(t, car)
		for name, idx := range indices(t, data) {
			for _, samples := range []int{-1, 0, 1, 2, 3, 101, 102, 1000} {
				require.NoError(t, Fits(t.Context(), data, idx, samples), name)
			}
			require.NoError(t, Fits(t.Context(), data, opaque{idx}, 5))
		}
		require.NoError(t, Fits(t.Context(), data, list{}, 5))
		require.NoError(t, Fits(t.Context(), data, ours(t, multicodec.CarMultihashIndexSorted, nil), 5))
	}
}

func TestTheSamplesAreEvenlySpacedAndHoldFirstAndLast(t *testing.T) {
	var all list
	for i := range 11 {
		all.entries = append(all.entries, entry{offset: uint64(i)})
	}
	for picks, want := range map[int64][]uint64{1: {0}, 2: {0, 10}, 3: {0, 5, 10}, 4: {0, 3, 6, 10}} {
		var got []uint64
		require.NoError(t, sample(t.Context(), all, picks, 11, func(_ multihash.Multihash, offset uint64) error {
			got = append(got, offset)
			return nil
		}))
		require.Equal(t, want, got)
	}
}

func TestAnIndexOfOtherDataDoesNotFit(t *testing.T) {
	data, _ := open(t, cartest.V1(nil, cartest.Blocks(10, 50, 1)))
	other, _ := open(t, cartest.V1(nil, cartest.Blocks(10, 50, 2)))
	shifted, _ := open(t, cartest.V1(nil, cartest.Blocks(10, 51, 1)))
	ctx := t.Context()
	require.ErrorIs(t, Fits(ctx, data, index(t, other), 1), ErrMismatch)
	require.ErrorIs(t, Fits(ctx, data, index(t, shifted), 10), ErrMismatch)

	last := entries(t, index(t, data))
	last[9].offset = 1 << 63
	require.ErrorIs(t, Fits(ctx, data, list{entries: last}, 2), ErrMismatch)

	none, _ := open(t, []byte("this is no car at all"))
	err := Fits(ctx, none, opaque{}, 1)
	require.ErrorIs(t, err, ErrMismatch)
	require.True(t, isDamage(err))
}

// A bomb has entries without end.
type bomb struct{ list }

func (b bomb) ForEach(visit func(multihash.Multihash, uint64) error) error {
	for {
		if err := visit(b.entries[0].hash, b.entries[0].offset); err != nil {
			return err
		}
	}
}

func TestAnIndexWithoutEndDoesNotHoldUpTheCheck(t *testing.T) {
	data, _ := open(t, cartest.V1(nil, cartest.Blocks(2, 50, 1)))
	idx := bomb{list{entries: entries(t, index(t, data))}}
	require.ErrorIs(t, Fits(t.Context(), data, idx, 3), ErrMismatch)
}

// A bomb of ours is a large file; its size is seen before it is read.
func TestAnIndexLargerThanTheDataDoesNotFit(t *testing.T) {
	data, _ := open(t, cartest.V1(nil, cartest.Blocks(1, 1, 1)))
	many := make([]carindex.Record, data.Size()+1)
	for i := range many {
		many[i] = records(t, data)[0]
	}
	require.ErrorIs(t, Fits(t.Context(), data, ours(t, multicodec.CarMultihashIndexSorted, many), 1), ErrMismatch)
}

func TestASampleOfOursHoldsFirstAndLast(t *testing.T) {
	for _, codec := range []multicodec.Code{multicodec.CarMultihashIndexSorted, multicodec.CarIndexSorted} {
		data, _ := open(t, cartest.V1(nil, cartest.Blocks(10, 50, 1)))
		sorted := entries(t, index(t, data))
		for _, wrong := range []int{0, 5, 9} {
			lying := make([]carindex.Record, len(sorted))
			for i, e := range sorted {
				lying[i] = carindex.Record{Cid: cid.NewCidV1(cid.Raw, e.hash), Offset: e.offset}
			}
			lying[wrong].Offset = sorted[(wrong+1)%10].offset
			idx := ours(t, codec, lying)
			require.ErrorIs(t, Fits(t.Context(), data, idx, 10), ErrMismatch)
			if wrong != 5 {
				require.ErrorIs(t, Fits(t.Context(), data, idx, 2), ErrMismatch)
			} else {
				require.NoError(t, Fits(t.Context(), data, idx, 2))
			}
		}
	}
}

func TestAnIndexFileThatIsCutDoesNotFit(t *testing.T) {
	data, _ := open(t, cartest.V1(nil, cartest.Blocks(1000, 10, 1)))
	idx, file := inFile(t, encoded(t, index(t, data)))
	require.NoError(t, file.Truncate(100))
	err := Fits(t.Context(), data, idx, 10)
	require.ErrorIs(t, err, ErrMismatch)
	require.ErrorIs(t, err, fullindex.ErrMalformed)
}
