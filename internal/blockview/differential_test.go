package blockview

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/ipfs/go-cid"
	ipld "github.com/ipfs/go-ipld-format"
	carv2 "github.com/ipld/go-car/v2"
	"github.com/ipld/go-car/v2/blockstore"
	"github.com/multiformats/go-multihash"
	"github.com/stretchr/testify/require"

	"github.com/filecoin-project/dagstore/internal/cartest"
)

// anyBlocks returns blocks of all kinds, some more than once and some under
// several CIDs.
func anyBlocks(r *rand.Rand) []cartest.Block {
	hashes := []struct {
		code   uint64
		length int
	}{
		{multihash.SHA2_256, -1}, {multihash.SHA2_256, 20}, {multihash.SHA2_512, -1}, {multihash.SHA1, -1}, {multihash.SHA3_256, -1},
		{multihash.BLAKE2B_MIN + 31, -1}, {multihash.MURMUR3X64_64, -1}, {multihash.IDENTITY, -1},
	}
	codecs := []uint64{cid.Raw, cid.DagProtobuf, cid.DagCBOR, cid.GitRaw, 0xb401}
	var made []cartest.Block
	for range r.IntN(60) {
		data := cartest.Bytes(r, []int{0, 1, 50, 130, 300, 5000}[r.IntN(6)])
		if r.IntN(10) == 0 {
			made = append(made, cartest.V0(data))
			continue
		}
		h := hashes[r.IntN(len(hashes))]
		if h.code == multihash.IDENTITY {
			data = data[:min(len(data), 130)]
		}
		block := cartest.Hashed(data, h.code, h.length)
		for range 1 + r.IntN(5)/4 {
			block.Cid = cid.NewCidV1(codecs[r.IntN(len(codecs))], block.Cid.Hash())
			made = append(made, block)
		}
	}
	for range len(made) / 5 {
		made = append(made, made[r.IntN(len(made))])
	}
	r.Shuffle(len(made), func(i, j int) { made[i], made[j] = made[j], made[i] })
	return made
}

// anyCar returns a CAR of any container.
func anyCar(r *rand.Rand, made []cartest.Block) []byte {
	car := cartest.V1(nil, made)
	if r.IntN(2) == 0 {
		car = cartest.Padded(car, r.IntN(200))
	}
	if r.IntN(2) == 0 {
		car = cartest.V2(car, cartest.V2Options{DataPadding: r.IntN(100)})
	}
	return car
}

func TestTheBlocksAreThoseOfGoCar(t *testing.T) {
	for seed := range uint64(14) {
		r := rand.New(rand.NewPCG(seed, 7))
		made := anyBlocks(r)
		car := anyCar(r, made)
		theirs, err := blockstore.NewReadOnly(bytes.NewReader(car), nil, carv2.ZeroLengthSectionAsEOF(true), carv2.StoreIdentityCIDs(true))
		require.NoError(t, err)
		data, _ := open(t, car)
		if seed%2 == 0 {
			require.NoError(t, data.Map())
		}
		for name, idx := range indices(t, data) {
			t.Run(fmt.Sprintf("%d %s", seed, name), func(t *testing.T) {
				b := newBlocks(t, data, idx)
				b.HashOnRead(true)
				for _, want := range append(made, cartest.Raw([]byte("absent"))) {
					requireSame(t, theirs, b, want.Cid)
					requireSame(t, theirs, b, cid.NewCidV1(cid.DagJSON, want.Cid.Hash()))
				}
				requireSameKeys(t, theirs, b)
			})
		}
	}
}

func requireSame(t *testing.T, theirs *blockstore.ReadOnly, b *Blocks, c cid.Cid) {
	t.Helper()
	want, wantErr := theirs.Get(t.Context(), c)
	got, err := b.Get(t.Context(), c)
	wantSize, _ := theirs.GetSize(t.Context(), c)
	size, _ := b.GetSize(t.Context(), c)
	wantHas, _ := theirs.Has(t.Context(), c)
	has, hasErr := b.Has(t.Context(), c)
	require.NoError(t, hasErr)
	require.Equal(t, wantHas, has)
	if wantErr != nil {
		require.True(t, ipld.IsNotFound(wantErr))
		require.Equal(t, wantErr, err)
		return
	}
	require.NoError(t, err)
	require.Equal(t, want.Cid(), got.Cid())
	require.True(t, bytes.Equal(want.RawData(), got.RawData()))
	require.Equal(t, wantSize, size)
}

// requireSameKeys compares the sets: go-car lists duplicates as often as they are there.
func requireSameKeys(t *testing.T, theirs *blockstore.ReadOnly, b *Blocks) {
	t.Helper()
	list, err := theirs.AllKeysChan(t.Context())
	require.NoError(t, err)
	want := map[cid.Cid]bool{}
	for c := range list {
		want[c] = true
	}
	got := map[cid.Cid]bool{}
	for _, c := range keys(t, b) {
		require.False(t, got[c], "a key is listed twice")
		got[c] = true
	}
	require.Equal(t, want, got)
}
