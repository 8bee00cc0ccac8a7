package blockview

import (
	"context"
	"errors"
	"io"
	"testing"
	"testing/synctest"

	"github.com/ipfs/go-cid"
	carindex "github.com/ipld/go-car/v2/index"
	"github.com/multiformats/go-multicodec"
	"github.com/multiformats/go-multihash"
	"github.com/stretchr/testify/require"

	"github.com/filecoin-project/dagstore/internal/cartest"
	"github.com/filecoin-project/dagstore/internal/fullindex"
)

func keys(t testing.TB, b *Blocks) []cid.Cid {
	t.Helper()
	ch, err := b.AllKeysChan(t.Context())
	require.NoError(t, err)
	var all []cid.Cid
	for c := range ch {
		all = append(all, c)
	}
	return all
}

func TestEachKeyIsListedOnceWithAnyIndex(t *testing.T) {
	made := append(cartest.Blocks(keyBatch, 20, 1), cartest.V0([]byte("zero")))
	var want []cid.Cid
	for _, b := range made {
		want = append(want, cid.NewCidV1(cid.Raw, b.Cid.Hash()))
	}
	data, _ := open(t, cartest.V1(nil, append(made, made...)))
	all := indices(t, data)
	all["opaque"] = opaque{all["ours"]}
	for name, idx := range all {
		t.Run(name, func(t *testing.T) {
			require.ElementsMatch(t, want, keys(t, newBlocks(t, data, idx)))
		})
	}
}

func TestADamagedListOfKeysEndsAndDoesNotKillTheProcess(t *testing.T) {
	made := cartest.Blocks(2, 50, 1)
	data, _ := open(t, cartest.V1(nil, made))
	good := entries(t, index(t, data))[0]
	for name, i := range map[string]carindex.Index{
		"error":        list{entries: []entry{good}, err: errors.New("broken")},
		"no multihash": list{entries: []entry{good, {hash: multihash.Multihash("x")}}},
		"panic":        panicking{good},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBlocks(t, data, i)
			require.Equal(t, []cid.Cid{cid.NewCidV1(cid.Raw, good.hash)}, keys(t, b))
		})
	}
}

type panicking struct{ entry }

func (panicking) Codec() multicodec.Code                  { return multicodec.CarMultihashIndexSorted }
func (panicking) Marshal(io.Writer) (uint64, error)       { return 0, nil }
func (panicking) Unmarshal(io.Reader) error               { return nil }
func (panicking) Load([]carindex.Record) error            { return nil }
func (panicking) GetAll(cid.Cid, func(uint64) bool) error { panic("broken") }
func (p panicking) ForEach(visit func(multihash.Multihash, uint64) error) error {
	if err := visit(p.hash, p.offset); err != nil {
		return err
	}
	panic("broken")
}

// The bubble fails if a goroutine is left behind.
func TestAListOfKeysThatNobodyReadsDoesNotHoldUpClose(t *testing.T) {
	made := cartest.Blocks(20, 50, 1)
	car := cartest.V1(nil, made)
	for name, hide := range map[string]bool{"by index": false, "by scan": true} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				data, _ := open(t, car)
				var idx carindex.Index = index(t, data)
				if hide {
					idx = opaque{idx}
				}
				b := newBlocks(t, data, idx)
				abandoned, err := b.AllKeysChan(context.Background())
				require.NoError(t, err)
				<-abandoned
				ctx, cancel := context.WithCancel(context.Background())
				cancelled, err := b.AllKeysChan(ctx)
				require.NoError(t, err)
				<-cancelled
				cancel()
				synctest.Wait()
				_, more := <-cancelled
				require.False(t, more)

				require.NoError(t, data.Close())
				synctest.Wait()
				_, more = <-abandoned
				require.False(t, more)
			})
		})
	}
}

func TestADamagedIndexOfOursEndsTheListAndIsReported(t *testing.T) {
	made := cartest.Blocks(3000, 10, 1)
	data, _ := open(t, cartest.V1(nil, made))
	idx, file := inFile(t, encoded(t, index(t, data)))
	b, reports := suspect(t, data, idx)
	require.NoError(t, file.Truncate(50_000))
	got := keys(t, b)
	require.NotEmpty(t, got)
	require.Less(t, len(got), len(made))
	require.Len(t, *reports, 1)
	require.ErrorIs(t, (*reports)[0], fullindex.ErrMalformed)
}

func TestBlocksCanBeReadWhileTheirKeysAreListed(t *testing.T) {
	made := cartest.Blocks(50, 50, 1)
	data, _ := open(t, cartest.V1(nil, made))
	for name, idx := range indices(t, data) {
		t.Run(name, func(t *testing.T) {
			b := newBlocks(t, data, idx)
			list, err := b.AllKeysChan(t.Context())
			require.NoError(t, err)
			for c := range list {
				_, err := b.Get(t.Context(), c)
				require.NoError(t, err)
			}
		})
	}
}
