package indexbuild_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"math/rand/v2"
	"os"
	"slices"
	"testing"

	"github.com/ipfs/go-cid"
	carindex "github.com/ipld/go-car/v2/index"
	"github.com/multiformats/go-multicodec"
	"github.com/multiformats/go-multihash"
	"github.com/stretchr/testify/require"

	"github.com/filecoin-project/dagstore/internal/cartest"
	"github.com/filecoin-project/dagstore/internal/indexbuild"
)

// small are limits with which a hundred records are many.
var small = indexbuild.Limits{Minimum: 32 << 10, Slab: 512, Buffer: 1 << 10, Read: 4 << 10}

// A record is an argument of Add.
type record struct {
	code   uint64
	digest []byte
	offset uint64
}

// goCar returns the index that go-car writes, with copies of a digest put in
// the order of their offsets: go-car leaves it open.
func goCar(t testing.TB, records []record) []byte {
	idx, err := carindex.New(multicodec.CarMultihashIndexSorted)
	require.NoError(t, err)
	var all []carindex.Record
	for _, r := range records {
		mh, err := multihash.Encode(r.digest, r.code)
		require.NoError(t, err)
		all = append(all, carindex.Record{Cid: cid.NewCidV1(cid.Raw, mh), Offset: r.offset})
	}
	require.NoError(t, idx.Load(all))
	return cartest.WriteIndex(t, idx)
}

// build adds the records to b.
func build(t testing.TB, b *indexbuild.Builder, records []record) {
	for _, r := range records {
		if err := b.Add(r.code, r.digest, r.offset); err != nil {
			require.NoError(t, err)
		}
	}
}

// written returns the index of b.
func written(t testing.TB, b *indexbuild.Builder) []byte {
	var out bytes.Buffer
	require.NoError(t, b.WriteTo(context.Background(), &out))
	return out.Bytes()
}

// random returns n records of a random number of shapes, with random, similar
// or equal digests, in random or ascending order.
func random(r *rand.Rand, n int) []record {
	type kind struct {
		code            uint64
		length, entropy int // bytes of the digest that differ
		prefix          int // bytes in common
	}
	var kinds []kind
	most := []int{1, 3, 20, n + 1}[r.IntN(4)]
	for range 1 + r.IntN(most) {
		k := kind{code: []uint64{0, 0x12, 0xb220, r.Uint64N(1 << 7), r.Uint64() >> 1}[r.IntN(5)]}
		k.length = []int{0, r.IntN(8), 32, r.IntN(130), 600 * r.IntN(2)}[r.IntN(5)]
		k.prefix = r.IntN(k.length + 1)
		k.entropy = min(k.length, []int{0, 1, 2, k.length}[r.IntN(4)])
		if r.IntN(2) == 0 {
			k.prefix = 0
		}
		kinds = append(kinds, k)
	}
	records := make([]record, n)
	for i := range records {
		k := kinds[r.IntN(1+r.IntN(len(kinds)))]
		d := make([]byte, k.length)
		for j := k.prefix; j < min(k.length, k.prefix+k.entropy); j++ {
			d[j] = byte(r.Uint32())
		}
		records[i] = record{k.code, d, uint64(i) * 100}
	}
	switch r.IntN(3) {
	case 0:
		r.Shuffle(n, func(i, j int) { records[i], records[j] = records[j], records[i] })
	case 1:
		for i := range records {
			records[i].offset = r.Uint64() >> (8 * r.IntN(8))
		}
	}
	return records
}

// digests is a cheap source of random digests.
type digests uint64

func (s *digests) next(d []byte) {
	for i := 0; i+8 <= len(d); i += 8 {
		*s += 0x9e3779b97f4a7c15
		x := uint64(*s)
		x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
		x = (x ^ x>>27) * 0x94d049bb133111eb
		binary.LittleEndian.PutUint64(d[i:], x^x>>31)
	}
}

// usual returns n records with random digests of 32 bytes.
func usual(n int) []record {
	records := make([]record, n)
	var source digests
	for i := range records {
		records[i] = record{0x12, make([]byte, 32), uint64(i)}
		source.next(records[i].digest)
	}
	return records
}

// requireEmpty fails if there is a file in the folder.
func requireEmpty(t testing.TB, dir string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	require.Empty(t, entries)
}

// digestsOf returns the digests of an index with one bucket.
func digestsOf(index []byte) [][]byte {
	var all [][]byte
	width := int(binary.LittleEndian.Uint32(index[18:]))
	for r := range slices.Chunk(index[30:], width) {
		all = append(all, r[:width-8])
	}
	return all
}

// sizes is a writer that remembers how much came at once.
type sizes []int

func (s *sizes) Write(p []byte) (int, error) {
	*s = append(*s, len(p))
	return len(p), nil
}

func (s sizes) sum() (sum int) {
	for _, n := range s {
		sum += n
	}
	return sum
}
