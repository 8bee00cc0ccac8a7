package indexbuild

import "github.com/filecoin-project/dagstore/internal/files"

// Limits makes a builder small, so that little data gets it everywhere.
type Limits struct {
	Minimum             int64
	Block, Buffer, Runs int
}

// NewLimited is New with other limits.
func NewLimited(fsys files.FS, dir string, budget *Budget, l Limits) *Builder {
	return newBuilder(fsys, dir, budget, limits{l.Minimum, l.Block, l.Buffer, l.Runs})
}

// Runs returns how many runs there are, and of which levels.
func (b *Builder) Runs() (levels []int) {
	for _, r := range b.runs {
		levels = append(levels, r.level)
	}
	return levels
}

// Held returns how many bytes the builder holds.
func (b *Builder) Held() int64 { return b.share.held }

// Used returns how many bytes of the budget are used.
func (b *Budget) Used() int64 { return b.used.Load() }
