package blockview

import (
	"cmp"
	"context"
	"io/fs"
	"runtime"
	"slices"

	blocks "github.com/ipfs/go-block-format"
	"github.com/ipfs/go-cid"
	"github.com/multiformats/go-multihash"

	"github.com/filecoin-project/dagstore/internal/guard"
	"github.com/filecoin-project/dagstore/internal/mapped"
)

// GetMany calls visit once for each of cids, with its position in cids and what
// Get gives for it. Blocks are read in the order in which they lie in the data,
// whatever the order of cids; identity CIDs and those that the index does not
// have come first. No more than one block is held at a time, and nothing while
// visit is called.
//
// It ends early and returns the error when visit returns one, ctx ends or the
// data is closed. An error of one block goes to visit alone.
func (b *Blocks) GetMany(ctx context.Context, cids []cid.Cid, visit func(i int, block blocks.Block, err error) error) error {
	order, err := b.order(ctx, cids)
	if err != nil {
		return err
	}
	for _, r := range order {
		if err := b.usable(ctx); err != nil {
			return err
		}
		block, err := b.get(ctx, query{cid: cids[r.position], first: r.offset, reach: blockReach})
		if err == fs.ErrClosed { //nolint:errorlint // the bare value says that the data is closed
			return err
		}
		if err := visit(r.position, block, err); err != nil {
			return err
		}
	}
	return b.usable(ctx)
}

// A request is one CID of GetMany.
type request struct {
	offset   uint64 // of its section, as the index says; 0 if it does not
	position int    // in cids
}

// order returns a request for each of cids, sorted by offset.
func (b *Blocks) order(ctx context.Context, cids []cid.Cid) ([]request, error) {
	order := make([]request, len(cids))
	for i, c := range cids {
		if err := b.usable(ctx); err != nil {
			return nil, err
		}
		order[i] = request{offset: b.offset(c), position: i}
	}
	slices.SortFunc(order, func(x, y request) int {
		return cmp.Or(cmp.Compare(x.offset, y.offset), cmp.Compare(x.position, y.position))
	})
	return order, nil
}

// offset returns the first offset that the index has for c, without a look at
// the data. Whatever goes wrong gives 0: reading the block will tell.
func (b *Blocks) offset(c cid.Cid) (offset uint64) {
	pass, err := b.data.Enter()
	if err != nil {
		return 0
	}
	defer b.data.Leave(pass)
	defer runtime.KeepAlive(b) // and with it the index, which Find does not hold open
	s := search{query: query{cid: c}}
	if s.parse() != nil || s.code == multihash.IDENTITY {
		return 0
	}
	if b.full == nil {
		_ = guard.Call(func() error {
			return b.idx.GetAll(c, func(at uint64) bool {
				if offset == 0 {
					offset = at
				}
				return false
			})
		})
		return offset
	}
	_ = mapped.Faultless(func() error {
		matches := b.full.Find(s.code, s.digest)
		offset, _ = matches.Next()
		return nil
	}, b.indexMapping())
	return offset
}
