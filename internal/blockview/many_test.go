package blockview

import (
	"context"
	"errors"
	"io/fs"
	"math/rand/v2"
	"testing"

	blocks "github.com/ipfs/go-block-format"
	"github.com/ipfs/go-cid"
	ipld "github.com/ipfs/go-ipld-format"
	"github.com/stretchr/testify/require"

	"github.com/filecoin-project/dagstore/internal/carfile"
	"github.com/filecoin-project/dagstore/internal/cartest"
	"github.com/filecoin-project/dagstore/internal/mapped"
)

// fail is a visit that passes on the error of a block.
func fail(_ int, _ blocks.Block, err error) error { return err }

func TestManyBlocksComeInTheOrderOfTheData(t *testing.T) {
	made := cartest.Blocks(200, 70, 1)
	data, _ := open(t, cartest.V1(nil, made))
	cids := []cid.Cid{cartest.Identity([]byte("inline")).Cid}
	of := map[cid.Cid]int{}
	for i, b := range made {
		cids = append(cids, b.Cid)
		of[b.Cid] = i
	}
	rand.Shuffle(len(cids), func(i, j int) { cids[i], cids[j] = cids[j], cids[i] })
	for name, idx := range indices(t, data) {
		t.Run(name, func(t *testing.T) {
			b := newBlocks(t, data, idx)
			seen, last := map[int]bool{}, -1
			err := b.GetMany(t.Context(), cids, func(i int, block blocks.Block, err error) error {
				require.NoError(t, err)
				require.False(t, seen[i])
				seen[i] = true
				require.Equal(t, cids[i], block.Cid())
				place, ok := of[cids[i]]
				if !ok {
					require.Equal(t, -1, last, "what is not in the data comes first")
					require.Equal(t, "inline", string(block.RawData()))
					return nil
				}
				require.Greater(t, place, last)
				last = place
				require.Equal(t, made[place].Data, block.RawData())
				return nil
			})
			require.NoError(t, err)
			require.Len(t, seen, len(cids))
		})
	}
}

func TestEachCidOfManyHasItsAnswer(t *testing.T) {
	made := cartest.Blocks(3, 100, 1)
	car := cartest.V1(nil, made)
	car[len(car)-1] ^= 1
	bothWays(t, car, func(t *testing.T, b *Blocks, _ *mapped.Data) {
		b.HashOnRead(true)
		absent := cartest.Raw([]byte("absent")).Cid
		cids := []cid.Cid{made[2].Cid, made[1].Cid, absent, cid.Undef, made[1].Cid, made[0].Cid}
		answers := make([]blocks.Block, len(cids))
		errs := make([]error, len(cids))
		require.NoError(t, b.GetMany(t.Context(), cids, func(i int, block blocks.Block, err error) error {
			answers[i], errs[i] = block, err
			return nil
		}))
		require.ErrorIs(t, errs[0], carfile.ErrHashMismatch)
		require.Equal(t, ipld.ErrNotFound{Cid: absent}, errs[2])
		require.ErrorIs(t, errs[3], errUndefined)
		for _, i := range []int{0, 2, 3} {
			require.Nil(t, answers[i])
		}
		for i, want := range map[int]cartest.Block{1: made[1], 4: made[1], 5: made[0]} {
			require.NoError(t, errs[i])
			require.Equal(t, want.Data, answers[i].RawData())
		}
	})
}

func TestManyBlocksEndWhenTheyShould(t *testing.T) {
	made := cartest.Blocks(5, 100, 1)
	var cids []cid.Cid
	for _, b := range made {
		cids = append(cids, b.Cid)
	}
	enough := errors.New("enough")
	ctx, cancel := context.WithCancel(t.Context())
	for name, c := range map[string]struct {
		act  func(data *mapped.Data) error
		want error
	}{
		"visit fails":    {func(*mapped.Data) error { return enough }, enough},
		"context ends":   {func(*mapped.Data) error { cancel(); return nil }, context.Canceled},
		"data is closed": {func(data *mapped.Data) error { return data.Close() }, fs.ErrClosed},
	} {
		t.Run(name, func(t *testing.T) {
			b, data := view(t, cartest.V1(nil, made))
			calls := 0
			ctx := ctx
			if name != "context ends" {
				ctx = t.Context()
			}
			err := b.GetMany(ctx, cids, func(int, blocks.Block, error) error {
				calls++
				return c.act(data)
			})
			require.Equal(t, c.want, err)
			require.Equal(t, 1, calls)
		})
	}
}

func TestAWrongOffsetDoesNotHideABlockFromMany(t *testing.T) {
	made := cartest.Blocks(2, 100, 1)
	bothWays(t, cartest.V1(nil, made), func(t *testing.T, good *Blocks, data *mapped.Data) {
		truth := entries(t, index(t, data))
		for _, first := range []uint64{1, truth[0].offset, truth[1].offset} {
			b, _ := suspect(t, data, list{entries: append([]entry{{offset: first}}, truth...)})
			cids := []cid.Cid{made[1].Cid, made[0].Cid}
			require.NoError(t, b.GetMany(t.Context(), cids, func(i int, block blocks.Block, err error) error {
				require.NoError(t, err)
				require.Equal(t, made[1-i].Data, block.RawData())
				return nil
			}))
		}
		require.NoError(t, good.GetMany(t.Context(), nil, nil))
	})
}
