package blockview

import (
	"testing"
	"fmt"

	"github.com/multiformats/go-multicodec"
	carindex "github.com/ipld/go-car/v2/index"
	"github.com/filecoin-project/dagstore/internal/fullindex"
)

var sinkOffset uint64

func BenchmarkFindOnly(b *testing.B) {
	car := makeSmallBlocks(b)
	goIdx := goCars(b, multicodec.CarMultihashIndexSorted, car.records)
	idx, _ := inFile(b, encoded(b, goIdx))
	full, _ := fullindex.Of(idx)
	var ours, theirs []float64
	for b.Loop() {
		p := pick(car.records, 100_000)
		c := contestant{"x", 1, func(r carindex.Record) error {
			code, digest, _, _ := fullindex.MultihashOf(r.Cid)
			m := full.Find(code, digest)
			sinkOffset, _ = m.Next()
			return nil
		}}
		ours = append(ours, c.run(b, p))
		c.read = func(r carindex.Record) error {
			o, err := carindex.GetFirst(goIdx, r.Cid)
			sinkOffset = o
			return err
		}
		theirs = append(theirs, c.run(b, pick(car.records, 100_000)))
	}
	fmt.Println(median(ours), median(theirs), median(ours)/median(theirs))
}
