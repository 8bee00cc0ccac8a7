package blockview

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"testing"

	blocks "github.com/ipfs/go-block-format"
	"github.com/ipfs/go-cid"
	ipld "github.com/ipfs/go-ipld-format"
	carindex "github.com/ipld/go-car/v2/index"
	"github.com/multiformats/go-multicodec"
	"github.com/multiformats/go-multihash"
	"github.com/stretchr/testify/require"

	"github.com/filecoin-project/dagstore/internal/carfile"
	"github.com/filecoin-project/dagstore/internal/cartest"
	"github.com/filecoin-project/dagstore/internal/guard"
	"github.com/filecoin-project/dagstore/internal/mapped"
)

// requireBlock requires that every method finds the block.
func requireBlock(t *testing.T, b *Blocks, want cartest.Block) {
	t.Helper()
	got, err := b.Get(t.Context(), want.Cid)
	require.NoError(t, err)
	require.Equal(t, want.Cid, got.Cid())
	require.True(t, bytes.Equal(want.Data, got.RawData()))
	has, err := b.Has(t.Context(), want.Cid)
	require.NoError(t, err)
	require.True(t, has)
	size, err := b.GetSize(t.Context(), want.Cid)
	require.NoError(t, err)
	require.Equal(t, len(want.Data), size)
	calls := 0
	require.NoError(t, b.View(t.Context(), want.Cid, func(data []byte) error {
		calls++
		require.True(t, bytes.Equal(want.Data, data))
		return nil
	}))
	require.Equal(t, 1, calls)
}

// requireError requires that no method finds the block, nor says that it is
// absent, and returns the error of Get.
func requireError(t *testing.T, b *Blocks, c cid.Cid) error {
	t.Helper()
	_, err := b.Get(t.Context(), c)
	require.Error(t, err)
	require.False(t, ipld.IsNotFound(err))
	text := err.Error()
	has, err := b.Has(t.Context(), c)
	require.EqualError(t, err, text)
	require.False(t, has)
	size, err := b.GetSize(t.Context(), c)
	require.EqualError(t, err, text)
	require.Zero(t, size)
	require.EqualError(t, b.View(t.Context(), c, notCalled(t)), text)
	require.NoError(t, b.GetMany(t.Context(), []cid.Cid{c}, func(_ int, _ blocks.Block, err error) error {
		require.EqualError(t, err, text)
		return nil
	}))
	_, err = b.Get(t.Context(), c)
	return err
}

// notCalled is for View where there is no block.
func notCalled(t *testing.T) func([]byte) error {
	return func([]byte) error {
		t.Error("there is nothing to view")
		return nil
	}
}

func TestEveryBlockIsFound(t *testing.T) {
	made := append(cartest.Blocks(50, 300, 1), cartest.V0([]byte("zero")), cartest.Raw(nil),
		cartest.Hashed([]byte("short"), multihash.SHA2_512, 20), cartest.Hashed([]byte("cut"), multihash.SHA2_256, 9),
		cartest.Raw(make([]byte, 5000)), cartest.Raw(bytes.Repeat([]byte("large"), 1000)))
	v1 := cartest.V1(nil, made)
	cars := map[string][]byte{
		"v1": v1, "v1 padded": cartest.Padded(v1, 99),
		"v2": cartest.V2(v1, cartest.V2Options{DataPadding: 77, Index: []byte("nonsense")}),
	}
	for name, car := range cars {
		t.Run(name, func(t *testing.T) {
			data, _ := open(t, car)
			for name, idx := range indices(t, data) {
				t.Run(name, func(t *testing.T) {
					data, _ := open(t, car)
					b := newBlocks(t, data, idx)
					b.HashOnRead(true)
					for _, want := range made {
						requireBlock(t, b, want)
					}
					require.NoError(t, data.Map())
					for _, want := range made {
						requireBlock(t, b, want)
					}
				})
			}
		})
	}
}

func TestABlockIsFoundUnderAnotherCodecAndVersion(t *testing.T) {
	made := cartest.Blocks(3, 100, 1)
	b, _ := view(t, cartest.V1(nil, made))
	for _, c := range []cid.Cid{cid.NewCidV1(cid.DagProtobuf, made[1].Cid.Hash()), cid.NewCidV0(made[1].Cid.Hash())} {
		requireBlock(t, b, cartest.Block{Cid: c, Data: made[1].Data})
	}
}

func TestAnAbsentBlockIsNotFound(t *testing.T) {
	data, _ := open(t, cartest.V1(nil, cartest.Blocks(3, 100, 1)))
	absent := cartest.Raw([]byte("absent")).Cid
	for name, idx := range indices(t, data) {
		t.Run(name, func(t *testing.T) {
			b := newBlocks(t, data, idx)
			_, err := b.Get(t.Context(), absent)
			require.Equal(t, ipld.ErrNotFound{Cid: absent}, err)
			_, err = b.GetSize(t.Context(), absent)
			require.True(t, ipld.IsNotFound(err))
			require.True(t, ipld.IsNotFound(b.View(t.Context(), absent, notCalled(t))))
			has, err := b.Has(t.Context(), absent)
			require.NoError(t, err)
			require.False(t, has)
		})
	}
}

func TestACidThatIsNoneIsAnError(t *testing.T) {
	b, _ := view(t, cartest.V1(nil, cartest.Blocks(3, 100, 1)))
	require.ErrorIs(t, requireError(t, b, cid.Undef), errUndefined)
	require.ErrorIs(t, requireError(t, b, cid.NewCidV1(cid.Raw, multihash.Multihash("x"))), errNoMultihash)
}

func TestIdentityBlocksNeedNoSection(t *testing.T) {
	b, _ := view(t, cartest.V1(nil, cartest.Blocks(1, 100, 1)))
	b.HashOnRead(true)
	for _, inline := range []string{"", "hello"} {
		requireBlock(t, b, cartest.Identity([]byte(inline)))
	}
	c := cartest.Identity([]byte("hello")).Cid
	require.NoError(t, b.View(t.Context(), c, func(data []byte) error {
		data[0] = 'j'
		return nil
	}))
	require.Equal(t, cartest.Identity([]byte("hello")).Cid, c, "a CID was written to")
}

// Defect 22b: HashOnRead did nothing.
func TestAFlippedBitIsSeenByHashOnRead(t *testing.T) {
	for name, made := range map[string][]cartest.Block{
		"sha2-256": cartest.Blocks(2, 100, 1),
		"cut":      {cartest.Raw([]byte("good")), cartest.Hashed(make([]byte, 50), multihash.SHA2_256, 7)},
		"sha2-512": {cartest.Raw([]byte("good")), cartest.Hashed(make([]byte, 50), multihash.SHA2_512, -1)},
		"large":    cartest.Blocks(2, 10_000, 1),
	} {
		t.Run(name, func(t *testing.T) {
			car := cartest.V1(nil, made)
			car[len(car)-1] ^= 1
			b, data := view(t, car)
			for range 2 {
				b.HashOnRead(false)
				_, err := b.Get(t.Context(), made[1].Cid)
				require.NoError(t, err)
				b.HashOnRead(true)
				_, err = b.Get(t.Context(), made[1].Cid)
				require.ErrorIs(t, err, carfile.ErrHashMismatch)
				require.ErrorIs(t, b.View(t.Context(), made[1].Cid, notCalled(t)), carfile.ErrHashMismatch)
				_, err = b.Get(t.Context(), made[0].Cid)
				require.NoError(t, err)
				require.NoError(t, data.Map())
			}
		})
	}
	require.Error(t, checkHash(cid.Undef, nil))
	require.Error(t, checkHash(cartest.Cid(0x300001, []byte("unknown function")), nil))
	require.Error(t, checkHash(cartest.Cid(multihash.SHA2_256, make([]byte, 33)), nil))
}

// An index of codec 0x0400 knows digests only, not by which function.
func TestABlockOfAnotherHashFunctionIsNotTaken(t *testing.T) {
	made := cartest.Blocks(1, 100, 1)
	decoded, err := multihash.Decode(made[0].Cid.Hash())
	require.NoError(t, err)
	twin := cartest.Block{Cid: cartest.Cid(multihash.BLAKE3, decoded.Digest), Data: []byte("twin")}
	data, _ := open(t, cartest.V1(nil, []cartest.Block{twin, made[0]}))
	all := records(t, data)
	for _, idx := range []carindex.Index{goCars(t, multicodec.CarIndexSorted, all), ours(t, multicodec.CarIndexSorted, all)} {
		b := newBlocks(t, data, idx)
		for _, want := range []cartest.Block{twin, made[0]} {
			requireBlock(t, b, want)
		}
		other := cartest.Cid(multihash.SHA3_256, decoded.Digest)
		_, err = b.Get(t.Context(), other)
		require.True(t, ipld.IsNotFound(err))
	}
}

func TestAnIndexThatPanicsDoesNotKillTheProcess(t *testing.T) {
	made := cartest.Blocks(1, 100, 1)
	data, _ := open(t, cartest.V1(nil, made))
	var p *guard.PanicError
	b := newBlocks(t, data, opaque{})
	_, err := b.Get(t.Context(), made[0].Cid)
	require.ErrorAs(t, err, &p)

	broken := errors.New("broken")
	b = newBlocks(t, data, list{err: broken})
	_, err = b.Get(t.Context(), made[0].Cid)
	require.ErrorIs(t, err, broken)
	require.ErrorContains(t, err, made[0].Cid.String())
}

func TestNoBlocksOfWhatIsNoCar(t *testing.T) {
	for _, what := range []string{"this is no car at all", "\x00zero", ""} {
		data, _ := open(t, []byte(what))
		_, err := New(data, list{}, nil)
		require.Error(t, err)
	}
}

func TestACallOfAnEndedContextReturnsItsError(t *testing.T) {
	made := cartest.Blocks(2, 100, 1)
	b, data := view(t, cartest.V1(nil, made))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := b.Get(ctx, made[0].Cid)
	require.ErrorIs(t, err, context.Canceled)
	_, err = b.Has(ctx, made[0].Cid)
	require.ErrorIs(t, err, context.Canceled)
	_, err = b.GetSize(ctx, made[0].Cid)
	require.ErrorIs(t, err, context.Canceled)
	require.ErrorIs(t, b.View(ctx, made[0].Cid, notCalled(t)), context.Canceled)
	require.ErrorIs(t, b.GetMany(ctx, nil, nil), context.Canceled)
	_, err = b.AllKeysChan(ctx)
	require.ErrorIs(t, err, context.Canceled)
	require.ErrorIs(t, Fits(ctx, data, index(t, data), 3), context.Canceled)
	require.ErrorIs(t, Fits(ctx, data, list{}, 0), context.Canceled)

	ctx, cancel = context.WithCancel(t.Context())
	b, err = New(data, cancelling{cancel}, nil)
	require.NoError(t, err)
	_, err = b.Get(ctx, made[0].Cid)
	require.ErrorIs(t, err, context.Canceled)
}

// cancelling ends the context in the middle of a search.
type cancelling struct{ cancel func() }

func (cancelling) Codec() multicodec.Code            { return 0 }
func (cancelling) Marshal(io.Writer) (uint64, error) { return 0, nil }
func (cancelling) Unmarshal(io.Reader) error         { return nil }
func (cancelling) Load([]carindex.Record) error      { return nil }
func (i cancelling) GetAll(_ cid.Cid, visit func(uint64) bool) error {
	visit(0)
	i.cancel()
	visit(0)
	return nil
}

func TestAfterCloseEveryMethodIsClosed(t *testing.T) {
	made := cartest.Blocks(2, 100, 1)
	b, data := view(t, cartest.V1(nil, made))
	require.NoError(t, data.Close())
	for _, c := range []cid.Cid{made[0].Cid, cartest.Identity([]byte("x")).Cid, cid.Undef} {
		_, err := b.Get(t.Context(), c)
		require.Equal(t, fs.ErrClosed, err)
		_, err = b.GetSize(t.Context(), c)
		require.Equal(t, fs.ErrClosed, err)
		_, err = b.Has(t.Context(), c)
		require.Equal(t, fs.ErrClosed, err)
		require.Equal(t, fs.ErrClosed, b.View(t.Context(), c, notCalled(t)))
		require.Equal(t, fs.ErrClosed, b.GetMany(t.Context(), []cid.Cid{c}, nil))
	}
	require.Equal(t, fs.ErrClosed, b.GetMany(t.Context(), nil, nil))
	_, err := b.AllKeysChan(t.Context())
	require.Equal(t, fs.ErrClosed, err)
	require.ErrorIs(t, Fits(t.Context(), data, list{}, 1), fs.ErrClosed)
	_, err = New(data, list{}, nil)
	require.ErrorIs(t, err, fs.ErrClosed)
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
	err = requireError(t, newBlocks(t, data, idx), made[19].Cid)
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
	_, err = New(nothing, idx, nil)
	require.ErrorAs(t, err, &p)
}

var errDisk = errors.New("disk broke")
