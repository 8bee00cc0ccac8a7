package index

import (
	"io/fs"
	"sync"

	lru "github.com/hashicorp/golang-lru/v2"

	"github.com/filecoin-project/dagstore/internal/files"
	"github.com/filecoin-project/dagstore/shard"
)

// idleFiles is how many index files stay open that nobody uses. An open file
// costs a mapping and about 1 KiB, whatever its size.
const idleFiles = 256

// openFiles keeps index files open. All users of a file share one mapping, which
// ends when the last has gone and the file is idle no longer.
type openFiles struct {
	fs files.FS

	mu     sync.Mutex           // guards what follows, and the counts of files; not held during I/O
	byPath map[string]*openFile // in use, or idle
	idle   *lru.Cache[string, *openFile]
}

func newOpenFiles(fsys files.FS) *openFiles {
	idle, _ := lru.New[string, *openFile](idleFiles) // fails only for a count below 1
	return &openFiles{fs: fsys, byPath: make(map[string]*openFile), idle: idle}
}

// use returns the open file of a key at path, whose information is info, for one
// more user, who lets it go in the end.
func (p *openFiles) use(path string, info fs.FileInfo, key shard.Key) (*openFile, error) {
	if o := p.reuse(path, info); o != nil {
		return o, nil
	}
	fresh, err := openIndexFile(p.fs, path, key)
	if err != nil {
		return nil, err
	}
	if o := p.reuse(path, fresh.info); o != nil { // opened by somebody else meanwhile
		fresh.close()
		return o, nil
	}
	return p.add(fresh), nil
}

// reuse returns the file if it is open and has not changed since.
func (p *openFiles) reuse(path string, info fs.FileInfo) *openFile {
	p.mu.Lock()
	defer p.mu.Unlock()
	o := p.byPath[path]
	if o == nil || !o.is(info) {
		return nil
	}
	o.users++
	p.idle.Remove(path)
	return o
}

// add puts a new file in the place of an older one.
func (p *openFiles) add(fresh *openFile) *openFile {
	p.mu.Lock()
	old := p.take(fresh.path)
	fresh.users = 1
	p.byPath[fresh.path] = fresh
	p.mu.Unlock()
	old.close()
	return fresh
}

// forget is called when a file was replaced or dropped.
func (p *openFiles) forget(path string) {
	p.mu.Lock()
	old := p.take(path)
	p.mu.Unlock()
	old.close()
}

// take removes a file from the table and returns it if it is to be closed now,
// or nil. The caller holds mu.
func (p *openFiles) take(path string) *openFile {
	o := p.byPath[path]
	if o == nil {
		return nil
	}
	delete(p.byPath, path)
	p.idle.Remove(path)
	o.stale = true
	if o.users > 0 {
		return nil
	}
	return o
}

// letGo ends one use of a file.
func (p *openFiles) letGo(o *openFile) {
	p.mu.Lock()
	o.users--
	var unused *openFile
	switch {
	case o.users > 0:
	case o.stale:
		unused = o
	default:
		if p.idle.Len() == idleFiles {
			oldest, _, _ := p.idle.GetOldest()
			unused = p.take(oldest)
		}
		p.idle.Add(o.path, o)
	}
	p.mu.Unlock()
	unused.close()
}

// closeIdle closes the files that nobody uses; those in use are closed when they
// are let go.
func (p *openFiles) closeIdle() {
	p.mu.Lock()
	var unused []*openFile
	for path := range p.byPath {
		if o := p.take(path); o != nil {
			unused = append(unused, o)
		}
	}
	p.mu.Unlock()
	for _, o := range unused {
		o.close()
	}
}

// close is called once nobody uses the file any more. Of no file it does nothing.
func (o *openFile) close() {
	if o == nil {
		return
	}
	if err := o.index.Close(); err != nil {
		logger.Warnw("index file not closed cleanly", "file", o.path, "err", err)
	}
}
