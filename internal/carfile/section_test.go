package carfile_test

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/ipfs/go-cid"
	"github.com/multiformats/go-multihash"
	"github.com/stretchr/testify/require"

	"github.com/filecoin-project/dagstore/internal/carfile"
	"github.com/filecoin-project/dagstore/internal/cartest"
)

func TestOffsetFromALyingIndexIsRefused(t *testing.T) {
	v1 := cartest.V1(nil, cartest.Blocks(3, 100, 1))
	file := padded(cartest.Padded(v1, 2), 7)
	r := bytes.NewReader(file)
	p, err := carfile.Locate(r, r.Size())
	require.NoError(t, err)
	require.Equal(t, int64(58), p.Offset)
	var head carfile.Head
	for _, offset := range []uint64{0, uint64(p.Header) - 1, uint64(len(v1)), uint64(len(v1)) + 1, uint64(p.Size), 1 << 62, 1 << 63, 1<<64 - 1} {
		_, err := carfile.SectionAt(r, p, offset, &head)
		require.ErrorIs(t, err, carfile.ErrMalformed, "offset %d", offset)
		_, err = carfile.ParseHead(make([]byte, carfile.MaxHead), p, int64(offset))
		require.ErrorIs(t, err, carfile.ErrMalformed, "offset %d", offset)
	}
	_, err = carfile.SectionAt(r, p, uint64(p.Header)+1, &head)
	require.Error(t, err)
}

func TestShortHeadIsEnoughIfTheCidFits(t *testing.T) {
	file := cartest.V1(nil, mixed(30, 1000, 1))
	p, err := carfile.Locate(bytes.NewReader(file), int64(len(file)))
	require.NoError(t, err)
	all, err := sections(file)
	require.NoError(t, err)
	for _, want := range all {
		for n := range int(want.DataOffset - want.Offset + 3) {
			s, err := carfile.ParseHead(file[want.Offset:][:n], p, want.Offset)
			if int64(n) < want.DataOffset-want.Offset {
				require.ErrorIs(t, err, carfile.ErrTruncated)
				continue
			}
			require.NoError(t, err)
			require.Equal(t, want, copied(&s))
		}
	}
}

// TestSectionDoesNotReachIntoWhatFollowsThePayload: bytes of the head that lie
// behind the payload are not part of a section.
func TestSectionDoesNotReachIntoWhatFollowsThePayload(t *testing.T) {
	head := slices.Concat(uvarint(300), cartest.Raw(nil).Cid.Bytes(), make([]byte, 300))
	for size := range int64(302) {
		_, err := carfile.ParseHead(head, carfile.Payload{Size: size}, 0)
		require.Error(t, err, "payload of %d bytes", size)
	}
	_, err := carfile.ParseHead(head, carfile.Payload{Size: 302}, 0)
	require.NoError(t, err)
}

// TestSectionCannotBeGrownIntoItsNeighbour: appending to a slice of a section
// does not write into the file's bytes.
func TestSectionCannotBeGrownIntoItsNeighbour(t *testing.T) {
	file := cartest.V1(nil, cartest.Blocks(1, 100, 1))
	p, err := carfile.Locate(bytes.NewReader(file), int64(len(file)))
	require.NoError(t, err)
	s, err := carfile.ParseHead(file[p.Header:], p, p.Header)
	require.NoError(t, err)
	before := slices.Clone(file)
	_, _, _ = append(s.Cid, 1), append(s.Digest, 2), append(s.Multihash(), 3)
	require.Equal(t, before, file)
}

func TestReadingASectionAllocatesNothing(t *testing.T) {
	file := cartest.V1(nil, mixed(18, 100, 1))
	r := bytes.NewReader(file)
	p, err := carfile.Locate(r, r.Size())
	require.NoError(t, err)
	all, err := sections(file)
	require.NoError(t, err)
	head := new(carfile.Head)
	for _, want := range all {
		var s carfile.Section
		require.Zero(t, testing.AllocsPerRun(10, func() { s, err = carfile.SectionAt(r, p, uint64(want.Offset), head) }))
		require.NoError(t, err)
		require.Equal(t, want, copied(&s))
		require.Zero(t, testing.AllocsPerRun(10, func() { s, err = carfile.ParseHead(file[want.Offset:], p, want.Offset) }))
		require.NoError(t, err)
		require.Equal(t, want, copied(&s))
	}
}

func TestFindingTheSectionsAllocatesNothingForEach(t *testing.T) {
	few, many := cartest.V1(nil, mixed(9, 100, 1)), cartest.V1(nil, mixed(9000, 100, 1))
	scan := func(file []byte) float64 {
		r := bytes.NewReader(file)
		return testing.AllocsPerRun(1, func() { require.NoError(t, carfile.Scan(t.Context(), r, r.Size(), carfile.Options{}, nothing)) })
	}
	require.LessOrEqual(t, scan(many), scan(few)+100)
	push := func(file []byte) float64 {
		return testing.AllocsPerRun(1, func() {
			s := carfile.NewStream(nil, nothing)
			for piece := range slices.Chunk(file, 32<<10) {
				_, err := s.Write(piece)
				require.NoError(t, err)
			}
			require.NoError(t, s.Finish())
		})
	}
	require.LessOrEqual(t, push(many), push(few)+100)
	r := bytes.NewReader(many)
	require.LessOrEqual(t, testing.AllocsPerRun(10, func() { _, _ = carfile.Find(r, r.Size()) }), 1.0)
}

// TestKnownPrefixChangesNothing: what is found of a CID does not depend on the
// CIDs before it.
func TestKnownPrefixChangesNothing(t *testing.T) {
	blocks := []cartest.Block{
		cartest.V0([]byte("a")), cartest.V0([]byte("b")), cartest.Raw([]byte("a")), cartest.Identity(nil), cartest.Identity([]byte("a")),
		withCodec(cid.DagCBOR, cartest.Raw([]byte("a"))), withCodec(0x70000000, cartest.Raw([]byte("b"))),
		{Cid: cartest.Cid(0x12, make([]byte, 31))}, {Cid: cartest.Cid(0x12, make([]byte, 300))}, {Cid: cartest.Cid(0x1220, make([]byte, 32))},
		{Cid: cartest.Cid(1<<62, make([]byte, 32))}, {Cid: cartest.Cid(0, nil)}, {Cid: cartest.Cid(0x20, make([]byte, 2))},
	}
	file := cartest.V1(nil, slices.Concat(blocks, blocks))
	p, err := carfile.Locate(bytes.NewReader(file), int64(len(file)))
	require.NoError(t, err)
	all, err := sections(file)
	require.NoError(t, err)
	for _, before := range blocks {
		for _, want := range all {
			got, fast, err := carfile.ParseAfter(before.Cid.Bytes(), file[want.Offset:], p, want.Offset)
			require.NoError(t, err)
			require.Equal(t, want, copied(&got), "after %s", before.Cid)
			_, c, err := cid.CidFromBytes(got.Cid)
			require.NoError(t, err)
			short := len(got.Cid)-len(got.Digest) <= 8 && len(got.Cid) >= 8
			require.Equal(t, short && c.Prefix() == before.Cid.Prefix(), fast, "%s after %s", c, before.Cid)
		}
	}
}

// FuzzKnownPrefix: the fast and the slow way to parse a section agree.
func FuzzKnownPrefix(f *testing.F) {
	one := cartest.Section(cartest.Raw([]byte("hello")))
	f.Add(cartest.Raw(nil).Cid.Bytes(), one, int64(100))
	f.Add(cartest.V0(nil).Cid.Bytes(), one, int64(len(one)))
	f.Add(cartest.Identity(nil).Cid.Bytes(), cartest.Section(cartest.Identity([]byte("hello world"))), int64(20))
	f.Fuzz(func(t *testing.T, before, head []byte, size int64) {
		p := carfile.Payload{Size: max(size, int64(len(head)))}
		want, wantErr := carfile.ParseHead(head, p, 0)
		got, _, err := carfile.ParseAfter(before, head, p, 0)
		require.Equal(t, wantErr == nil, err == nil)
		if err == nil {
			require.Equal(t, want, got)
		}
	})
}

// FuzzSectionIsGoCids: a section's CID is what go-cid reads there.
func FuzzSectionIsGoCids(f *testing.F) {
	for _, b := range mixed(9, 20, 1) {
		f.Add(cartest.Section(b))
	}
	f.Fuzz(func(t *testing.T, head []byte) {
		s, err := carfile.ParseHead(head, carfile.Payload{Size: int64(len(head))}, 0)
		if err != nil {
			return
		}
		n, c, err := cid.CidFromBytes(head[len(head)-(len(head)-int(s.DataOffset)+len(s.Cid)):])
		require.NoError(t, err)
		require.Equal(t, c.Bytes(), s.Cid)
		require.Len(t, s.Cid, n)
		mh, err := multihash.Decode(c.Hash())
		require.NoError(t, err)
		require.Equal(t, c.Hash(), s.Multihash())
		require.Equal(t, mh.Code, s.Code)
		require.True(t, bytes.Equal(mh.Digest, s.Digest))
	})
}

func FuzzSectionAt(f *testing.F) {
	v1 := cartest.V1(nil, mixed(6, 20, 1))
	f.Add(v1, int64(0), int64(len(v1)), int64(10), uint64(60))
	f.Add(v1, int64(7), int64(30), int64(0), uint64(1<<63))
	f.Fuzz(func(t *testing.T, file []byte, start, size, header int64, offset uint64) {
		p := carfile.Payload{Offset: start, Size: size, Header: header}
		var head carfile.Head
		s, err := carfile.SectionAt(bytes.NewReader(file), p, offset, &head)
		if err != nil {
			var e *carfile.Error
			require.True(t, errors.As(err, &e) || start < 0, "%v", err)
			return
		}
		require.Equal(t, offset, uint64(s.Offset))
		require.GreaterOrEqual(t, s.DataSize, int64(0))
		require.Greater(t, s.DataOffset, s.Offset)
		require.LessOrEqual(t, s.DataOffset, size-s.DataSize)
		require.LessOrEqual(t, len(s.Cid), carfile.MaxCid)
	})
}

func BenchmarkParseHead(b *testing.B) {
	for _, block := range []cartest.Block{cartest.Raw(make([]byte, 256)), cartest.V0(make([]byte, 256))} {
		head := cartest.Section(block)
		p := carfile.Payload{Size: int64(len(head))}
		b.Run(fmt.Sprintf("v%d", block.Cid.Version()), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := carfile.ParseHead(head, p, 0); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// randomSplits returns lengths of writes, most of them short.
func randomSplits(r *rand.Rand) func() int {
	most := []int{1, 3, 50, 3000, 100_000}[r.IntN(5)]
	return func() int { return 1 + r.IntN(most) }
}
