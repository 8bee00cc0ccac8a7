package indexbs

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	blocks "github.com/ipfs/go-block-format"
	"github.com/ipfs/go-cid"
	"github.com/multiformats/go-multihash"

	"github.com/filecoin-project/dagstore/shard"
)

// A batch is a GetMany in progress.
type batch struct {
	*IndexBackedBlockstore
	ctx    context.Context
	lender lender
	visit  func(i int, block blocks.Block, err error) error
	down   map[shard.Key]error // shards that could not be opened, and why
}

func getMany(
	ctx context.Context, b *IndexBackedBlockstore, l lender, cids []cid.Cid,
	visit func(i int, block blocks.Block, err error) error,
) error {
	m := &batch{IndexBackedBlockstore: b, ctx: ctx, lender: l, visit: visit, down: map[shard.Key]error{}}
	if err := m.usable(); err != nil {
		return err
	}
	pending, err := m.admit(cids)
	if err == nil {
		pending, err = m.guess(pending)
	}
	if err == nil {
		pending, err = m.locate(pending)
	}
	for err == nil && len(pending) > 0 {
		pending, err = m.round(pending)
	}
	if err != nil {
		return err
	}
	return m.usable()
}

func (m *batch) usable() error { return m.IndexBackedBlockstore.usable(m.ctx, m.lender) }

// refuse visits a block with its error.
func (m *batch) refuse(r *request, err error) error {
	if err := m.usable(); err != nil {
		return err
	}
	return m.visit(r.place, nil, err)
}

// admit returns requests for the blocks that can be asked for.
func (m *batch) admit(cids []cid.Cid) ([]*request, error) {
	all := make([]request, len(cids))
	pending := make([]*request, 0, len(cids))
	for i, c := range cids {
		r := &all[i]
		r.cid, r.place = c, i
		if err := r.check(); err == nil {
			pending = append(pending, r)
		} else if err := m.refuse(r, err); err != nil {
			return nil, err
		}
	}
	return pending, nil
}

// guess reads from the shard that the blocks are likely to be in, and returns the
// requests that are left.
func (m *batch) guess(pending []*request) ([]*request, error) {
	var likely, others []*request
	for _, r := range pending {
		if m.canGuess(r.cid) {
			likely = append(likely, r)
		} else {
			others = append(others, r)
		}
	}
	if len(likely) == 0 {
		return pending, nil
	}
	e := m.lender.likely()
	if e == nil {
		return pending, nil
	}
	for _, r := range likely {
		r.tried = e.key
	}
	missed, err := m.readEntry(e, likely)
	return append(missed, others...), err
}

// locate asks the index for the shards of blocks, and returns the requests for
// which there are any.
func (m *batch) locate(pending []*request) ([]*request, error) {
	lookUp := m.lookUp(pending)
	located := pending[:0]
	for i, r := range pending {
		keys, err := lookUp(i)
		if err := fatal(m.ctx, err); err != nil {
			return nil, err
		}
		if err := m.arrange(r, keys, err); err == nil {
			located = append(located, r)
		} else if err := m.refuse(r, err); err != nil {
			return nil, err
		}
	}
	return located, nil
}

// lookUp returns a function that tells the shards of each of the blocks.
func (m *batch) lookUp(pending []*request) func(i int) ([]shard.Key, error) {
	all, ok := m.store.(BatchDagstore)
	if !ok || len(pending) == 0 {
		return func(i int) ([]shard.Key, error) {
			return m.store.ShardsContainingMultihash(m.ctx, pending[i].cid.Hash())
		}
	}
	hs := make([]multihash.Multihash, len(pending))
	for i, r := range pending {
		hs[i] = r.cid.Hash()
	}
	answers, err := all.ShardsContainingMultihashes(m.ctx, hs)
	if err == nil && len(answers) != len(hs) {
		err = fmt.Errorf("index gave %d answers to %d questions", len(answers), len(hs))
	}
	return func(i int) ([]shard.Key, error) {
		if err != nil {
			return nil, err
		}
		return answers[i], nil
	}
}

// round reads each block from one of its shards, and returns the requests for
// those that it did not give and that others may have.
func (m *batch) round(pending []*request) ([]*request, error) {
	var missed []*request
	for _, g := range m.groups(pending) {
		left, err := m.readGroup(g)
		if err != nil {
			return nil, err
		}
		missed = append(missed, left...)
	}
	again := missed[:0]
	for _, r := range missed {
		r.keys = slices.DeleteFunc(r.keys, func(key shard.Key) bool {
			err, down := m.down[key]
			if down {
				r.passOver(key, err)
			}
			return down
		})
		if len(r.keys) > 0 {
			again = append(again, r)
		} else if err := m.refuse(r, r.err()); err != nil {
			return nil, err
		}
	}
	return again, nil
}

// A group is the blocks that are to be read from one shard.
type group struct {
	key      shard.Key
	requests []*request
}

// groups divides blocks among their shards such that few are read. With a
// selector the first shard of each is settled. Otherwise blocks that only one
// shard has come first; each of the others goes to a shard that has some already,
// or that is open, or that has the most of them.
func (m *batch) groups(pending []*request) []*group {
	weights := map[shard.Key]int{}
	for _, r := range pending {
		for _, key := range r.keys {
			weights[key]++
		}
	}
	for key := range m.cache.openAmong(maps.Keys(weights)) {
		weights[key] += len(pending)
	}
	var all []*group
	byKey := map[shard.Key]*group{}
	assign := func(r *request, key shard.Key) {
		g := byKey[key]
		if g == nil {
			g = &group{key: key}
			byKey[key] = g
			all = append(all, g)
			weights[key] += 3 * len(pending)
		}
		g.requests = append(g.requests, r)
	}
	var free []*request
	for _, r := range pending {
		if m.selector != nil || len(r.keys) == 1 {
			assign(r, r.keys[0])
		} else {
			free = append(free, r)
		}
	}
	heavier := func(x, y shard.Key) int { return cmp.Compare(weights[x], weights[y]) }
	for _, r := range free {
		assign(r, slices.MaxFunc(r.keys, heavier))
	}
	return all
}

// readGroup opens a shard and reads blocks from it. It returns the requests for
// those that it did not give.
func (m *batch) readGroup(g *group) ([]*request, error) {
	for _, r := range g.requests {
		r.remove(g.key)
	}
	e, err := m.lender.lease(m.ctx, g.key)
	if err == nil {
		return m.readEntry(e, g.requests)
	}
	if err := fatal(m.ctx, err); err != nil {
		return nil, err
	}
	m.down[g.key] = err
	for _, r := range g.requests {
		r.passOver(g.key, err)
	}
	return g.requests, nil
}

// errStop ends the GetMany of a shard; what it stands for is kept elsewhere.
var errStop = errors.New("stop")

// readEntry uses a lease, ends it, and returns the requests for the blocks that
// the shard did not give. The error is one that ends the batch.
func (m *batch) readEntry(e *entry, requests []*request) (missed []*request, stop error) {
	o := idle
	defer func() { m.lender.giveBack(e, o) }()
	miss := func(r *request, err error) {
		o = max(o, outcomeOf(m.ctx, err))
		r.passOver(e.key, err)
		missed = append(missed, r)
	}
	cids := make([]cid.Cid, len(requests))
	for i, r := range requests {
		cids[i] = r.cid
	}
	visited := make([]bool, len(requests))
	e.blocks.HashOnRead(m.verify.Load())
	err := e.blocks.GetMany(m.ctx, cids, func(i int, block blocks.Block, err error) error {
		visited[i] = true
		if stop = m.usable(); stop != nil {
			return errStop
		}
		if err != nil {
			miss(requests[i], err)
			return nil
		}
		o = max(o, served)
		if stop = m.visit(requests[i].place, block, nil); stop != nil {
			return errStop
		}
		return nil
	})
	if stop != nil {
		return nil, stop
	}
	if err := fatal(m.ctx, err); err != nil {
		return nil, err
	}
	for i, r := range requests {
		if !visited[i] {
			miss(r, err)
		}
	}
	return missed, nil
}
