package blockview

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"testing"

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

// open returns the bytes of a CAR in a real file, closed at the end of the test.
func open(t *testing.T, car []byte) (*mapped.Data, *os.File) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "car")
	require.NoError(t, os.WriteFile(path, car, 0o600))
	file, err := os.OpenFile(path, os.O_RDWR, 0)
	require.NoError(t, err)
	data, err := mapped.Open(file)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, data.Close()) })
	return data, file
}

func index(t *testing.T, data *mapped.Data) carindex.IterableIndex {
	t.Helper()
	idx, err := carfile.Index(t.Context(), data, data.Size())
	require.NoError(t, err)
	return idx.(carindex.IterableIndex)
}

func view(t *testing.T, car []byte) (*Blocks, *mapped.Data) {
	t.Helper()
	data, _ := open(t, car)
	b, err := New(data, index(t, data))
	require.NoError(t, err)
	return b, data
}

// A list is an index of any entries, true or not.
type list struct {
	carindex.Index // nil: what the tests do not need panics
	codec          multicodec.Code
	entries        []entry
	err            error
}

type entry struct {
	hash   multihash.Multihash
	offset uint64
}

func (l list) Codec() multicodec.Code { return l.codec }

func (l list) GetAll(_ cid.Cid, visit func(uint64) bool) error {
	for _, e := range l.entries {
		visit(e.offset) // goes on when told to stop
	}
	return l.err
}

func (l list) ForEach(visit func(multihash.Multihash, uint64) error) error {
	for _, e := range l.entries {
		if err := visit(e.hash, e.offset); err != nil {
			return err
		}
	}
	return l.err
}

func entries(t *testing.T, idx carindex.IterableIndex) []entry {
	t.Helper()
	var all []entry
	require.NoError(t, idx.ForEach(func(mh multihash.Multihash, offset uint64) error {
		all = append(all, entry{bytes.Clone(mh), offset})
		return nil
	}))
	return all
}

// opaque hides ForEach.
type opaque struct{ carindex.Index }

func TestEveryBlockIsFound(t *testing.T) {
	made := append(cartest.Blocks(50, 300, 1), cartest.V0([]byte("zero")), cartest.Raw(nil),
		cartest.Hashed([]byte("short"), multihash.SHA2_512, 20))
	v1 := cartest.V1(nil, made)
	cars := map[string][]byte{
		"v1": v1, "v1 padded": cartest.Padded(v1, 99),
		"v2": cartest.V2(v1, cartest.V2Options{DataPadding: 77, Index: []byte("nonsense")}),
	}
	for name, car := range cars {
		t.Run(name, func(t *testing.T) {
			b, data := view(t, car)
			b.HashOnRead(true)
			for i, want := range made {
				if i == len(made)/2 {
					require.NoError(t, data.Map())
				}
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
			}
		})
	}
}

func TestABlockIsFoundUnderAnotherCodec(t *testing.T) {
	made := cartest.Blocks(3, 100, 1)
	b, _ := view(t, cartest.V1(nil, made))
	c := cid.NewCidV1(cid.DagProtobuf, made[1].Cid.Hash())
	got, err := b.Get(t.Context(), c)
	require.NoError(t, err)
	require.Equal(t, c, got.Cid())
	require.Equal(t, made[1].Data, got.RawData())
}

func TestAnAbsentBlockIsNotFound(t *testing.T) {
	b, _ := view(t, cartest.V1(nil, cartest.Blocks(3, 100, 1)))
	absent := cartest.Raw([]byte("absent")).Cid
	_, err := b.Get(t.Context(), absent)
	require.Equal(t, ipld.ErrNotFound{Cid: absent}, err)
	_, err = b.GetSize(t.Context(), absent)
	require.True(t, ipld.IsNotFound(err))
	has, err := b.Has(t.Context(), absent)
	require.NoError(t, err)
	require.False(t, has)

	_, err = b.Get(t.Context(), cid.Undef)
	require.ErrorIs(t, err, errUndefined)
	_, err = b.Has(t.Context(), cid.Undef)
	require.ErrorIs(t, err, errUndefined)
}

func TestIdentityBlocksNeedNoSection(t *testing.T) {
	b, _ := view(t, cartest.V1(nil, cartest.Blocks(1, 100, 1)))
	b.HashOnRead(true)
	for _, inline := range []string{"", "hello"} {
		c := cartest.Identity([]byte(inline)).Cid
		got, err := b.Get(t.Context(), c)
		require.NoError(t, err)
		require.Equal(t, inline, string(got.RawData()))
		size, err := b.GetSize(t.Context(), c)
		require.NoError(t, err)
		require.Equal(t, len(inline), size)
		has, err := b.Has(t.Context(), c)
		require.NoError(t, err)
		require.True(t, has)
	}
}

// Defect 22b: HashOnRead did nothing.
func TestAFlippedBitIsSeenByHashOnRead(t *testing.T) {
	made := cartest.Blocks(2, 100, 1)
	car := cartest.V1(nil, made)
	car[len(car)-1] ^= 1
	b, _ := view(t, car)
	_, err := b.Get(t.Context(), made[1].Cid)
	require.NoError(t, err)
	b.HashOnRead(true)
	_, err = b.Get(t.Context(), made[1].Cid)
	require.ErrorIs(t, err, ErrHashMismatch)
	_, err = b.Get(t.Context(), made[0].Cid)
	require.NoError(t, err)

	require.Error(t, checkHash(cid.Undef, nil))
	require.Error(t, checkHash(cartest.Cid(0x300001, []byte("unknown function")), nil))
}

// An index of codec 0x0400 knows digests only, not by which function.
func TestABlockOfAnotherHashFunctionIsNotTaken(t *testing.T) {
	made := cartest.Blocks(1, 100, 1)
	decoded, err := multihash.Decode(made[0].Cid.Hash())
	require.NoError(t, err)
	twin := cartest.Block{Cid: cartest.Cid(multihash.BLAKE3, decoded.Digest), Data: []byte("twin")}
	data, _ := open(t, cartest.V1(nil, []cartest.Block{twin, made[0]}))
	var records []carindex.Record
	for _, e := range entries(t, index(t, data)) {
		records = append(records, carindex.Record{Cid: cid.NewCidV1(cid.Raw, e.hash), Offset: e.offset})
	}
	sorted, err := carindex.New(multicodec.CarIndexSorted)
	require.NoError(t, err)
	require.NoError(t, sorted.Load(records))
	b, err := New(data, sorted)
	require.NoError(t, err)
	for _, want := range []cartest.Block{twin, made[0]} {
		got, err := b.Get(t.Context(), want.Cid)
		require.NoError(t, err)
		require.Equal(t, want.Data, got.RawData())
	}
	other := cartest.Cid(multihash.SHA3_256, decoded.Digest)
	_, err = b.Get(t.Context(), other)
	require.True(t, ipld.IsNotFound(err))
}

func TestAnIndexThatLiesGivesErrorsAndNoSizes(t *testing.T) {
	made := cartest.Blocks(2, 100, 1)
	data, _ := open(t, cartest.V1(nil, made))
	truth := entries(t, index(t, data))
	for _, offset := range []uint64{0, 1, uint64(data.Size()) - 1, uint64(data.Size()), 1 << 62, 1<<63 - 1, 1 << 63, 1<<64 - 1} {
		b, err := New(data, list{entries: []entry{{offset: offset}}})
		require.NoError(t, err)
		size, err := b.GetSize(t.Context(), made[0].Cid)
		require.ErrorIs(t, err, carfile.ErrMalformed, "offset %d", offset)
		require.Zero(t, size)
		has, err := b.Has(t.Context(), made[0].Cid)
		require.Error(t, err)
		require.False(t, has)

		b, err = New(data, list{entries: append([]entry{{offset: offset}, {offset: offset}}, truth...)})
		require.NoError(t, err)
		got, err := b.Get(t.Context(), made[0].Cid)
		require.NoError(t, err, "damaged offsets hide the right one")
		require.Equal(t, made[0].Data, got.RawData())
	}
}

func TestAnIndexThatPanicsDoesNotKillTheProcess(t *testing.T) {
	made := cartest.Blocks(1, 100, 1)
	data, _ := open(t, cartest.V1(nil, made))
	var p *guard.PanicError
	b, err := New(data, opaque{})
	require.NoError(t, err)
	_, err = b.Get(t.Context(), made[0].Cid)
	require.ErrorAs(t, err, &p)

	broken := errors.New("broken")
	b, err = New(data, list{err: broken})
	require.NoError(t, err)
	_, err = b.Get(t.Context(), made[0].Cid)
	require.ErrorIs(t, err, broken)
	require.ErrorContains(t, err, made[0].Cid.String())
}

func TestNoBlocksOfWhatIsNoCar(t *testing.T) {
	data, _ := open(t, []byte("this is no car at all"))
	_, err := New(data, list{})
	require.Error(t, err)
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
	_, err = b.AllKeysChan(ctx)
	require.ErrorIs(t, err, context.Canceled)
	require.ErrorIs(t, Fits(ctx, data, index(t, data), 3), context.Canceled)
	require.ErrorIs(t, Fits(ctx, data, list{}, 0), context.Canceled)

	ctx, cancel = context.WithCancel(t.Context())
	b, err = New(data, cancelling{cancel})
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
	}
	_, err := b.AllKeysChan(t.Context())
	require.Equal(t, fs.ErrClosed, err)
	require.ErrorIs(t, Fits(t.Context(), data, list{}, 1), fs.ErrClosed)
}

// Defect 14b: SIGSEGV killed the process.
func TestGetBesideCloseDoesNotKillTheProcess(t *testing.T) {
	made := cartest.Blocks(20, 1000, 1)
	car := cartest.V1(nil, made)
	path := filepath.Join(t.TempDir(), "car")
	require.NoError(t, os.WriteFile(path, car, 0o600))
	whole, _ := open(t, car)
	idx := index(t, whole)
	for range 60 {
		file, err := os.Open(path)
		require.NoError(t, err)
		data, err := mapped.Open(file)
		require.NoError(t, err)
		require.NoError(t, data.Map())
		b, err := New(data, idx)
		require.NoError(t, err)
		var readers sync.WaitGroup
		begun := make(chan struct{}, 4)
		for range cap(begun) {
			readers.Go(func() {
				for i := 0; ; i++ {
					want := made[i%len(made)]
					got, err := b.Get(context.Background(), want.Cid)
					if i == 0 {
						begun <- struct{}{}
					}
					if err == fs.ErrClosed { //nolint:errorlint // the bare value is promised
						return
					}
					if err != nil || !bytes.Equal(want.Data, got.RawData()) {
						t.Errorf("Get beside Close: %v", err)
						return
					}
				}
			})
		}
		<-begun
		require.NoError(t, data.Close())
		readers.Wait()
	}
}

// Defect 14c: SIGBUS killed the process.
func TestTruncationUnderTheMappingDoesNotKillTheProcess(t *testing.T) {
	made := cartest.Blocks(20, 10_000, 1)
	data, file := open(t, cartest.V1(nil, made))
	require.NoError(t, data.Map())
	b, err := New(data, index(t, data))
	require.NoError(t, err)
	require.NoError(t, file.Truncate(4096*5))
	_, err = b.Get(t.Context(), made[0].Cid)
	require.NoError(t, err)
	_, err = b.Get(t.Context(), made[19].Cid)
	require.ErrorIs(t, err, carfile.ErrMalformed)
	require.ErrorIs(t, err, io.ErrUnexpectedEOF)
	require.NoError(t, file.Truncate(4096))
	_, err = b.Get(t.Context(), made[0].Cid)
	require.ErrorIs(t, err, io.ErrUnexpectedEOF)
}
