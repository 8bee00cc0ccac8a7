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

	"github.com/filecoin-project/dagstore/internal/carfile"
	"github.com/filecoin-project/dagstore/internal/cartest"
	"github.com/filecoin-project/dagstore/internal/guard"
	"github.com/filecoin-project/dagstore/internal/mapped"
)

func keys(t *testing.T, b *Blocks) []cid.Cid {
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
	made := append(cartest.Blocks(20, 50, 1), cartest.V0([]byte("zero")))
	var want []cid.Cid
	for _, b := range made {
		want = append(want, cid.NewCidV1(cid.Raw, b.Cid.Hash()))
	}
	data, _ := open(t, cartest.V1(nil, append(made, made...)))
	idx := index(t, data)
	for name, i := range map[string]carindex.Index{
		"sorted":   idx,
		"unsorted": list{entries: entries(t, idx)},
		"opaque":   opaque{idx},
	} {
		t.Run(name, func(t *testing.T) {
			b, err := New(data, i)
			require.NoError(t, err)
			require.ElementsMatch(t, want, keys(t, b))
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
			b, err := New(data, i)
			require.NoError(t, err)
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
				b, err := New(data, idx)
				require.NoError(t, err)
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

func TestAnIndexOfTheDataFits(t *testing.T) {
	made := append(cartest.Blocks(101, 50, 1), cartest.Identity([]byte("x")))
	v1 := cartest.V1(nil, made)
	for _, car := range [][]byte{v1, cartest.V2(v1, cartest.V2Options{DataPadding: 9})} {
		data, _ := open(t, car)
		idx := index(t, data)
		for _, samples := range []int{-1, 0, 1, 2, 3, 101, 102, 1000} {
			require.NoError(t, Fits(t.Context(), data, idx, samples))
		}
		require.NoError(t, Fits(t.Context(), data, opaque{idx}, 5))
		require.NoError(t, Fits(t.Context(), data, list{}, 5))
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

// A flaky file fails to read from its middle on.
type flaky struct {
	io.ReaderAt
	io.Seeker
	io.Closer
	from int64
}

var errDisk = errors.New("disk broke")

func (f flaky) ReadAt(p []byte, off int64) (int, error) {
	if off >= f.from {
		return 0, errDisk
	}
	return f.ReaderAt.ReadAt(p, off)
}

func TestADiskThatFailsIsNoDamageAndNoMismatch(t *testing.T) {
	made := cartest.Blocks(20, 500, 1)
	_, file := open(t, cartest.V1(nil, made))
	data, err := mapped.Open(flaky{file, file, nil, 5000})
	require.NoError(t, err)
	whole, err := mapped.Open(file)
	require.NoError(t, err)
	idx := index(t, whole)

	err = Fits(t.Context(), data, idx, 20)
	require.ErrorIs(t, err, errDisk)
	require.NotErrorIs(t, err, ErrMismatch)
	b, err := New(data, idx)
	require.NoError(t, err)
	_, err = b.Get(t.Context(), made[19].Cid)
	require.ErrorIs(t, err, errDisk)
	require.NotErrorIs(t, err, carfile.ErrMalformed)

	var p *guard.PanicError
	nothing, err := mapped.Open(struct {
		io.ReaderAt
		io.Seeker
		io.Closer
	}{nil, file, nil})
	require.NoError(t, err)
	require.ErrorAs(t, Fits(t.Context(), nothing, idx, 1), &p)
	_, err = New(nothing, idx)
	require.ErrorAs(t, err, &p)
}
