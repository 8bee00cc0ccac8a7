package dagstore

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/ipfs/go-cid"
	ds "github.com/ipfs/go-datastore"
	carindex "github.com/ipld/go-car/v2/index"
	mh "github.com/multiformats/go-multihash"

	"github.com/filecoin-project/dagstore/index"
	"github.com/filecoin-project/dagstore/internal/guard"
	"github.com/filecoin-project/dagstore/shard"
)

// ShardsContainingMultihash returns the shards that have a block with this
// multihash. If there is none, the error is the top-level index's own, for the
// indices of this module datastore.ErrNotFound. Available shards that the index
// lacks, because it was lost or a crash came between, are found in their full
// indices, and come last, sorted by their keys. One of these that is damaged is
// made anew; that one cannot be read now is an error, since it may have the block.
func (d *DAGStore) ShardsContainingMultihash(ctx context.Context, h mh.Multihash) ([]shard.Key, error) {
	if ctx == nil {
		return nil, errNilContext
	}
	return d.find(ctx, h, d.topLevel.inverted.GetShardsForMultihash)
}

// FirstShardContainingMultihash returns the first of ShardsContainingMultihash. Its
// errors are the same. It is faster if the top-level index is an index.FirstInverted
// and many shards have the block.
func (d *DAGStore) FirstShardContainingMultihash(ctx context.Context, h mh.Multihash) (shard.Key, error) {
	if ctx == nil {
		return shard.Key{}, errNilContext
	}
	var first shard.Key // of the index
	ask := d.topLevel.inverted.GetShardsForMultihash
	if inverted, ok := d.topLevel.inverted.(index.FirstInverted); ok {
		ask = func(ctx context.Context, h mh.Multihash) (_ []shard.Key, err error) {
			first, err = inverted.GetFirstShardForMultihash(ctx, h)
			return []shard.Key{first}, err
		}
	}
	keys, err := d.find(ctx, h, ask)
	if first != (shard.Key{}) && !slices.Contains(keys, first) { // it was destroyed: the index may know others
		keys, err = d.ShardsContainingMultihash(ctx, h)
	}
	if err != nil {
		return shard.Key{}, err
	}
	return keys[0], nil
}

// find looks a multihash up. The top-level index is asked by ask.
func (d *DAGStore) find(
	ctx context.Context, h mh.Multihash, ask func(context.Context, mh.Multihash) ([]shard.Key, error),
) ([]shard.Key, error) {
	var found []shard.Key
	var none error // the index's own
	lacking, isAsked, err := d.consult(ctx, []mh.Multihash{h}, func() (err error) {
		found, none, err = orNone(ask(ctx, h))
		return err
	})
	if !isAsked {
		found, none = nil, nil
	}
	if err == nil {
		if keys := d.gate.known(join(found, lacking.to(0))); len(keys) > 0 {
			return keys, nil
		}
		if err = none; err == nil {
			err = ds.ErrNotFound
		}
	}
	return nil, fmt.Errorf("shards that contain multihash %s: %w", h.B58String(), err)
}

// ShardsContainingMultihashes does that for many multihashes at once. The answers
// stand at the places of the multihashes; nil if no shard has one, which is no
// error. It is faster than one by one if the top-level index is an
// index.BatchInverted.
func (d *DAGStore) ShardsContainingMultihashes(ctx context.Context, hs []mh.Multihash) ([][]shard.Key, error) {
	if ctx == nil {
		return nil, errNilContext
	}
	var found answers
	lacking, isAsked, err := d.consult(ctx, hs, func() (err error) {
		found, err = findMany(ctx, d.topLevel.inverted, hs)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("shards that contain %d multihashes: %w", len(hs), err)
	}
	if !isAsked {
		found = nil
	}
	all := make([][]shard.Key, len(hs))
	for i := range all {
		all[i] = d.gate.known(join(found.to(i), lacking.to(i)))
	}
	return all, nil
}

// consult asks the shards that the top-level index lacks, and then the index, by ask,
// unless it is damaged. In this order, because then a shard that is added meanwhile
// is in one of both; when shards have gone the other way, all is asked again.
func (d *DAGStore) consult(ctx context.Context, hs []mh.Multihash, ask func() error) (lacking answers, isAsked bool, err error) {
	t := d.topLevel
	for {
		s := t.shards.now.Load()
		lacking, err = findLacking(ctx, s.lacking, hs)
		if err == nil && !s.damaged {
			err = t.unlessDamaged(s, t.call(ask))
		}
		if t.shards.now.Load().moves == s.moves {
			return lacking, !s.damaged, err
		}
	}
}

// answers are the shards that have each of many multihashes. Nil is none for all.
type answers [][]shard.Key

// to returns the answer to the i-th question.
func (a answers) to(i int) []shard.Key {
	if a == nil {
		return nil
	}
	return a[i]
}

// join appends the shards that the index lacks to what it gave, which it may keep.
func join(found, lacking []shard.Key) []shard.Key {
	found = slices.Clip(found)
	for _, key := range lacking {
		if !slices.Contains(found, key) {
			found = append(found, key)
		}
	}
	return found
}

// orNone takes what a top-level index has answered. That no shard has the multihash is
// none, and not err.
func orNone(found []shard.Key, asked error) (_ []shard.Key, none, err error) {
	if errors.Is(asked, ds.ErrNotFound) {
		return nil, asked, nil
	}
	return found, nil, asked
}

// findMany asks a top-level index for many multihashes: at once, if it can answer so.
func findMany(ctx context.Context, inverted index.Inverted, hs []mh.Multihash) (found answers, err error) {
	if batch, ok := inverted.(index.BatchInverted); ok {
		found, err = batch.GetShardsForMultihashes(ctx, hs)
		if err == nil && len(found) != len(hs) {
			err = fmt.Errorf("top-level index: %d answers to %d questions", len(found), len(hs))
		}
		return found, err
	}
	found = make(answers, len(hs))
	for i, h := range hs {
		if found[i], _, err = orNone(inverted.GetShardsForMultihash(ctx, h)); err != nil {
			return nil, err
		}
	}
	return found, nil
}

// findLacking looks multihashes up in the full indices of shards, one index after the
// other.
func findLacking(ctx context.Context, shards []*lackingShard, hs []mh.Multihash) (answers, error) {
	if len(shards) == 0 {
		return nil, nil
	}
	cids := make([]cid.Cid, len(hs))
	for i, h := range hs {
		cids[i] = cid.NewCidV1(cid.Raw, h)
	}
	found := make(answers, len(hs))
	for _, l := range shards {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		add := func(i int) { found[i] = append(found[i], l.key) }
		if err := l.use(func(idx carindex.Index) error { return findIn(idx, cids, add) }); err != nil {
			return nil, err
		}
	}
	return found, nil
}

// findIn calls add with the places of the CIDs that a full index has. One that is
// damaged is asked for all of them: much of it may be readable.
func findIn(idx carindex.Index, cids []cid.Cid, add func(i int)) (damage error) {
	has := false
	visit := func(uint64) bool { has = true; return false }
	for i, c := range cids {
		has = false
		err := guard.Call(func() error { return idx.GetAll(c, visit) })
		switch {
		case has:
			add(i)
		case err == nil, errors.Is(err, carindex.ErrNotFound):
		case isLost(err):
			damage = err
		default:
			return err
		}
	}
	return damage
}
