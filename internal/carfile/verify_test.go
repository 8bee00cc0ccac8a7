package carfile_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ipfs/go-cid"
	"github.com/multiformats/go-multihash"
	"github.com/stretchr/testify/require"

	"github.com/filecoin-project/dagstore/internal/carfile"
	"github.com/filecoin-project/dagstore/internal/cartest"
	"github.com/filecoin-project/dagstore/internal/guard"
)

// honest returns blocks of many kinds that are all what their CIDs say.
func honest(n, size int, seed uint64) []cartest.Block {
	return slices.DeleteFunc(mixed(n, size, seed), func(b cartest.Block) bool { return b.Cid.Prefix().MhType == 0x3fffff })
}

// offsets returns where the sections of the blocks begin in a CAR with this header.
func offsets(header []byte, blocks []cartest.Block) (all []int64) {
	at := int64(len(header))
	for _, b := range blocks {
		all = append(all, at)
		at += int64(len(cartest.Section(b)))
	}
	return all
}

// requireErrorAt checks that err is of the section at offset.
func requireErrorAt(t *testing.T, want error, offset int64, err error) {
	t.Helper()
	require.ErrorIs(t, err, want)
	var e *carfile.Error
	require.ErrorAs(t, err, &e)
	require.Equal(t, "section", e.Part)
	require.Equal(t, offset, e.Offset)
}

func TestGoodBlocksOfEveryHashFunctionAreVerified(t *testing.T) {
	data := []byte("some data")
	var blocks []cartest.Block
	for code, length := range multihash.DefaultLengths {
		if code == multihash.IDENTITY || code == hookedHash {
			continue
		}
		for _, n := range []int{-1, length - 1, length / 2, 1} {
			blocks = append(blocks, cartest.Hashed(data, code, n))
		}
		none := cartest.Block{Cid: cartest.Cid(code, nil), Data: data} // no digest at all
		blocks = append(blocks, none)
	}
	require.Greater(t, len(blocks), 400)
	blocks = append(blocks,
		cartest.V0(data), cartest.Identity(nil), cartest.Identity(data), cartest.Identity(make([]byte, 2000)),
		cartest.Hashed(data, multihash.BLAKE3, 32), cartest.Hashed(data, multihash.BLAKE3, 128), // more than by default
	)
	for name, file := range containers(cartest.V1(nil, blocks)) {
		require.NoError(t, verified(file, 2), name)
	}
	big := cartest.BigBlocks(3, 700<<10, 1)
	big = append(big, cartest.Hashed(big[0].Data, multihash.BLAKE2B_MAX, -1), cartest.Hashed(big[1].Data, multihash.BLAKE3, 100))
	for _, goroutines := range []int{1, 2, 7} {
		require.NoError(t, verified(cartest.V1(nil, slices.Concat(big, honest(300, 100, 2), big, honest(9, 9000, 3))), goroutines))
	}
}

func TestEveryFlippedBitIsFound(t *testing.T) {
	blocks := slices.Concat(honest(20, 50, 1), cartest.BigBlocks(1, 600<<10, 1), honest(9, 3000, 2))
	header := cartest.Header(1, blocks[0].Cid)
	file := cartest.V1(nil, blocks)
	for i, offset := range offsets(header, blocks) {
		size := len(blocks[i].Data)
		for _, at := range []int{0, size / 2, size - 1} {
			where := int(offset) + len(cartest.Section(blocks[i])) - size + at
			file[where] ^= 0x10
			requireErrorAt(t, carfile.ErrHashMismatch, offset, verified(file, 2))
			file[where] ^= 0x10
		}
	}
	require.NoError(t, verified(file, 2))
}

func TestBlocksThatCannotBeWhatTheirCidsSay(t *testing.T) {
	data := []byte("some data")
	sum := cartest.Raw(data).Cid.Hash()[2:]
	big := make([]byte, 400<<10)
	for name, c := range map[string]struct {
		cid  cid.Cid
		data []byte
		want error
	}{
		"no hash function":                  {cartest.Cid(0x3fffff, make([]byte, 32)), data, carfile.ErrUnknownHash},
		"no hash function, big block":       {cartest.Cid(0x3fffff, make([]byte, 32)), big, carfile.ErrUnknownHash},
		"no hash function, empty digest":    {cartest.Cid(0x3fffff, nil), data, carfile.ErrUnknownHash},
		"no data":                           {cartest.Raw(data).Cid, nil, carfile.ErrHashMismatch},
		"data of another":                   {cartest.Raw(data).Cid, []byte("some Data"), carfile.ErrHashMismatch},
		"digest longer than sha2-256":       {cartest.Cid(0x12, slices.Concat(sum, []byte{0})), data, carfile.ErrHashMismatch},
		"digest longer than sha2-512":       {cartest.Cid(0x13, make([]byte, 65)), data, carfile.ErrHashMismatch},
		"digest longer than blake3":         {cartest.Cid(multihash.BLAKE3, make([]byte, 129)), data, carfile.ErrHashMismatch},
		"sha2-256 under the code of sha3":   {cartest.Cid(multihash.SHA3_256, sum), data, carfile.ErrHashMismatch},
		"identity of something else":        {cartest.Identity([]byte("some Data")).Cid, data, carfile.ErrHashMismatch},
		"identity of the beginning":         {cartest.Identity(data[:4]).Cid, data, carfile.ErrHashMismatch},
		"identity of more":                  {cartest.Identity(data).Cid, data[:4], carfile.ErrHashMismatch},
		"identity of nothing":               {cartest.Identity(nil).Cid, data, carfile.ErrHashMismatch},
		"identity of nothing, big block":    {cartest.Identity(nil).Cid, big, carfile.ErrHashMismatch},
		"sha2-256 of a big block":           {cartest.Raw(data).Cid, big, carfile.ErrHashMismatch},
		"no hash function after a good one": {cartest.Cid(0x3ffffe, sum), data, carfile.ErrUnknownHash},
	} {
		good := honest(9, 20, 1)
		blocks := slices.Concat(good, []cartest.Block{{Cid: c.cid, Data: c.data}}, good)
		file := cartest.V1(nil, blocks)
		at := offsets(cartest.Header(1, blocks[0].Cid), blocks)[len(good)]
		t.Run(name, func(t *testing.T) { requireErrorAt(t, c.want, at, verified(file, 2)) })
	}
}

// TestFirstBadBlockIsNamedWhoeverIsFaster: of several faults the one of the
// smallest offset is the result, with any number of goroutines.
func TestFirstBadBlockIsNamedWhoeverIsFaster(t *testing.T) {
	blocks := slices.Concat(cartest.BigBlocks(600, 500, 1), cartest.BigBlocks(4, 300<<10, 2), cartest.BigBlocks(600, 500, 3))
	header := cartest.Header(1, blocks[0].Cid)
	at := offsets(header, blocks)
	whole := cartest.V1(nil, blocks)
	bad := func(spoil ...int) []byte {
		file := slices.Clone(whole)
		for _, i := range spoil {
			file[int(at[i])+60] ^= 1 // in the block
		}
		return file
	}
	noCid := func(file []byte, i int) []byte {
		file[int(at[i])+len(uvarint(uint64(len(blocks[i].Data))))] = 7 // the version of the CID
		return file
	}
	for range 2 {
		for _, n := range []int{1, 2, 5} {
			requireErrorAt(t, carfile.ErrHashMismatch, at[601], verified(bad(601, 602, 603, 900), n))
			requireErrorAt(t, carfile.ErrHashMismatch, at[550], verified(bad(550, 551, 601, 1203), n))
			requireErrorAt(t, carfile.ErrHashMismatch, at[602], verified(noCid(bad(602), 610), n))
			requireErrorAt(t, carfile.ErrMalformed, at[601], verified(noCid(bad(603), 601), n))
			requireErrorAt(t, carfile.ErrMalformed, at[450], verified(noCid(bad(451), 450), n))
		}
	}
	stop := errors.New("stop")
	scan := func(file []byte, last int64) error {
		return carfile.Scan(t.Context(), bytes.NewReader(file), int64(len(file)), carfile.Options{Verify: 3}, func(s *carfile.Section) error {
			if s.Offset == last {
				return stop
			}
			return nil
		})
	}
	require.Equal(t, stop, scan(bad(601), at[600]))
	require.Equal(t, stop, scan(bad(450), at[450]))
	requireErrorAt(t, carfile.ErrHashMismatch, at[601], scan(bad(601), at[603]))
}

func TestVerifyingLeavesNoGoroutineBehind(t *testing.T) {
	blocks := slices.Concat(cartest.BigBlocks(3, 500<<10, 1), cartest.BigBlocks(1000, 2000, 1))
	good := cartest.V1(nil, blocks)
	bad := slices.Clone(good)
	bad[len(bad)/2] ^= 1
	boom := errors.New("boom")
	for name, c := range map[string]struct {
		r     io.ReaderAt
		visit func(*carfile.Section) error
		want  error
	}{
		"good":    {bytes.NewReader(good), nothing, nil},
		"bad":     {bytes.NewReader(bad), nothing, carfile.ErrHashMismatch},
		"visit":   {bytes.NewReader(good), func(*carfile.Section) error { return boom }, boom},
		"reader":  {brokenReader{bytes.NewReader(good), 2 << 20, func() error { return boom }}, nothing, boom},
		"panics":  {brokenReader{bytes.NewReader(good), 2 << 20, func() error { panic(boom) }}, nothing, boom},
		"panics,": {bytes.NewReader(good), func(*carfile.Section) error { panic(boom) }, boom},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { // fails if a goroutine is left
				err := carfile.Scan(t.Context(), c.r, int64(len(good)), carfile.Options{Verify: 3}, c.visit)
				require.ErrorIs(t, err, c.want)
			})
		})
	}
}

// pieceReader calls read before each read of a piece of a big block.
type pieceReader struct {
	io.ReaderAt
	read func()
}

func (r pieceReader) ReadAt(p []byte, off int64) (int, error) {
	if len(p) == 256<<10 {
		r.read()
	}
	return r.ReaderAt.ReadAt(p, off)
}

func TestCancelEndsTheVerificationOfABigBlock(t *testing.T) {
	file := cartest.V1(nil, cartest.BigBlocks(1, 8<<20, 1))
	ctx, cancel := context.WithCancel(t.Context())
	pieces := 0
	r := pieceReader{bytes.NewReader(file), func() {
		if pieces++; pieces == 3 {
			cancel()
		}
	}}
	err := carfile.Scan(ctx, r, int64(len(file)), carfile.Options{Verify: 1}, nothing)
	require.ErrorIs(t, err, context.Canceled)
	require.Equal(t, 3, pieces)
}

func TestCancelEndsTheVerificationBetweenBlocks(t *testing.T) {
	block := cartest.Block{Cid: cartest.Cid(hookedHash, nil), Data: make([]byte, 100<<10)}
	file := cartest.V1(nil, slices.Repeat([]cartest.Block{block}, 9))
	ctx, cancel := context.WithCancel(t.Context())
	hashed := 0
	hook = func() { hashed++; cancel() }
	err := carfile.Scan(ctx, bytes.NewReader(file), int64(len(file)), carfile.Options{Verify: 1}, nothing)
	require.ErrorIs(t, err, context.Canceled)
	require.Equal(t, 1, hashed)
}

// TestBadBlockEndsTheVerificationOfABigOneBehindIt: the answer does not wait for
// gigabytes that cannot change it any more.
func TestBadBlockEndsTheVerificationOfABigOneBehindIt(t *testing.T) {
	bad := cartest.Block{Cid: cartest.Cid(hookedHash, make([]byte, 32)), Data: []byte("bad")}
	blocks := slices.Concat([]cartest.Block{bad}, cartest.BigBlocks(100, 500, 1), cartest.BigBlocks(1, 4<<20, 2))
	file := cartest.V1(nil, blocks)
	synctest.Test(t, func(t *testing.T) {
		hook = func() { time.Sleep(time.Minute) } // until the big block is begun
		pieces := 0
		r := pieceReader{bytes.NewReader(file), func() { pieces++; time.Sleep(time.Hour) }} // until the bad one is found
		err := carfile.Scan(t.Context(), r, int64(len(file)), carfile.Options{Verify: 2}, nothing)
		requireErrorAt(t, carfile.ErrHashMismatch, int64(len(cartest.Header(1, bad.Cid))), err)
		require.Equal(t, 1, pieces)
	})
}

func TestBadBlockEndsTheScanOfTheRest(t *testing.T) {
	file := cartest.V1(nil, cartest.BigBlocks(80, 100<<10, 1))
	file[200] ^= 1
	r := &countingReader{ReaderAt: bytes.NewReader(file)}
	err := carfile.Scan(t.Context(), r, int64(len(file)), carfile.Options{Verify: 1}, nothing)
	require.ErrorIs(t, err, carfile.ErrHashMismatch)
	require.Less(t, r.end, int64(4<<20))
}

// changingReader gives other bytes each time, but of a block only.
type changingReader struct {
	io.ReaderAt
	from, to int64
	reads    atomic.Int64
}

func (r *changingReader) ReadAt(p []byte, off int64) (int, error) {
	n, err := r.ReaderAt.ReadAt(p, off)
	if off <= r.from && r.to <= off+int64(n) && r.reads.Add(1) > 1 {
		clear(p[r.from-off : r.to-off])
	}
	return n, err
}

// TestBytesThatWereVisitedAreTheBytesThatAreVerified: a file that changes while
// it is scanned does not get an index of blocks that were never compared.
func TestBytesThatWereVisitedAreTheBytesThatAreVerified(t *testing.T) {
	blocks := honest(100, 100, 1)
	file := cartest.V1(nil, blocks)
	from := offsets(cartest.Header(1, blocks[0].Cid), blocks)[50]
	r := &changingReader{ReaderAt: bytes.NewReader(file), from: from, to: from + 80}
	require.NoError(t, carfile.Scan(t.Context(), r, int64(len(file)), carfile.Options{Verify: 2}, nothing))
	require.Equal(t, int64(1), r.reads.Load())
}

func TestHashFunctionThatPanicsGivesAnError(t *testing.T) {
	file := cartest.V1(nil, []cartest.Block{{Cid: cartest.Cid(hookedHash, make([]byte, 4)), Data: []byte("data")}})
	hook = func() { panic("boom") }
	var p *guard.PanicError
	require.ErrorAs(t, verified(file, 2), &p)
	require.NoError(t, verified(file, 0))
}

func TestVerifyingDoesNotDependOnTheWindows(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	blocks := slices.Concat(honest(40, 60, 1), cartest.Blocks(2, 5000, 1), honest(20, 300, 2))
	file := cartest.V1(nil, blocks)
	want, err := sections(file)
	require.NoError(t, err)
	for range 60 {
		w := randomWindows(r, 1000)
		got, err := scanWindows(t, file, w, 1+r.IntN(3))
		require.NoError(t, err, "%+v", w)
		require.Equal(t, want, got)

		i := r.IntN(len(want))
		if want[i].DataSize == 0 {
			continue
		}
		bad := slices.Clone(file)
		bad[want[i].DataOffset+r.Int64N(want[i].DataSize)] ^= 1
		_, err = scanWindows(t, bad, w, 2)
		requireErrorAt(t, carfile.ErrHashMismatch, want[i].Offset, err)
	}
}

func BenchmarkVerify(b *testing.B) {
	for _, size := range []int{256, 10 << 10, 1 << 20} {
		file := cartest.V1(nil, cartest.BigBlocks((64<<20)/size, size, 1))
		for _, n := range []int{1, 2} {
			b.Run(fmt.Sprintf("%dB/%d", size, n), func(b *testing.B) {
				b.SetBytes(int64(len(file)))
				for b.Loop() {
					if err := verified(file, n); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}
