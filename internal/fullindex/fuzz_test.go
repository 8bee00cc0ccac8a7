package fullindex_test

import (
	"math/rand/v2"
	"testing"

	carindex "github.com/ipld/go-car/v2/index"

	"github.com/filecoin-project/dagstore/internal/cartest"
)

func FuzzOpen(f *testing.F) {
	r := rand.New(rand.NewPCG(1, 0))
	for _, generate := range kinds {
		records := generate(r)
		for _, format := range formats {
			_, b := serialise(f, format, records[:min(len(records), 8)])
			f.Add(b[:min(len(b), 600)], uint64(18), []byte("a digest"))
		}
	}
	f.Fuzz(func(t *testing.T, b []byte, code uint64, digest []byte) {
		use(t, b, []carindex.Record{{Cid: cartest.Cid(code, digest)}})
	})
}
