package index

import (
	"io/fs"
	"os"

	lru "github.com/hashicorp/golang-lru/v2"

	"github.com/filecoin-project/dagstore/internal/fullindex"
)

// What is kept in memory is at most recentCount indices of recentSize bytes.
const (
	recentCount = 256
	recentSize  = 16 << 10
)

// A recentIndex is a small index that was read from a file.
type recentIndex struct {
	file  fs.FileInfo
	index fullindex.Index
}

// recent keeps small indices by path. An index is used again only while the
// file is the one that was read, unchanged.
type recent struct {
	indices *lru.Cache[string, recentIndex]
}

func newRecent() recent {
	indices, _ := lru.New[string, recentIndex](recentCount) // fails only for a count below 1
	return recent{indices}
}

func (r recent) get(path string, file fs.FileInfo) (fullindex.Index, bool) {
	kept, ok := r.indices.Get(path)
	same := ok && os.SameFile(kept.file, file) && kept.file.Size() == file.Size() && kept.file.ModTime().Equal(file.ModTime())
	return kept.index, same
}

// forget is called when a file is replaced or dropped: a later one may have got
// the same place on the disk within one tick of the clock.
func (r recent) forget(path string) { r.indices.Remove(path) }

func (r recent) keep(path string, file fs.FileInfo, index fullindex.Index) {
	if file.Size() <= recentSize {
		r.indices.Add(path, recentIndex{file, index})
	}
}
