// Package blockview is the read-only blockstore over the bytes of a CAR and an
// index of it. The index is never believed: what it points at is checked.
package blockview

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"sync/atomic"

	blocks "github.com/ipfs/go-block-format"
	"github.com/ipfs/go-cid"
	ipld "github.com/ipfs/go-ipld-format"
	carindex "github.com/ipld/go-car/v2/index"
	"github.com/multiformats/go-multicodec"

	"github.com/filecoin-project/dagstore/internal/carfile"
	"github.com/filecoin-project/dagstore/internal/fullindex"
	"github.com/filecoin-project/dagstore/internal/guard"
	"github.com/filecoin-project/dagstore/internal/mapped"
)

// Blocks are the blocks of a CAR. CIDs are compared by multihash, so that a
// block is found under any codec and version; the block of an identity CID is
// in the CID. The methods are safe for concurrent use and give fs.ErrClosed
// once the data is closed, which waits for those in progress.
type Blocks struct {
	data    *mapped.Data
	payload carfile.Payload
	idx     carindex.Index
	full    *fullindex.Index // idx, if it is one of ours
	codec   multicodec.Code  // of idx; 0 if unknown
	verify  atomic.Bool

	damaged  func(error) // may be nil
	reported atomic.Bool // damaged has been called
}

// New returns the blocks of data, which idx indexes. Both stay the caller's,
// who keeps idx open until data is closed.
//
// Damaged, unless nil, is called once at most, by the first call that notices
// that idx is damaged or not an index of data: with what is wrong, in the
// goroutine of that call, when it holds nothing any more. Data that cannot be
// read is not the fault of the index.
func New(data *mapped.Data, idx carindex.Index, damaged func(error)) (*Blocks, error) {
	payload, err := carfile.Find(data, data.Size())
	if err != nil {
		return nil, err
	}
	data.Spread() // a blockstore is for many at once
	b := &Blocks{data: data, payload: payload, idx: idx, damaged: damaged}
	b.full, _ = fullindex.Of(idx)
	b.codec = codecOf(idx)
	return b, nil
}

// codecOf returns 0 for an index that panics; others may have made it.
func codecOf(idx carindex.Index) (codec multicodec.Code) {
	_ = guard.Call(func() error {
		codec = idx.Codec()
		return nil
	})
	return codec
}

// HashOnRead sets whether Get, GetMany and View verify that a block has the
// hash of its CID. At first they do not.
func (b *Blocks) HashOnRead(enabled bool) { b.verify.Store(enabled) }

// Has tells whether the CAR holds the block.
func (b *Blocks) Has(ctx context.Context, c cid.Cid) (bool, error) {
	err := b.look(ctx, query{cid: c, reach: headReach}, func(place) error { return nil })
	if err == errAbsent { //nolint:errorlint // look returns the bare value; most calls with an absent block come by here
		return false, nil
	}
	return err == nil, b.edge(c, err)
}

// GetSize returns the size of the block in bytes, or ipld.ErrNotFound.
func (b *Blocks) GetSize(ctx context.Context, c cid.Cid) (int, error) {
	var size int64
	err := b.look(ctx, query{cid: c, reach: headReach}, func(p place) error {
		size = p.size
		return nil
	})
	if err != nil {
		return 0, b.edge(c, err)
	}
	return int(min(size, math.MaxInt)), nil
}

// Get returns a copy of the block, or ipld.ErrNotFound.
func (b *Blocks) Get(ctx context.Context, c cid.Cid) (blocks.Block, error) {
	return b.get(ctx, query{cid: c, reach: blockReach})
}

func (b *Blocks) get(ctx context.Context, q query) (blocks.Block, error) {
	var data []byte
	err := b.look(ctx, q, func(p place) (err error) {
		if data, err = allocate(p.size); err != nil {
			return err
		}
		return b.fill(data, p)
	})
	if err == nil && b.verify.Load() {
		err = checkHash(q.cid, data)
	}
	if err != nil {
		return nil, b.edge(q.cid, err)
	}
	return blocks.NewBlockWithCid(data, q.cid)
}

// allocate returns size bytes, or an error if a slice cannot be so long.
func allocate(size int64) (p []byte, err error) {
	defer guard.Recover(&err)
	return make([]byte, size), nil
}

// usable returns the reason why a call cannot begin or go on.
func (b *Blocks) usable(ctx context.Context) error {
	if b.data.Closed() {
		return fs.ErrClosed
	}
	return ctx.Err()
}

// edge is the error that leaves the package for err. All errors of closed data
// are fs.ErrClosed, however the read that Close cut off has put it. Reads give
// it a moment before Done tells.
func (b *Blocks) edge(c cid.Cid, err error) error {
	switch {
	case err == nil:
		return nil
	case b.data.Closed(), errors.Is(err, fs.ErrClosed):
		return fs.ErrClosed
	case errors.Is(err, errAbsent):
		return ipld.ErrNotFound{Cid: c}
	case errors.Is(err, errUndefined), errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return err
	}
	return fmt.Errorf("block %s: %w", c, err)
}

// report tells the caller of New about the first damage of the index.
func (b *Blocks) report(damage error) {
	if b.damaged != nil && b.reported.CompareAndSwap(false, true) {
		b.damaged(damage)
	}
}
