package fullindex

import (
	"math/bits"
	"sync/atomic"
)

const (
	driftPart  = 256            // how many records have one drift
	driftLeast = 64 * driftPart // how many records a bucket has that has any
	driftAfter = 256            // how many look-ups there are before it is worth its memory
	driftNoise = 8              // a smaller change is not worth a write that all cores see
)

// A drift remembers how far records lie from where they would be if digests were
// perfectly uniform: for each part of a bucket what the last look-up there found.
// Random digests drift by the root of their number, which is many pages of memory,
// but neighbours drift together, so that what is remembered spares a look-up the
// slowest of its accesses to memory. It takes four bytes for 256 records. It need
// not be right.
type drift struct {
	parts   atomic.Pointer[[]atomic.Int32]
	lookUps atomic.Int32 // before there are parts
}

// part returns the drift of the part that has the i-th of count records, nil if
// there are none yet.
func (d *drift) part(i, count int64) *atomic.Int32 {
	parts := d.parts.Load()
	if parts == nil {
		if d.lookUps.Add(1) < driftAfter {
			return nil
		}
		made := make([]atomic.Int32, count/driftPart+1)
		d.parts.CompareAndSwap(nil, &made)
		parts = d.parts.Load()
	}
	return &(*parts)[i/driftPart]
}

// A guess is where a key should be among the records of a bucket.
type guess struct {
	at    int64
	even  int64         // where it would be among perfectly uniform digests
	drift *atomic.Int32 // of that part; may be nil
}

// guess returns where a key should be.
func (b *bucket) guess(key uint64) guess {
	at, _ := bits.Mul64(key, uint64(b.count))
	g := guess{at: int64(at), even: int64(at)}
	if b.drift != nil {
		g.drift = b.drift.part(g.even, b.count)
	}
	if g.drift != nil {
		g.at = min(max(g.even+int64(g.drift.Load()), 0), b.count-1)
	}
	return g
}

// learn is told where the key is.
func (g guess) learn(at int64) {
	if g.drift == nil {
		return
	}
	drift := int32(at - g.even) // whatever that is in a bucket of billions
	if change := drift - g.drift.Load(); change > driftNoise || change < -driftNoise {
		g.drift.Store(drift)
	}
}
