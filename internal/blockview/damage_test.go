package blockview

import (
	"encoding/binary"
	"io"
	"testing"

	"github.com/ipfs/go-cid"
	carindex "github.com/ipld/go-car/v2/index"
	"github.com/multiformats/go-multicodec"
	"github.com/multiformats/go-multihash"
	"github.com/stretchr/testify/require"

	"github.com/filecoin-project/dagstore/internal/carfile"
	"github.com/filecoin-project/dagstore/internal/cartest"
	"github.com/filecoin-project/dagstore/internal/fullindex"
)

// lies are offsets at which no section of the data begins.
func lies(size int64) []uint64 {
	n := uint64(size)
	return []uint64{0, 1, n - 1, n, 1 << 62, 1<<63 - 1, 1 << 63, 1<<64 - 1}
}

func TestAnIndexThatLiesGivesErrorsAndNoSizes(t *testing.T) {
	made := cartest.Blocks(2, 100, 1)
	data, _ := open(t, cartest.V1(nil, made))
	truth := entries(t, index(t, data))
	for range 2 {
		for _, offset := range lies(data.Size()) {
			b, reports := suspect(t, data, list{entries: []entry{{offset: offset}}})
			require.ErrorIs(t, requireError(t, b, made[0].Cid), carfile.ErrMalformed, "offset %d", offset)
			require.Len(t, *reports, 1, "one report is enough")

			b, reports = suspect(t, data, list{entries: append([]entry{{offset: offset}, {offset: offset}}, truth...)})
			requireBlock(t, b, made[0]) // damaged offsets do not hide the right one
			require.Len(t, *reports, 1, "damage that a look-up survives is to be repaired")
		}
		require.NoError(t, data.Map())
	}
}

func TestAnIndexOfOursThatLiesIsReported(t *testing.T) {
	made := cartest.Blocks(2, 100, 1)
	data, _ := open(t, cartest.V1(nil, made))
	c := made[0].Cid
	other := records(t, data)[1].Offset
	for _, codec := range []multicodec.Code{multicodec.CarMultihashIndexSorted, multicodec.CarIndexSorted} {
		for _, offset := range append(lies(data.Size()), other) {
			lie := carindex.Record{Cid: c, Offset: offset}
			b, reports := suspect(t, data, ours(t, codec, []carindex.Record{lie}))
			require.ErrorIs(t, requireError(t, b, c), carfile.ErrMalformed, "offset %d", offset)
			require.Len(t, *reports, 1)

			if offset != 0 { // which the index itself refuses
				b, _ = suspect(t, data, ours(t, codec, append(records(t, data), lie)))
				requireBlock(t, b, made[0])
				requireBlock(t, b, made[1])
			}
		}
	}
}

func TestNobodyNeedsToKnowOfDamage(t *testing.T) {
	made := cartest.Blocks(2, 100, 1)
	data, _ := open(t, cartest.V1(nil, made))
	b, err := New(data, list{entries: []entry{{offset: 1}}}, nil)
	require.NoError(t, err)
	require.ErrorIs(t, requireError(t, b, made[0].Cid), carfile.ErrMalformed)
}

// The store may close the data when it hears of damage.
func TestNothingIsHeldWhileDamageIsReported(t *testing.T) {
	made := cartest.Blocks(2, 100, 1)
	data, _ := open(t, cartest.V1(nil, made))
	b, err := New(data, list{entries: []entry{{offset: 1}}}, func(error) { require.NoError(t, data.Close()) })
	require.NoError(t, err)
	_, err = b.Has(t.Context(), made[0].Cid)
	require.Error(t, err)
}

// An index of formats that are not known may point at candidates.
func TestAForeignIndexMayPointAtOtherBlocks(t *testing.T) {
	made := cartest.Blocks(3, 100, 1)
	data, _ := open(t, cartest.V1(nil, made))
	loose := list{}
	for _, r := range records(t, data) {
		loose.entries = append(loose.entries, entry{offset: r.Offset})
	}
	b := newBlocks(t, data, loose)
	for _, want := range made {
		requireBlock(t, b, want)
	}
	has, err := b.Has(t.Context(), cartest.Raw([]byte("absent")).Cid)
	require.NoError(t, err)
	require.False(t, has)
}

// keeper keeps what it is given, and is called again later.
type keeper struct {
	list
	visit func(uint64) bool
}

func (k *keeper) GetAll(c cid.Cid, visit func(uint64) bool) error {
	k.visit = visit
	return k.list.GetAll(c, visit)
}

func TestAnIndexThatCallsBackLateDoesNotKillTheProcess(t *testing.T) {
	made := cartest.Blocks(3, 100, 1)
	data, _ := open(t, cartest.V1(nil, made))
	require.NoError(t, data.Map())
	all := entries(t, index(t, data))
	idx := &keeper{list: list{entries: all}}
	b := newBlocks(t, data, idx)
	_, err := b.Get(t.Context(), cartest.Raw([]byte("absent")).Cid)
	require.Error(t, err)
	late := idx.visit
	requireBlock(t, b, made[0])
	require.True(t, late(all[1].offset))
	requireBlock(t, b, made[0])
	require.NoError(t, data.Close())
	require.False(t, late(all[1].offset))
}

func TestAnIndexFileThatIsCutIsDamageOfTheIndex(t *testing.T) {
	made := cartest.Blocks(1000, 10, 1)
	data, _ := open(t, cartest.V1(nil, made))
	for _, mapIt := range []bool{false, true} {
		if mapIt {
			require.NoError(t, data.Map())
		}
		for _, size := range []int64{0, 4096, 20_000} {
			idx, file := inFile(t, encoded(t, goCars(t, multicodec.CarMultihashIndexSorted, records(t, data))))
			b, reports := suspect(t, data, idx)
			require.NoError(t, file.Truncate(size))
			for _, want := range made {
				got, err := b.Get(t.Context(), want.Cid)
				if err == nil {
					require.Equal(t, want.Data, got.RawData())
					continue
				}
				require.ErrorIs(t, err, carfile.ErrMalformed)
				require.ErrorIs(t, err, fullindex.ErrMalformed)
			}
			require.Len(t, *reports, 1)
			require.ErrorIs(t, (*reports)[0], fullindex.ErrMalformed)
		}
	}
}

func TestAnIndexFileFullOfZerosIsDamageOfTheIndex(t *testing.T) {
	made := cartest.Blocks(100, 10, 1)
	data, _ := open(t, cartest.V1(nil, made))
	file := encoded(t, goCars(t, multicodec.CarMultihashIndexSorted, records(t, data)))
	clear(file[30:])
	full, err := fullindex.FromBytes(file)
	require.NoError(t, err)
	b, reports := suspect(t, data, full.CarIndex())
	require.ErrorIs(t, requireError(t, b, made[0].Cid), fullindex.ErrMalformed)
	require.Len(t, *reports, 1)
}

// Defect 14c: SIGBUS killed the process.
func TestTruncationUnderTheMappingDoesNotKillTheProcess(t *testing.T) {
	made := cartest.Blocks(20, 10_000, 1)
	data, file := open(t, cartest.V1(nil, made))
	require.NoError(t, data.Map())
	b := newBlocks(t, data, index(t, data))
	require.NoError(t, file.Truncate(4096*5))
	_, err := b.Get(t.Context(), made[0].Cid)
	require.NoError(t, err)
	err = requireError(t, b, made[19].Cid)
	require.ErrorIs(t, err, carfile.ErrMalformed)
	require.ErrorIs(t, err, carfile.ErrTruncated)
	require.ErrorIs(t, err, io.ErrUnexpectedEOF)
	require.NoError(t, file.Truncate(4096))
	_, err = b.Get(t.Context(), made[0].Cid)
	require.ErrorIs(t, err, io.ErrUnexpectedEOF)
	require.ErrorIs(t, b.GetMany(t.Context(), []cid.Cid{made[0].Cid}, fail), io.ErrUnexpectedEOF)
}

// The rest of the last page reads as zeros, for which the index is not to blame.
func TestTheRestOfACutPageIsNoBlockAndNoDamageOfTheIndex(t *testing.T) {
	made := cartest.Blocks(30, 100, 1)
	car := cartest.V1(nil, made)
	for _, cut := range []int64{1, 60, 99, 100, 101, 120, 135, 136, 137, 138, 500} {
		data, file := open(t, car)
		require.NoError(t, data.Map())
		b := newBlocks(t, data, index(t, data))
		b.HashOnRead(cut == 500)
		require.NoError(t, file.Truncate(int64(len(car))-cut))
		requireBlock(t, b, made[0])
		_, err := b.Get(t.Context(), made[29].Cid)
		require.ErrorIs(t, err, io.ErrUnexpectedEOF, "%d bytes cut", cut)
		require.ErrorIs(t, err, carfile.ErrTruncated)
		require.ErrorIs(t, b.View(t.Context(), made[29].Cid, notCalled(t)), io.ErrUnexpectedEOF)
		if _, err := b.GetSize(t.Context(), made[29].Cid); cut > 100 {
			require.ErrorIs(t, err, io.ErrUnexpectedEOF)
		}
		if _, err := b.Has(t.Context(), made[29].Cid); cut > 100 {
			require.ErrorIs(t, err, io.ErrUnexpectedEOF)
		}
	}
}

func TestZerosOfABlockAreItsOwn(t *testing.T) {
	made := []cartest.Block{cartest.Raw(make([]byte, 100)), cartest.Raw(make([]byte, 9000)),
		{Cid: cartest.Cid(multihash.BLAKE3, make([]byte, 32))}}
	b, data := view(t, cartest.V1(nil, made))
	require.NoError(t, data.Map())
	for _, want := range made {
		requireBlock(t, b, want)
	}
}

// Sections that overlap or run out of the payload are refused when the CAR is
// indexed; an index can still point at them.
func TestNoSectionIsReadBeyondThePayload(t *testing.T) {
	made := cartest.Blocks(1, 100, 1)
	v1 := cartest.V1(nil, made)
	at := uint64(len(v1) - len(cartest.Section(made[0])))
	for name, length := range map[string]uint64{"long": 137, "huge": 1<<63 - 1, "shorter than its CID": 35, "zero": 0} {
		hostile := append(append(v1[:at:at], binary.AppendUvarint(nil, length)...), v1[at+2:]...)
		for _, car := range [][]byte{hostile, cartest.V2(hostile, cartest.V2Options{Index: make([]byte, 1000)})} {
			data, _ := open(t, car)
			for range 2 {
				b, reports := suspect(t, data, ours(t, multicodec.CarMultihashIndexSorted,
					[]carindex.Record{{Cid: made[0].Cid, Offset: at}}))
				require.ErrorIs(t, requireError(t, b, made[0].Cid), carfile.ErrMalformed, name)
				require.Len(t, *reports, 1)
				require.NoError(t, data.Map())
			}
		}
	}
}
