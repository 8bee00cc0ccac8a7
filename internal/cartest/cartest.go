// Package cartest makes CAR files from raw blocks, byte by byte, for tests. It
// checks nothing, so that hostile files can be made as easily as good ones.
// What cannot be made is a mistake of the test and panics.
package cartest

import (
	"encoding/binary"
	"math/rand/v2"
	"slices"

	"github.com/ipfs/go-cid"
	"github.com/multiformats/go-multihash"
	"github.com/multiformats/go-varint"
)

// A Block is some bytes and the CID under which they are stored. The CID need
// not be that of the bytes.
type Block struct {
	Cid  cid.Cid
	Data []byte
}

// Blocks returns n blocks of size random bytes each: CIDv1, raw, sha2-256. The
// same seed gives the same blocks.
func Blocks(n, size int, seed uint64) []Block {
	r := rand.New(rand.NewPCG(seed, 0))
	blocks := make([]Block, n)
	for i := range blocks {
		blocks[i] = Raw(Bytes(r, size))
	}
	return blocks
}

// BigBlocks is Blocks for data of megabytes: other bytes, made faster.
func BigBlocks(n, size int, seed uint64) []Block {
	r := rand.NewChaCha8([32]byte{byte(seed)})
	blocks := make([]Block, n)
	for i := range blocks {
		data := make([]byte, size)
		_, _ = r.Read(data) // it never fails
		blocks[i] = Raw(data)
	}
	return blocks
}

// Bytes returns n random bytes.
func Bytes(r *rand.Rand, n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return b
}

// Raw returns the block of data: CIDv1, raw, sha2-256.
func Raw(data []byte) Block { return Hashed(data, multihash.SHA2_256, -1) }

// Identity returns the block whose CID holds the data itself.
func Identity(data []byte) Block { return Hashed(data, multihash.IDENTITY, -1) }

// Hashed returns the block of data under a raw CIDv1 of the hash function code,
// the digest cut to length bytes (-1: whole).
func Hashed(data []byte, code uint64, length int) Block {
	h, err := multihash.Sum(data, code, length)
	if err != nil {
		panic(err)
	}
	return Block{cid.NewCidV1(cid.Raw, h), data}
}

// V0 returns the block of data under a CIDv0.
func V0(data []byte) Block {
	return Block{cid.NewCidV0(Raw(data).Cid.Hash()), data}
}

// Cid returns a raw CIDv1 of the given hash function code and digest. Neither
// needs to be real.
func Cid(code uint64, digest []byte) cid.Cid {
	h := binary.AppendUvarint(nil, code)
	h = binary.AppendUvarint(h, uint64(len(digest)))
	return cid.NewCidV1(cid.Raw, append(h, digest...))
}

// Section returns the section of a block as a CARv1 holds it.
func Section(b Block) []byte {
	key := b.Cid.Bytes()
	s := varint.ToUvarint(uint64(len(key) + len(b.Data)))
	return append(append(s, key...), b.Data...)
}

// Header returns the header of a CAR of the given version, length included.
func Header(version byte, roots ...cid.Cid) []byte {
	h := append([]byte{0xa2, 0x65}, "roots"...)
	h = append(h, cborHead(0x80, len(roots))...)
	for _, root := range roots {
		link := append([]byte{0}, root.Bytes()...)
		h = append(h, 0xd8, 0x2a) // tag 42
		h = append(append(h, cborHead(0x40, len(link))...), link...)
	}
	h = append(append(append(h, 0x67), "version"...), version)
	return append(varint.ToUvarint(uint64(len(h))), h...)
}

// cborHead returns the head of a CBOR item of the major type and a length below 65536.
func cborHead(major byte, n int) []byte {
	switch {
	case n < 24:
		return []byte{major | byte(n)}
	case n < 256:
		return []byte{major | 24, byte(n)}
	default:
		return []byte{major | 25, byte(n >> 8), byte(n)}
	}
}

// V1 returns a CARv1. Without roots, the CID of the first block is the root.
func V1(roots []cid.Cid, blocks []Block) []byte {
	if roots == nil && len(blocks) > 0 {
		roots = []cid.Cid{blocks[0].Cid}
	}
	car := Header(1, roots...)
	for _, b := range blocks {
		car = append(car, Section(b)...)
	}
	return car
}

// Padded returns a copy of car followed by n zeros, as Filecoin pieces are.
func Padded(car []byte, n int) []byte {
	return append(slices.Clone(car), make([]byte, n)...)
}

// V2Options says how V2 wraps a CARv1. The zero value is: no padding, no index,
// an honest header.
type V2Options struct {
	DataPadding  int    // zeros between the header and the payload
	IndexPadding int    // zeros between the payload and the index
	Index        []byte // embedded as it is; nil for none
	DataOffset   uint64 // what the header says instead of the truth, unless 0
	DataSize     uint64 // the same
	IndexOffset  uint64 // the same
}

// V2 wraps a CARv1 into a CARv2.
func V2(v1 []byte, o V2Options) []byte {
	dataOffset := uint64(11 + 40 + o.DataPadding)
	indexOffset := uint64(0)
	if o.Index != nil {
		indexOffset = dataOffset + uint64(len(v1)+o.IndexPadding)
	}
	car := append([]byte{0x0a, 0xa1, 0x67}, "version\x02"...)
	car = append(car, make([]byte, 16)...) // characteristics
	car = binary.LittleEndian.AppendUint64(car, or(o.DataOffset, dataOffset))
	car = binary.LittleEndian.AppendUint64(car, or(o.DataSize, uint64(len(v1))))
	car = binary.LittleEndian.AppendUint64(car, or(o.IndexOffset, indexOffset))
	car = append(car, make([]byte, o.DataPadding)...)
	car = append(car, v1...)
	if o.Index != nil {
		car = append(append(car, make([]byte, o.IndexPadding)...), o.Index...)
	}
	return car
}

func or(lie, truth uint64) uint64 {
	if lie != 0 {
		return lie
	}
	return truth
}
