package carfile_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"hash"
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
)

// found is a copy of a Section that may be kept.
type found struct {
	Offset, DataOffset, DataSize int64
	Code                         uint64
	Cid, Multihash, Digest       string
}

func copied(s *carfile.Section) found {
	return found{s.Offset, s.DataOffset, s.DataSize, s.Code, string(s.Cid), string(s.Multihash()), string(s.Digest)}
}

// into returns a visit that collects copies in all.
func into(all *[]found) func(*carfile.Section) error {
	return func(s *carfile.Section) error {
		*all = append(*all, copied(s))
		return nil
	}
}

func nothing(*carfile.Section) error { return nil }

// sections collects what Scan visits.
func sections(file []byte) (all []found, err error) {
	err = carfile.Scan(context.Background(), bytes.NewReader(file), int64(len(file)), carfile.Options{}, into(&all))
	return all, err
}

// verified returns the error of a scan that compares all blocks.
func verified(file []byte, goroutines int) error {
	return carfile.Scan(context.Background(), bytes.NewReader(file), int64(len(file)), carfile.Options{Verify: goroutines}, nothing)
}

// streamed collects what a Stream visits that gets the file in writes of the
// lengths that next returns.
func streamed(file []byte, next func() int) (all []found, err error) {
	s := carfile.NewStream(nil, into(&all))
	for len(file) > 0 {
		n := min(len(file), next())
		p := slices.Clone(file[:n])
		if _, err := s.Write(p); err != nil {
			return all, err
		}
		clear(p) // it belongs to the writer again
		file = file[n:]
	}
	return all, s.Finish()
}

func withCodec(codec uint64, b cartest.Block) cartest.Block {
	return cartest.Block{Cid: cid.NewCidV1(codec, b.Cid.Hash()), Data: b.Data}
}

// padded is a CARv1 in a CARv2, n zeros after the header.
func padded(v1 []byte, n int) []byte {
	return cartest.V2(v1, cartest.V2Options{DataPadding: n})
}

// mixed returns blocks of many kinds without equal digests. Nearly all of them are
// what their CIDs say.
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
		case 6:
			blocks[i] = withCodec(0x300000, cartest.Hashed(b.Data, multihash.BLAKE3, 1+i%128))
		}
	}
	return blocks
}

// containers returns the CARv1 in all the ways in which it may come.
func containers(v1 []byte) map[string][]byte {
	return map[string][]byte{
		"v1":                v1,
		"v1 and a zero":     cartest.Padded(v1, 1),
		"v1 and zeros":      cartest.Padded(v1, 5000),
		"v1, zero and junk": slices.Concat(cartest.Padded(v1, 1), []byte("\xff\xff not a section")),
		"v2":                padded(v1, 0),
		"v2, 7 zeros":       padded(v1, 7),
		"v2, 1413 zeros":    padded(v1, 1413),
		"v2 of a padded v1": padded(cartest.Padded(v1, 5000), 7),
		"v2 and junk":       slices.Concat(padded(v1, 7), []byte("index or junk")),
		"v2 and index":      cartest.V2(v1, cartest.V2Options{IndexPadding: 3, Index: []byte("not read")}),
	}
}

// goCar returns the multihashes and offsets that go-car finds, in the order of
// offsets.
func goCar(file []byte) ([]record, error) {
	idx, err := car.GenerateIndex(bytes.NewReader(file), car.ZeroLengthSectionAsEOF(true), car.StoreIdentityCIDs(true))
	if err != nil {
		return nil, err
	}
	var all []record
	err = idx.(carindex.IterableIndex).ForEach(func(mh multihash.Multihash, offset uint64) error {
		all = append(all, record{string(mh), int64(offset)})
		return nil
	})
	slices.SortFunc(all, func(a, b record) int { return int(a.offset - b.offset) })
	return all, err
}

type record struct {
	multihash string
	offset    int64
}

func records(all []found) (records []record) {
	for _, f := range all {
		records = append(records, record{f.Multihash, f.Offset})
	}
	return records
}

// requireBlocks checks all ways of finding sections against the blocks of a file.
func requireBlocks(t *testing.T, file []byte, blocks []cartest.Block) {
	t.Helper()
	r := bytes.NewReader(file)
	p, err := carfile.Locate(r, r.Size())
	require.NoError(t, err)
	quick, err := carfile.Find(r, r.Size())
	require.NoError(t, err)
	require.Equal(t, p, quick)
	all, err := sections(file)
	require.NoError(t, err)
	require.Len(t, all, len(blocks))
	pushed, err := streamed(file, func() int { return 1000 })
	require.NoError(t, err)
	require.Equal(t, all, pushed)
	for i, b := range blocks {
		requireBlock(t, r, p, all[i], b)
	}
}

func requireBlock(t *testing.T, r io.ReaderAt, p carfile.Payload, got found, want cartest.Block) {
	t.Helper()
	require.Equal(t, string(want.Cid.Bytes()), got.Cid)
	require.Equal(t, string(want.Cid.Hash()), got.Multihash)
	decoded, err := multihash.Decode(want.Cid.Hash())
	require.NoError(t, err)
	require.Equal(t, decoded.Code, got.Code)
	require.Equal(t, string(decoded.Digest), got.Digest)
	data := make([]byte, got.DataSize)
	_, err = r.ReadAt(data, p.Offset+got.DataOffset)
	require.True(t, err == nil || errors.Is(err, io.EOF) && len(data) == 0)
	require.True(t, bytes.Equal(want.Data, data))
	var head carfile.Head
	again, err := carfile.SectionAt(r, p, uint64(got.Offset), &head)
	require.NoError(t, err)
	require.Equal(t, got, copied(&again))
}

// hookedHash is the code of a hash function that calls hook for what is hashed,
// and is sha2-256 otherwise.
const hookedHash = 0x3ffffa

var hook func()

type hooked struct{ hash.Hash }

func (h hooked) Write(p []byte) (int, error) {
	hook()
	return h.Hash.Write(p)
}

func init() { multihash.Register(hookedHash, func() hash.Hash { return hooked{sha256.New()} }) }
