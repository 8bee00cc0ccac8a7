// Package blockview is the read-only blockstore over the bytes of a CAR and an
// index of it. The index is never believed: what it points at is checked.
package blockview

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"sync/atomic"

	blocks "github.com/ipfs/go-block-format"
	"github.com/ipfs/go-cid"
	ipld "github.com/ipfs/go-ipld-format"
	carindex "github.com/ipld/go-car/v2/index"
	"github.com/multiformats/go-multihash"

	"github.com/filecoin-project/dagstore/internal/carfile"
	"github.com/filecoin-project/dagstore/internal/guard"
	"github.com/filecoin-project/dagstore/internal/mapped"
)

// ErrHashMismatch is the error of a Get that verifies, for a block whose bytes
// do not have the hash of its CID.
var ErrHashMismatch = errors.New("block bytes do not match their hash")

var errUndefined = errors.New("undefined cid")

// Blocks are the blocks of a CAR. CIDs are compared by multihash, so that a
// block is found under any codec. The methods are safe for concurrent use and
// give fs.ErrClosed once the data is closed; they do not use the index after
// they have returned, but for AllKeysChan.
type Blocks struct {
	data    *mapped.Data
	idx     carindex.Index
	payload carfile.Payload
	verify  atomic.Bool
}

// New returns the blocks of data, which idx indexes. Both stay the caller's.
func New(data *mapped.Data, idx carindex.Index) (*Blocks, error) {
	payload, err := carfile.Locate(data, data.Size())
	if err != nil {
		return nil, err
	}
	return &Blocks{data: data, idx: idx, payload: payload}, nil
}

// HashOnRead sets whether Get verifies that a block has the hash of its CID.
// At first it does not.
func (b *Blocks) HashOnRead(enabled bool) { b.verify.Store(enabled) }

// Has tells whether the CAR holds the block.
func (b *Blocks) Has(ctx context.Context, c cid.Cid) (bool, error) {
	_, err := b.find(ctx, c)
	if ipld.IsNotFound(err) {
		return false, nil
	}
	return err == nil, err
}

// GetSize returns the size of the block in bytes, or ipld.ErrNotFound.
func (b *Blocks) GetSize(ctx context.Context, c cid.Cid) (int, error) {
	found, err := b.find(ctx, c)
	if err != nil {
		return 0, err
	}
	return found.size(), nil
}

// Get returns a copy of the block, or ipld.ErrNotFound.
func (b *Blocks) Get(ctx context.Context, c cid.Cid) (_ blocks.Block, err error) {
	defer guard.Recover(&err) // of a block that is longer than a slice can be
	found, err := b.find(ctx, c)
	if err != nil {
		return nil, err
	}
	data := found.inline
	if !found.isInline {
		data = make([]byte, found.size())
		if _, err := b.data.ReadAt(data, b.payload.Offset+found.section.DataOffset); err != nil {
			return nil, b.edge(c, err)
		}
	}
	if b.verify.Load() {
		if err := checkHash(c, data); err != nil {
			return nil, b.edge(c, err)
		}
	}
	return blocks.NewBlockWithCid(data, c)
}

// checkHash computes the hash of data anew.
func checkHash(c cid.Cid, data []byte) (err error) {
	defer guard.Recover(&err)
	decoded, err := multihash.Decode(c.Hash())
	if err != nil {
		return err
	}
	sum, err := multihash.Sum(data, decoded.Code, decoded.Length)
	if err != nil {
		return err
	}
	if !bytes.Equal(sum, c.Hash()) {
		return ErrHashMismatch
	}
	return nil
}

// usable returns the reason why a call cannot begin or go on.
func (b *Blocks) usable(ctx context.Context) error {
	select {
	case <-b.data.Done():
		return fs.ErrClosed
	default:
		return ctx.Err()
	}
}

// edge is the error that leaves the package. All errors of closed data are
// fs.ErrClosed, however the read that Close cut off has put it.
func (b *Blocks) edge(c cid.Cid, err error) error {
	select {
	case <-b.data.Done():
		return fs.ErrClosed
	default:
		return fmt.Errorf("block %s: %w", c, err)
	}
}
