package indexbuild

import (
	"sync"
	"sync/atomic"
)

// DefaultMemory is the size of a [Budget] for which none is given, in bytes.
const DefaultMemory = 256 << 20

// A Budget is the memory that builders share. It is safe for concurrent use.
//
// Each builder may use about 1 MiB whatever the others hold, so that all of
// them go on.
type Budget struct {
	limit    int64
	used     atomic.Int64
	builders atomic.Int64 // not yet closed
	blocks   sync.Pool    // of *block: those that one builder gave back serve the next
}

// NewBudget returns a budget of so many bytes; 0 or less means [DefaultMemory].
func NewBudget(bytes int64) *Budget {
	if bytes <= 0 {
		bytes = DefaultMemory
	}
	return &Budget{limit: bytes}
}

// take takes n bytes, or none and returns false.
func (b *Budget) take(n int64) bool {
	if b.used.Add(n) <= b.limit {
		return true
	}
	b.used.Add(-n)
	return false
}

func (b *Budget) newBlock() *block {
	if k, ok := b.blocks.Get().(*block); ok {
		return k
	}
	return new(block)
}

// A share is what one builder holds of a budget.
type share struct {
	budget  *Budget
	minimum int64 // bytes that are not charged to the budget
	held    int64
}

// charged is the part of held that is charged to the budget.
func (s *share) charged() int64 { return max(0, s.held-s.minimum) }

// take adds n bytes to what is held. It returns false if the budget has not
// that much.
func (s *share) take(n int64) bool {
	more := max(0, s.held+n-s.minimum) - s.charged()
	if more > 0 && !s.budget.take(more) {
		return false
	}
	s.held += n
	return true
}

// force is take for what must be had.
func (s *share) force(n int64) {
	before := s.charged()
	s.held += n
	s.budget.used.Add(s.charged() - before)
}

// give is the opposite of force.
func (s *share) give(n int64) { s.force(-n) }

// fair is how much a builder may keep so that all builders of the budget have
// the same.
func (s *share) fair() int64 {
	return max(s.minimum, s.budget.limit/max(1, s.budget.builders.Load()))
}
