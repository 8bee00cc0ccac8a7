package blockview

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/filecoin-project/dagstore/internal/cartest"
	"github.com/filecoin-project/dagstore/internal/fullindex"
	"github.com/filecoin-project/dagstore/internal/mapped"
)

func BenchmarkHot(b *testing.B) {
	made := cartest.Blocks(64, 256, 1)
	data, _ := open(b, cartest.V1(nil, made))
	require.NoError(b, data.Map())
	idx, _ := inFile(b, encoded(b, index(b, data)))
	bs := newBlocks(b, data, idx)
	full, _ := fullindex.Of(idx)
	ctx := context.Background()
	b.Run("Get", func(b *testing.B) {
		for i := 0; b.Loop(); i++ {
			bs.Get(ctx, made[i&63].Cid)
		}
	})
	b.Run("View", func(b *testing.B) {
		for i := 0; b.Loop(); i++ {
			bs.View(ctx, made[i&63].Cid, func([]byte) error { return nil })
		}
	})
	b.Run("Has", func(b *testing.B) {
		for i := 0; b.Loop(); i++ {
			bs.Has(ctx, made[i&63].Cid)
		}
	})
	b.Run("Find", func(b *testing.B) {
		for i := 0; b.Loop(); i++ {
			code, digest, _, _ := fullindex.MultihashOf(made[i&63].Cid)
			m := full.Find(code, digest)
			m.Next()
		}
	})
	b.Run("Enter", func(b *testing.B) {
		for b.Loop() {
			p, _ := data.Enter()
			data.Leave(p)
		}
	})
	b.Run("Faultless", func(b *testing.B) {
		x := 0
		m := data.Mapping()
		for b.Loop() {
			mapped.Faultless(func() error { x++; return nil }, m, m)
		}
	})
}
