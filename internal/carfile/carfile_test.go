package carfile_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"slices"
	"testing"

	"github.com/ipfs/go-cid"
	car "github.com/ipld/go-car/v2"
	carindex "github.com/ipld/go-car/v2/index"
	"github.com/multiformats/go-multihash"
	"github.com/stretchr/testify/require"

	"github.com/filecoin-project/dagstore/internal/carfile"
	"github.com/filecoin-project/dagstore/internal/cartest"
	"github.com/filecoin-project/dagstore/internal/guard"
)

// sections collects what Sections visits.
func sections(file []byte) (all []carfile.Section, err error) {
	err = carfile.Sections(context.Background(), bytes.NewReader(file), int64(len(file)), func(s carfile.Section) error {
		all = append(all, s)
		return nil
	})
	return all, err
}

func index(file []byte) (carindex.Index, error) {
	return carfile.Index(context.Background(), bytes.NewReader(file), int64(len(file)))
}

func written(t *testing.T, index carindex.Index) []byte {
	t.Helper()
	var buf bytes.Buffer
	_, err := carindex.WriteTo(index, &buf)
	require.NoError(t, err)
	return buf.Bytes()
}

func withCodec(codec uint64, b cartest.Block) cartest.Block {
	return cartest.Block{Cid: cid.NewCidV1(codec, b.Cid.Hash()), Data: b.Data}
}

// padded is a CARv1 in a CARv2, n zeros after the header.
func padded(v1 []byte, n int) []byte {
	return cartest.V2(v1, cartest.V2Options{DataPadding: n})
}

// mixed returns blocks of many kinds without equal digests.
func mixed(n, size int, seed uint64) []cartest.Block {
	blocks := cartest.Blocks(n, size, seed)
	for i, b := range blocks {
		switch i % 9 {
		case 1:
			blocks[i] = cartest.V0(b.Data)
		case 2:
			blocks[i] = cartest.Identity(b.Data[:min(size, 5+i)])
		case 3:
			blocks[i] = withCodec(cid.DagProtobuf, cartest.Hashed(b.Data, multihash.BLAKE2B_MIN+31, -1))
		case 4:
			blocks[i] = withCodec(cid.DagCBOR, cartest.Hashed(b.Data, multihash.SHA2_512, 20+i%40))
		case 5:
			blocks[i] = cartest.Block{Cid: cartest.Cid(0x3fffff, b.Data[:min(size, 17)]), Data: b.Data}
		}
	}
	return blocks
}

// requireBlocks checks Sections, SectionAt and Index against the blocks of a file.
func requireBlocks(t *testing.T, file []byte, blocks []cartest.Block) {
	t.Helper()
	r := bytes.NewReader(file)
	p, err := carfile.Locate(r, r.Size())
	require.NoError(t, err)
	all, err := sections(file)
	require.NoError(t, err)
	require.Len(t, all, len(blocks))
	idx, err := index(file)
	require.NoError(t, err)
	for i, b := range blocks {
		s := all[i]
		require.Equal(t, b.Cid, s.Cid)
		data := file[p.Offset+s.DataOffset:][:s.DataSize]
		require.True(t, bytes.Equal(b.Data, data), "block %d", i)
		again, err := carfile.SectionAt(r, p, uint64(s.Offset))
		require.NoError(t, err)
		require.Equal(t, s, again)
		var offsets []uint64
		require.NoError(t, idx.GetAll(b.Cid, func(o uint64) bool { offsets = append(offsets, o); return true }))
		require.Contains(t, offsets, uint64(s.Offset))
	}
}

func TestEveryBlockIsFoundInEveryContainer(t *testing.T) {
	for _, blocks := range [][]cartest.Block{
		nil, cartest.Blocks(1, 0, 1), mixed(40, 100, 2), mixed(2000, 300, 3),
		slices.Concat(cartest.Blocks(2, 600<<10, 4), mixed(30, 50, 5), cartest.Blocks(3, 256<<10, 6), mixed(900, 2000, 7)),
	} {
		v1 := cartest.V1(nil, blocks)
		for _, file := range [][]byte{
			v1, cartest.Padded(v1, 1), cartest.Padded(v1, 5000),
			padded(v1, 0), padded(v1, 7), padded(v1, 1413),
			padded(cartest.Padded(v1, 5000), 7), slices.Concat(padded(v1, 7), []byte("index or junk")),
		} {
			requireBlocks(t, file, blocks)
		}
	}
}

func TestIndexIsByteForByteGoCars(t *testing.T) {
	for seed := range uint64(20) {
		blocks := mixed(int(seed)*int(seed)*3, 64+int(seed)*11, seed)
		v1 := cartest.V1(nil, blocks)
		want, err := car.GenerateIndex(bytes.NewReader(v1), car.ZeroLengthSectionAsEOF(true), car.StoreIdentityCIDs(true))
		require.NoError(t, err)
		for _, file := range [][]byte{v1, padded(v1, int(seed)*77), cartest.Padded(v1, 3)} {
			got, err := index(file)
			require.NoError(t, err)
			require.True(t, bytes.Equal(written(t, want), written(t, got)), "seed %d", seed)
			require.Implements(t, (*carindex.IterableIndex)(nil), got)
		}
	}
}

func TestCopiesOfABlockAreIndexedInTheOrderOfTheFile(t *testing.T) {
	blocks := cartest.Blocks(3, 10, 1)
	for range 5 {
		blocks = append(blocks, blocks[:3]...)
	}
	idx, err := index(cartest.V1(nil, blocks))
	require.NoError(t, err)
	for _, b := range blocks[:3] {
		var offsets []uint64
		require.NoError(t, idx.GetAll(b.Cid, func(o uint64) bool { offsets = append(offsets, o); return true }))
		require.True(t, slices.IsSorted(offsets))
		require.Greater(t, len(offsets), 5)
	}
}

// TestTruncatedCarIsRefusedInsteadOfLosingItsLastBlock is defect 22a.
func TestTruncatedCarIsRefusedInsteadOfLosingItsLastBlock(t *testing.T) {
	v1 := cartest.V1(nil, mixed(12, 30, 1))
	all, err := sections(v1)
	require.NoError(t, err)
	ends := map[int]bool{}
	for _, s := range all {
		ends[int(s.Offset)] = true
	}
	for n := range v1 {
		idx, err := index(v1[:n])
		if ends[n] {
			require.NoError(t, err, "cut at %d, between sections", n)
			continue
		}
		require.Nil(t, idx)
		require.ErrorIs(t, err, carfile.ErrTruncated, "cut at %d", n)
		require.ErrorIs(t, err, io.ErrUnexpectedEOF)
	}
	v2 := padded(v1, 7)
	for n := range v2 {
		_, err := index(v2[:n])
		var e *carfile.Error
		require.ErrorAs(t, err, &e, "cut at %d", n)
		if n >= 11 {
			require.ErrorIs(t, err, carfile.ErrTruncated, "cut at %d", n)
		}
	}
}

func TestFileShorterThanItsPromisedSizeIsTruncated(t *testing.T) {
	v1 := cartest.V1(nil, cartest.Blocks(3, 100, 1))
	for n := range len(v1) {
		_, err := carfile.Index(context.Background(), bytes.NewReader(v1[:n]), int64(len(v1)))
		require.ErrorIs(t, err, carfile.ErrTruncated, "%d bytes there", n)
	}
	p, err := carfile.Locate(bytes.NewReader(v1), int64(len(v1)))
	require.NoError(t, err)
	_, err = carfile.SectionAt(bytes.NewReader(v1[:p.Header+3]), p, uint64(p.Header))
	require.ErrorIs(t, err, carfile.ErrTruncated)
}

// TestHostileCarIsRefusedInsteadOfEndingTheProcess is defect 19.
func TestHostileCarIsRefusedInsteadOfEndingTheProcess(t *testing.T) {
	header := cartest.Header(1)
	uvarint := func(n uint64) []byte { return binary.AppendUvarint(nil, n) }
	after := func(parts ...[]byte) []byte { return slices.Concat(header, slices.Concat(parts...)) }
	block := cartest.Section(cartest.Blocks(1, 40, 1)[0])
	malformed, truncated := carfile.ErrMalformed, carfile.ErrTruncated
	v2 := func(offset, size uint64) []byte {
		return cartest.V2(after(block), cartest.V2Options{DataOffset: offset, DataSize: size})
	}
	unfinished := slices.Concat(v2(0, 0)[:11], make([]byte, 40), after(block))
	noData := slices.Concat(v2(51, 1)[:35], make([]byte, 16), after(block))

	for name, c := range map[string]struct {
		file []byte
		want error
	}{
		"section of 2^62 bytes":             {after(uvarint(1<<62), block), truncated},
		"section of 2^63 bytes":             {after(uvarint(1<<63), block), malformed},
		"section length without end":        {after(bytes.Repeat([]byte{0xff}, 30)), malformed},
		"section length not minimal":        {after([]byte{0xcc, 0x80, 0x00}, block[1:]), malformed},
		"zero length not minimal":           {after([]byte{0x80, 0x00}), malformed},
		"section one byte too long":         {after(uvarint(uint64(len(block))), block[1:]), truncated},
		"section shorter than its CID":      {after([]byte{35}, block[1:]), malformed},
		"section of one byte":               {after([]byte{1, 1}), malformed},
		"CID of version 2":                  {after([]byte{4, 2, 0x55, 0, 0}), malformed},
		"digest of 2^31 bytes":              {after([]byte{40, 1, 0x55, 0}, uvarint(1<<31-1), make([]byte, 32)), malformed},
		"digest of 2^62 bytes":              {after([]byte{40, 1, 0x55, 0}, uvarint(1<<62), make([]byte, 28)), malformed},
		"CID of 2 KiB and a byte":           {after(cartest.Section(cartest.Identity(make([]byte, 2045-1)))), malformed},
		"empty file":                        {nil, truncated},
		"no CAR":                            {[]byte("hello, this is no CAR"), truncated},
		"only zeros":                        {make([]byte, 100), malformed},
		"header of 32 MiB and a byte":       {slices.Concat(uvarint(32<<20+1), make([]byte, 100)), malformed},
		"header of 2^63 bytes":              {slices.Concat(uvarint(1<<63), make([]byte, 100)), malformed},
		"header longer than the file":       {slices.Concat(uvarint(1000), header[1:]), truncated},
		"header length not minimal":         {slices.Concat([]byte{0x91, 0x00}, header[1:]), malformed},
		"header that claims 2^62 roots":     {[]byte("\x10\xa2eroots\x9b\x40\x00\x00\x00\x00\x00\x00\x00"), malformed},
		"header of deep nesting":            {slices.Concat(uvarint(1<<20), bytes.Repeat([]byte{0x81}, 1<<20)), malformed},
		"version 3":                         {cartest.Header(3), malformed},
		"data offset past the end":          {v2(1<<40, 10), truncated},
		"data offset of 2^64-1":             {v2(1<<64-1, 10), truncated},
		"data offset in the header":         {v2(50, 10), malformed},
		"data size too large":               {v2(51, uint64(len(after(block)))+1), truncated},
		"data size of 2^64-1":               {v2(51, 1<<64-1), truncated},
		"data size cuts a section":          {v2(51, uint64(len(after(block)))-1), truncated},
		"no data, so never finalized":       {unfinished, malformed},
		"data size zero":                    {noData, malformed},
		"CARv2 in a CARv2":                  {padded(padded(after(block), 0), 0), malformed},
		"CARv2 that ends behind its pragma": {v2(51, 1)[:11], truncated},
	} {
		t.Run(name, func(t *testing.T) {
			idx, err := index(c.file)
			require.Nil(t, idx)
			require.ErrorIs(t, err, c.want)
			var e *carfile.Error
			require.ErrorAs(t, err, &e)
			require.NotErrorIs(t, err, map[error]error{malformed: truncated, truncated: malformed}[c.want])
		})
	}
	_, err := index(after(block, []byte{1, 1}))
	require.ErrorContains(t, err, "car: section at offset 95: no CID in its first 1 bytes")
}

func TestLongestAllowedCidIsRead(t *testing.T) {
	blocks := []cartest.Block{cartest.Identity(make([]byte, 2043)), cartest.Identity(nil)}
	require.Equal(t, carfile.MaxCid, blocks[0].Cid.ByteLen())
	requireBlocks(t, cartest.V1(nil, blocks), blocks)
}

// TestLyingEmbeddedIndexCannotHideABlock is defect 22h, and with an index that
// claims 2^62 bytes defect 19.
func TestLyingEmbeddedIndexCannotHideABlock(t *testing.T) {
	blocks := cartest.Blocks(3, 100, 1)
	foreign := cartest.Blocks(3, 100, 2)
	lie, err := index(cartest.V1(nil, foreign))
	require.NoError(t, err)
	bomb := []byte("\x81\x08\x01\x00\x00\x00\x12\x00\x00\x00\x00\x00\x00\x00\x01\x00\x00\x00\x28\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x40")
	v1 := cartest.V1(nil, blocks)
	for _, embedded := range [][]byte{written(t, lie), bomb} {
		for _, at := range []uint64{uint64(51 + len(v1)), 60, 1 << 60} {
			file := cartest.V2(v1, cartest.V2Options{Index: embedded, IndexOffset: at})
			requireBlocks(t, file, blocks)
			idx, err := index(file)
			require.NoError(t, err)
			_, err = carindex.GetFirst(idx, foreign[0].Cid)
			require.ErrorIs(t, err, carindex.ErrNotFound)
		}
	}
}

func TestOddlyEncodedHeaderDoesNotMoveTheBlocks(t *testing.T) {
	blocks := cartest.Blocks(4, 50, 1)
	body := cartest.V1(nil, blocks)[len(cartest.Header(1, blocks[0].Cid)):]
	odd := "\xa2\x67version\x18\x01\x65roots\x98\x00" // 1 and [] in longer forms, keys swapped
	requireBlocks(t, slices.Concat([]byte{byte(len(odd))}, []byte(odd), body), blocks)
}

func TestOffsetFromALyingIndexIsRefused(t *testing.T) {
	v1 := cartest.V1(nil, cartest.Blocks(3, 100, 1))
	file := padded(cartest.Padded(v1, 2), 7)
	r := bytes.NewReader(file)
	p, err := carfile.Locate(r, r.Size())
	require.NoError(t, err)
	require.Equal(t, int64(58), p.Offset)
	for _, offset := range []uint64{0, uint64(p.Header) - 1, uint64(len(v1)), uint64(len(v1)) + 1, uint64(p.Size), 1 << 62, 1<<64 - 1} {
		_, err := carfile.SectionAt(r, p, offset)
		require.ErrorIs(t, err, carfile.ErrMalformed, "offset %d", offset)
	}
	_, err = carfile.SectionAt(r, p, uint64(p.Header)+1)
	require.Error(t, err)
}

func TestRealCarsOfGoCar(t *testing.T) {
	for name, good := range map[string]bool{
		"sample-v1.car": true, "sample-wrapped-v2.car": true, "sample-v1-with-zero-len-section.car": true,
		"sample-rw-bs-v2.car": true, "sample-v1-noidentity.car": true, "sample-v2-indexless.car": true,
		"sample-unixfs-v2.car": true, "sample-v1-with-zero-len-section2.car": true,
		"sample-corrupt-pragma.car": false, "sample-rootless-v42.car": false,
		"sample-v1-tailing-corrupt-section.car": false, "sample-v2-corrupt-data-and-index.car": false,
	} {
		file := cartest.ReadReal(t, name)
		got, err := index(file)
		if !good {
			require.Error(t, err, name)
			continue
		}
		require.NoError(t, err, name)
		want, err := car.GenerateIndex(bytes.NewReader(file), car.ZeroLengthSectionAsEOF(true), car.StoreIdentityCIDs(true))
		require.NoError(t, err, name)
		require.Len(t, written(t, got), len(written(t, want)), name)
		all, err := sections(file)
		require.NoError(t, err)
		for _, s := range all {
			var offsets []uint64
			require.NoError(t, got.GetAll(s.Cid, func(o uint64) bool { offsets = append(offsets, o); return true }))
			require.Contains(t, offsets, uint64(s.Offset), name)
		}
	}
}

// brokenReader fails or panics from an offset on.
type brokenReader struct {
	io.ReaderAt
	from int64
	fail func() error
}

func (r brokenReader) ReadAt(p []byte, off int64) (int, error) {
	if off+int64(len(p)) > r.from {
		return 0, r.fail()
	}
	return r.ReaderAt.ReadAt(p, off)
}

func TestFailingReaderIsNotMistakenForABadCar(t *testing.T) {
	boom := errors.New("boom")
	file := padded(cartest.V1(nil, cartest.Blocks(2000, 1000, 1)), 7)
	for _, from := range []int64{5, 30, 60, 80, 300 << 10} {
		r := brokenReader{bytes.NewReader(file), from, func() error { return boom }}
		_, err := carfile.Index(context.Background(), r, int64(len(file)))
		require.ErrorIs(t, err, boom)
		require.NotErrorIs(t, err, carfile.ErrMalformed)
		require.NotErrorIs(t, err, carfile.ErrTruncated)

		r.fail = func() error { panic("boom") }
		_, err = carfile.Index(context.Background(), r, int64(len(file)))
		var p *guard.PanicError
		require.ErrorAs(t, err, &p)
		_, err = carfile.SectionAt(r, carfile.Payload{Size: int64(len(file)), Header: 70}, uint64(len(file)-10))
		require.ErrorAs(t, err, &p)
	}
}

func TestCancelledScanStops(t *testing.T) {
	file := cartest.V1(nil, cartest.Blocks(1000, 1000, 1))
	ctx, cancel := context.WithCancel(context.Background())
	visited := 0
	err := carfile.Sections(ctx, bytes.NewReader(file), int64(len(file)), func(carfile.Section) error {
		visited++
		cancel()
		return nil
	})
	require.ErrorIs(t, err, context.Canceled)
	require.Less(t, visited, 300, "it stops at the next window")
	_, err = carfile.Index(ctx, bytes.NewReader(file), int64(len(file)))
	require.ErrorIs(t, err, context.Canceled)
}

func TestVisitorsErrorComesBackAsItIs(t *testing.T) {
	file := cartest.V1(nil, cartest.Blocks(3, 10, 1))
	err := carfile.Sections(context.Background(), bytes.NewReader(file), int64(len(file)),
		func(carfile.Section) error { return io.EOF })
	require.True(t, err == io.EOF) //nolint:errorlint // as it is
}
