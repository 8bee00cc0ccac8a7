package fullindex_test

import (
	"math/rand/v2"
	"testing"

	"github.com/ipfs/go-cid"
	"github.com/multiformats/go-multihash"
	"github.com/multiformats/go-varint"
	"github.com/stretchr/testify/require"

	"github.com/filecoin-project/dagstore/internal/cartest"
	"github.com/filecoin-project/dagstore/internal/fullindex"
)

func TestTheMultihashOfAnyCidIsFound(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 1))
	for _, c := range []cid.Cid{
		cartest.V0([]byte("x")).Cid,
		cartest.Raw([]byte("x")).Cid,
		cartest.Identity(nil).Cid,
		cartest.Identity(cartest.Bytes(r, 129)).Cid,
		cartest.Identity(cartest.Bytes(r, 20_000)).Cid,
		cartest.Cid(1<<40, []byte("function of many bytes")),
		cid.NewCidV1(cid.DagCBOR, cartest.Raw([]byte("y")).Cid.Hash()),
		cid.NewCidV1(1<<62, cartest.Raw([]byte("z")).Cid.Hash()),
	} {
		requireParts(t, c)
	}
}

func TestACidWithoutASoundMultihashHasNone(t *testing.T) {
	for name, c := range map[string]cid.Cid{
		"undefined":      cid.Undef,
		"no multihash":   cid.NewCidV1(cid.Raw, nil),
		"no length":      cid.NewCidV1(cid.Raw, []byte{18}),
		"cut":            cid.NewCidV1(cid.Raw, []byte{18, 5, 1, 2, 3, 4}),
		"too long":       cid.NewCidV1(cid.Raw, []byte{18, 1, 1, 2}),
		"not minimal":    cid.NewCidV1(cid.Raw, []byte{0x92, 0, 1, 1}),
		"endless":        cid.NewCidV1(cid.Raw, []byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1, 1, 1}),
		"of no codec":    cid.NewCidV1(1<<63, []byte{18, 1, 1}),
		"length of 2^63": cid.NewCidV1(cid.Raw, append([]byte{18}, varint.ToUvarint(1<<63-1)...)),
	} {
		t.Run(name, func(t *testing.T) {
			_, _, _, ok := fullindex.MultihashOf(c)
			require.False(t, ok)
		})
	}
}

// requireParts checks the parts of a CID against those that go-cid tells.
func requireParts(t *testing.T, c cid.Cid) {
	t.Helper()
	code, digest, hash, ok := fullindex.MultihashOf(c)
	want, err := multihash.Decode(c.Hash())
	require.Equal(t, err == nil, ok, "%v", err)
	if err != nil {
		return
	}
	require.Equal(t, want.Code, code)
	require.Equal(t, string(want.Digest), digest)
	require.Equal(t, string(c.Hash()), hash)
}

func FuzzMultihashOf(f *testing.F) {
	f.Add(uint64(cid.Raw), []byte(cartest.Raw(nil).Cid.Hash()))
	f.Add(uint64(0x300000), []byte(cartest.Identity([]byte("abc")).Cid.Hash()))
	f.Add(uint64(0), []byte{0x92, 0, 1, 1})
	f.Add(uint64(1<<40), []byte{})
	f.Fuzz(func(t *testing.T, codec uint64, hash []byte) {
		requireParts(t, cid.NewCidV1(codec>>1, hash))
		if len(hash) == 34 && hash[0] == multihash.SHA2_256 && hash[1] == 32 {
			requireParts(t, cid.NewCidV0(hash))
		}
	})
}
