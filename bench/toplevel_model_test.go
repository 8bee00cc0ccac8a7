package bench

import (
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"
)

const (
	toplevelShards  = 40
	toplevelWorkers = 5
	rememberedGone  = 4 // removed spans that are still looked for
)

// A toplevelModel is what the top-level index must say.
type toplevelModel struct {
	shards [toplevelShards]modelShard
	next   atomic.Uint64 // the next number of a multihash that was in no shard
}

// A modelShard is what was asked for and acknowledged of a shard.
type modelShard struct {
	mu       sync.Mutex
	spans    []span // acknowledged
	gone     []span // acknowledged
	pending  *order
	answered time.Time
	removals int // that were asked for
}

// ask decides what to do next with a shard.
func (m *toplevelModel) ask(shard int, random *rand.Rand) order {
	s := &m.shards[shard]
	s.mu.Lock()
	defer s.mu.Unlock()
	o := order{Shard: shard}
	if n := len(s.spans); n > 0 && random.IntN(5) < n {
		o.Remove = true
		s.removals++
	} else {
		size := uint64(1 + random.IntN(5000)) // stands in the journal at first
		if random.IntN(4) == 0 {
			size = uint64(9000 + random.IntN(40_000)) // becomes a layer
		}
		to := m.next.Add(size)
		o.span = span{to - size, to}
	}
	s.pending = &o
	return o
}

// settle tells what has become of what was asked for.
func (m *toplevelModel) settle(shard int, isDone bool) {
	s := &m.shards[shard]
	s.mu.Lock()
	defer s.mu.Unlock()
	o := s.pending
	s.pending, s.answered = nil, time.Now()
	switch {
	case !isDone:
	case o.Remove:
		s.gone = append(s.gone, s.spans...)
		s.gone = s.gone[max(0, len(s.gone)-rememberedGone):]
		s.spans = nil
	default:
		s.spans = append(s.spans[:len(s.spans):len(s.spans)], o.span)
	}
}

// A promise is what look-ups must find and must not find, as long as no removal is
// asked for.
type promise struct {
	spans, gone []span
	since       time.Time
	removals    int
}

// promise returns false while a removal is not answered.
func (s *modelShard) promise() (promise, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	isRemoved := s.pending != nil && s.pending.Remove
	return promise{s.spans, append([]span(nil), s.gone...), s.answered, s.removals}, !isRemoved
}

// holds tells whether no removal was asked for since.
func (s *modelShard) holds(p promise) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.removals == p.removals
}
