package carfile_test

import (
	"bytes"
	"encoding/binary"
	"io"
	"runtime"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/filecoin-project/dagstore/internal/carfile"
	"github.com/filecoin-project/dagstore/internal/cartest"
)

func uvarint(n uint64) []byte { return binary.AppendUvarint(nil, n) }

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
		_, err := sections(v1[:n])
		_, pushErr := streamed(v1[:n], func() int { return 13 })
		if ends[n] {
			require.NoError(t, err, "cut at %d, between sections", n)
			require.NoError(t, pushErr, "cut at %d, between sections", n)
			continue
		}
		for _, err := range []error{err, pushErr} {
			require.ErrorIs(t, err, carfile.ErrTruncated, "cut at %d", n)
			require.ErrorIs(t, err, io.ErrUnexpectedEOF)
		}
	}
	v2 := padded(v1, 7)
	for n := range v2 {
		_, err := sections(v2[:n])
		_, pushErr := streamed(v2[:n], func() int { return 13 })
		for _, err := range []error{err, pushErr} {
			var e *carfile.Error
			require.ErrorAs(t, err, &e, "cut at %d", n)
			if n >= 11 {
				require.ErrorIs(t, err, carfile.ErrTruncated, "cut at %d", n)
			}
		}
	}
}

func TestFileShorterThanItsPromisedSizeIsTruncated(t *testing.T) {
	big := cartest.BigBlocks(1, 300<<10, 1)
	for _, blocks := range [][]cartest.Block{cartest.Blocks(3, 100, 1), slices.Concat(big, big, big)} {
		v1 := cartest.V1(nil, blocks)
		for _, file := range [][]byte{v1, cartest.Padded(v1, 9), padded(v1, 7)} {
			for n := 0; n < len(file); n += 1 + n/30 + len(file)/200 {
				for _, verify := range []int{0, 2} {
					err := carfile.Scan(t.Context(), bytes.NewReader(file[:n]), int64(len(file)), carfile.Options{Verify: verify}, nothing)
					require.ErrorIs(t, err, carfile.ErrTruncated, "%d of %d bytes there", n, len(file))
				}
			}
			err := carfile.Scan(t.Context(), bytes.NewReader(file[:len(file)-1]), int64(len(file)), carfile.Options{}, nothing)
			require.ErrorIs(t, err, carfile.ErrTruncated, "all but the last byte there")
		}
	}
	v1 := cartest.V1(nil, cartest.Blocks(3, 100, 1))
	p, err := carfile.Locate(bytes.NewReader(v1), int64(len(v1)))
	require.NoError(t, err)
	var head carfile.Head
	_, err = carfile.SectionAt(bytes.NewReader(v1[:p.Header+3]), p, uint64(p.Header), &head)
	require.ErrorIs(t, err, carfile.ErrTruncated)
}

// TestHostileCarIsRefusedInsteadOfEndingTheProcess is defect 19.
func TestHostileCarIsRefusedInsteadOfEndingTheProcess(t *testing.T) {
	header := cartest.Header(1)
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
		"section of 2^62 bytes":             {after(uvarint(1<<62), block[1:]), truncated},
		"section of 2^63-1 bytes":           {after(uvarint(1<<63-1), block[1:]), truncated},
		"section of 2^63 bytes":             {after(uvarint(1<<63), block), malformed},
		"section length without end":        {after(bytes.Repeat([]byte{0xff}, 30)), malformed},
		"section length not minimal":        {after([]byte{0xcc, 0x80, 0x00}, block[1:]), malformed},
		"zero length not minimal":           {after([]byte{0x80, 0x00}), malformed},
		"section one byte too long":         {after(uvarint(uint64(len(block))), block[1:]), truncated},
		"section shorter than its CID":      {after([]byte{35}, block[1:]), malformed},
		"sections that overlap":             {after(bytes.Repeat([]byte{4, 1, 0x55, 0, 2}, 50)), malformed},
		"section of one byte":               {after([]byte{1, 1}), malformed},
		"section of half a CIDv0":           {after([]byte{20, 0x12, 0x20}, make([]byte, 40)), malformed},
		"CIDv0 of 31 bytes":                 {after([]byte{40, 0x12, 0x1f}, make([]byte, 60)), malformed},
		"CID of version 0":                  {after([]byte{4, 0, 0x55, 0, 0}), malformed},
		"CID of version 2":                  {after([]byte{4, 2, 0x55, 0, 0}), malformed},
		"CID version not minimal":           {after([]byte{5, 0x81, 0, 0x55, 0, 0}), malformed},
		"codec not minimal":                 {after([]byte{6, 1, 0xd5, 0, 0, 0, 0}), malformed},
		"codec of 2^63":                     {after([]byte{40, 1}, uvarint(1<<63), make([]byte, 40)), malformed},
		"digest of 2^31 bytes":              {after([]byte{40, 1, 0x55, 0}, uvarint(1<<31-1), make([]byte, 32)), malformed},
		"digest of 2^62 bytes":              {after([]byte{40, 1, 0x55, 0}, uvarint(1<<62), make([]byte, 28)), malformed},
		"CID of 2 KiB and a byte":           {after(cartest.Section(cartest.Identity(make([]byte, 2045-1)))), malformed},
		"identity CID of 1 MiB":             {after(cartest.Section(cartest.Identity(make([]byte, 1<<20)))), malformed},
		"empty file":                        {nil, truncated},
		"no CAR":                            {[]byte("hello, this is no CAR"), truncated},
		"only zeros":                        {make([]byte, 100), malformed},
		"header of 32 MiB and a byte":       {slices.Concat(uvarint(32<<20+1), make([]byte, 100)), malformed},
		"header of 2^63 bytes":              {slices.Concat(uvarint(1<<63), make([]byte, 100)), malformed},
		"header longer than the file":       {slices.Concat(uvarint(1000), header[1:]), truncated},
		"header length not minimal":         {slices.Concat([]byte{0x91, 0x00}, header[1:]), malformed},
		"header that claims 2^62 roots":     {[]byte("\x10\xa2eroots\x9b\x40\x00\x00\x00\x00\x00\x00\x00"), malformed},
		"header of deep nesting":            {slices.Concat(uvarint(1<<16), bytes.Repeat([]byte{0x81}, 1<<16)), malformed},
		"version 3":                         {cartest.Header(3), malformed},
		"pragma in another encoding":        {slices.Concat([]byte("\x0b\xa1\x67version\x18\x02"), v2(52, 10)[11:], after(block)), malformed},
		"data offset past the end":          {v2(1<<40, 10), truncated},
		"data offset of 2^64-1":             {v2(1<<64-1, 10), truncated},
		"data offset in the header":         {v2(50, 10), malformed},
		"data size too large":               {v2(51, uint64(len(after(block)))+1), truncated},
		"data size of 2^64-1":               {v2(51, 1<<64-1), truncated},
		"data size of 2^63-1":               {v2(51, 1<<63-1), truncated},
		"data size cuts a section":          {v2(51, uint64(len(after(block)))-1), truncated},
		"data size cuts a length":           {cartest.V2(after(uvarint(1000), make([]byte, 1000)), cartest.V2Options{DataSize: uint64(len(header)) + 1}), truncated},
		"data size cuts the header":         {v2(51, uint64(len(header))-1), truncated},
		"data of one byte":                  {v2(51, 1), truncated},
		"no data, so never finalized":       {unfinished, malformed},
		"data size zero":                    {noData, malformed},
		"CARv2 in a CARv2":                  {padded(padded(after(block), 0), 0), malformed},
		"CARv2 that ends behind its pragma": {v2(51, 1)[:11], truncated},
	} {
		t.Run(name, func(t *testing.T) {
			other := map[error]error{malformed: truncated, truncated: malformed}[c.want]
			_, err := sections(c.file)
			for _, n := range []int{1, 2, 50, 1 << 30} {
				_, pushErr := streamed(c.file, func() int { return n })
				for _, err := range []error{err, pushErr, verified(c.file, 2)} {
					var e *carfile.Error
					require.ErrorAs(t, err, &e)
					require.ErrorIs(t, err, c.want)
					require.NotErrorIs(t, err, other)
				}
			}
		})
	}
	_, err := sections(after(uvarint(1<<62), block))
	require.ErrorIs(t, err, truncated, "whatever else is wrong with it")
	_, err = sections(after(block, []byte{1, 1}))
	require.EqualError(t, err, "malformed car: section at offset 95: no CID in its 1 bytes: it is shorter than its CID")
}

// TestLyingEmbeddedIndexCannotHideABlock is defect 22h, and with an index that
// claims 2^62 bytes defect 19.
func TestLyingEmbeddedIndexCannotHideABlock(t *testing.T) {
	blocks := cartest.Blocks(3, 100, 1)
	bomb := []byte("\x81\x08\x01\x00\x00\x00\x12\x00\x00\x00\x00\x00\x00\x00\x01\x00\x00\x00\x28\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x40")
	v1 := cartest.V1(nil, blocks)
	for _, at := range []uint64{uint64(51 + len(v1)), 60, 1 << 60} {
		file := cartest.V2(v1, cartest.V2Options{Index: bomb, IndexOffset: at})
		requireBlocks(t, file, blocks)
		r := &countingReader{ReaderAt: bytes.NewReader(file)}
		require.NoError(t, carfile.Scan(t.Context(), r, int64(len(file)), carfile.Options{}, nothing))
		require.LessOrEqual(t, r.end, int64(51+len(v1)), "the index is not even read")
	}
}

// allocated returns how many bytes a use of the file allocates.
func allocated(use func()) int64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	use()
	runtime.ReadMemStats(&after)
	return int64(after.TotalAlloc - before.TotalAlloc)
}

func TestSmallHostileCarCannotExhaustTheMemory(t *testing.T) {
	const size = 512 << 10
	fill := func(b ...cartest.Block) []byte {
		var all []byte
		for i := range b {
			all = append(all, cartest.Section(b[i])...)
		}
		return slices.Concat(cartest.Header(1), bytes.Repeat(all, 1+size/len(all)))
	}
	rootBomb := func() []byte {
		root := []byte("\xd8\x2a\x45\x00\x01\x55\x00\x00")
		h := binary.BigEndian.AppendUint32([]byte("\xa2\x65roots\x9a"), size/8)
		h = append(append(h, bytes.Repeat(root, size/8)...), "\x67version\x01"...)
		return slices.Concat(uvarint(uint64(len(h))), h)
	}
	var lengths, codes []cartest.Block
	for i := range 2000 {
		lengths = append(lengths, cartest.Block{Cid: cartest.Cid(0, make([]byte, i%500))})
		codes = append(codes, cartest.Block{Cid: cartest.Cid(uint64(i), nil)})
	}
	for name, c := range map[string]struct {
		file   []byte
		header int64
	}{
		"empty identity CIDs":            {fill(cartest.Identity(nil)), 100},
		"a code for each block":          {fill(codes...), 100},
		"a length for each block":        {fill(lengths...), 100},
		"long CIDs":                      {fill(cartest.Identity(make([]byte, 2000))), 100},
		"CIDs longer than any prefix":    {fill(cartest.Block{Cid: cartest.Cid(1<<62, make([]byte, 10))}), 100},
		"big blocks":                     {fill(cartest.Block{Cid: cartest.Cid(1, nil), Data: make([]byte, 100<<10)}), 100},
		"a header bomb":                  {rootBomb(), size},
		"nested header":                  {slices.Concat(uvarint(size), bytes.Repeat([]byte{0x81}, size)), size},
		"a header alone":                 {cartest.Header(1), 100},
		"a header that is not all there": {slices.Concat(uvarint(32<<20), make([]byte, 1000)), 100},
	} {
		limit := 1<<20 + 128*c.header
		got := allocated(func() {
			_ = carfile.Scan(t.Context(), bytes.NewReader(c.file), int64(len(c.file)), carfile.Options{}, nothing)
		})
		require.LessOrEqual(t, got, limit, name)
		got = allocated(func() {
			s := carfile.NewStream(nil, nothing)
			_, _ = s.Write(c.file)
			_ = s.Finish()
		})
		require.LessOrEqual(t, got, limit, name)
	}
}

func TestVerifyingABigBlockTakesBoundedMemory(t *testing.T) {
	file := cartest.V1(nil, cartest.BigBlocks(1, 8<<20, 1))
	got := allocated(func() { require.NoError(t, verified(file, 2)) })
	require.Less(t, got, int64(3<<20))
}
