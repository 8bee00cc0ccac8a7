package indexbuild

import (
	"cmp"

	"github.com/filecoin-project/dagstore/internal/files"
)

// Limits makes a builder small, so that little data gets it everywhere.
type Limits struct {
	Minimum            int64
	Slab, Buffer, Read int
	Shapes             int // 0: as usual
}

// NewLimited is New with other limits.
func NewLimited(fsys files.FS, dir string, budget *Budget, l Limits) *Builder {
	return newBuilder(fsys, dir, budget, limits{l.Minimum, l.Slab, l.Buffer, l.Read, cmp.Or(l.Shapes, usualLimits.shapes)})
}

// Runs returns the levels of the runs.
func (b *Builder) Runs() (levels []int) {
	for _, r := range b.spill.runs {
		levels = append(levels, r.level)
	}
	return levels
}

// Spilled returns the sizes of the runs that were spilled and not merged, in bytes.
func (b *Builder) Spilled() (sizes []int64) {
	for _, r := range b.spill.runs {
		if r.level == 0 {
			sizes = append(sizes, r.end-r.start)
		}
	}
	return sizes
}

// Held returns how many bytes the builder holds.
func (b *Builder) Held() int64 { return b.memory.arena.share.held }

// Used returns how many bytes of the budget are used.
func (b *Budget) Used() int64 { return b.used.Load() }

// ErrDamaged is the error of a temporary file that was written to.
var ErrDamaged = errDamaged
