package index

import (
	"context"
	"fmt"
	"io"
	"runtime"
	"sync/atomic"

	"github.com/ipfs/go-cid"
	carindex "github.com/ipld/go-car/v2/index"
	"github.com/multiformats/go-multicodec"
	"github.com/multiformats/go-multihash"

	"github.com/filecoin-project/dagstore/internal/fullindex"
	"github.com/filecoin-project/dagstore/shard"
)

// A Releaser is a full index that holds something open, such as a mapped file.
// Release lets go of it; after that the index must not be used. Who does not
// release it leaves that to the garbage collector.
type Releaser interface {
	Release()
}

// A Verifier is a full index that can be compared with what was once written.
type Verifier interface {
	// Verify reads the whole index. The error wraps ErrDamaged if it is not what
	// was added, and is that of ctx when that ends first.
	Verify(ctx context.Context) error
}

// A RecordIterator is a full index that yields its records without allocating.
type RecordIterator interface {
	// ForEachRecord calls visit with the code and the digest of each multihash
	// and its offset, in the order of code, digest length, digest and offset,
	// until visit returns an error, and returns that. The digest is valid only
	// during the call.
	ForEachRecord(visit func(code uint64, digest []byte, offset uint64) error) error
}

// A handle is one use of an open index file, as a full index. It ends when it is
// released, and when nobody can reach it any more. Its methods keep it reachable
// until they return.
type handle struct {
	*fullindex.Index
	key     shard.Key
	use     *use
	cleanup runtime.Cleanup
}

// An iterableHandle is a handle of an index that tells its multihashes.
type iterableHandle struct{ *handle }

var (
	_ carindex.Index         = (*handle)(nil)
	_ Verifier               = (*handle)(nil)
	_ Releaser               = (*handle)(nil)
	_ carindex.IterableIndex = iterableHandle{}
	_ RecordIterator         = iterableHandle{}
	_ RangeIterator          = iterableHandle{}
)

// A use is a count of an open file that is given back once.
type use struct {
	files *openFiles
	file  *openFile
	ended atomic.Bool
}

func (u *use) end() {
	if u.ended.CompareAndSwap(false, true) {
		u.files.letGo(u.file)
	}
}

// newHandle returns a handle of a file that was opened for one more user.
func newHandle(files *openFiles, o *openFile, key shard.Key) carindex.Index {
	h := &handle{Index: o.index, key: key, use: &use{files: files, file: o}}
	h.cleanup = runtime.AddCleanup(h, (*use).end, h.use)
	if o.index.Codec() == multicodec.CarMultihashIndexSorted {
		return iterableHandle{h}
	}
	return h
}

// Release implements Releaser.
func (h *handle) Release() {
	h.cleanup.Stop()
	h.use.end()
}

// Close is Release, and not the closing of the file, which others may use.
func (h *handle) Close() error {
	h.Release()
	return nil
}

// Verify implements Verifier.
func (h *handle) Verify(ctx context.Context) error {
	defer runtime.KeepAlive(h)
	if err := h.use.file.verify(ctx); err != nil {
		return fmt.Errorf("index of shard %q: %w", h.key, err)
	}
	return nil
}

// GetAll implements carindex.Index.
func (h *handle) GetAll(c cid.Cid, visit func(uint64) bool) error {
	defer runtime.KeepAlive(h)
	return h.Index.GetAll(c, visit)
}

// Marshal implements carindex.Index.
func (h *handle) Marshal(w io.Writer) (uint64, error) {
	defer runtime.KeepAlive(h)
	return h.Index.Marshal(w)
}

// ForEach implements carindex.IterableIndex. The visitor may keep the
// multihashes.
func (h iterableHandle) ForEach(visit func(multihash.Multihash, uint64) error) error {
	defer runtime.KeepAlive(h.handle)
	return h.Each(visit)
}

// ForEachRecord implements RecordIterator.
func (h iterableHandle) ForEachRecord(visit func(code uint64, digest []byte, offset uint64) error) error {
	defer runtime.KeepAlive(h.handle)
	return h.EachRecord(visit)
}

// ForEachInRange implements RangeIterator.
func (h iterableHandle) ForEachInRange(r MultihashRange, visit func(h multihash.Multihash, offset uint64) bool) error {
	return fullRanges{h.Index, h}.ForEachInRange(r, visit)
}
