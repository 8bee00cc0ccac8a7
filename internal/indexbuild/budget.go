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
	slabs    sync.Pool    // of *[]byte: small ones that one builder gave back serve the next
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

// A share is what one builder holds of a budget.
type share struct {
	budget  *Budget
	minimum int64 // bytes that are not charged to the budget
	held    int64
}

// charged is the part of held that is charged to the budget.
func (s *share) charged() int64 { return max(0, s.held-s.minimum) }

// take adds n bytes to what is held. It returns false if the budget has not
// that much, unless it must be had.
func (s *share) take(n int64, must bool) bool {
	before := s.charged()
	after := max(0, s.held+n-s.minimum)
	switch {
	case after <= before || must:
		s.budget.used.Add(after - before)
	case !s.budget.take(after - before):
		return false
	}
	s.held += n
	return true
}

// give is the opposite of take.
func (s *share) give(n int64) { s.take(-n, true) }

// keep is how much a builder should hold after it has spilled its records: no
// more than others can have too, and nothing that is beyond the budget.
func (s *share) keep() int64 {
	beyond := max(0, s.budget.used.Load()-s.budget.limit)
	fair := s.minimum + s.budget.limit/max(1, s.budget.builders.Load())
	return max(s.minimum, min(fair, s.held-beyond))
}
