package dagstore

import (
	"context"
	"errors"
	"slices"
	"strings"

	"github.com/ipfs/go-cid"
	ds "github.com/ipfs/go-datastore"
	mh "github.com/multiformats/go-multihash"

	"github.com/filecoin-project/dagstore/index"
	"github.com/filecoin-project/dagstore/internal/guard"
	"github.com/filecoin-project/dagstore/shard"
)

// While the top-level index lacks available shards, look-ups go to the full
// indices of these, so that answers are right all the time.

// lack notes that shards are still to be added.
func (t *topLevel) lack(shards []*Shard) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, sh := range shards {
		t.lacking[sh.key] = sh
	}
}

// filled notes that a shard was added, or is not to be found any more.
func (t *topLevel) filled(key shard.Key) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.lacking, key)
}

// lacks returns the shards that are still to be added, sorted by key.
func (t *topLevel) lacks() []shard.Key {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.lacking) == 0 {
		return nil
	}
	keys := make([]shard.Key, 0, len(t.lacking))
	for key := range t.lacking {
		keys = append(keys, key)
	}
	slices.SortFunc(keys, func(a, b shard.Key) int { return strings.Compare(a.String(), b.String()) })
	return keys
}

// backfill adds available shards that the top-level index lacks: after a crash,
// an upgrade from v0.7, or the loss of the index. A shard whose full index is
// gone is indexed anew. It reports when it has ended.
func (l *loop) backfill(shards []*Shard) {
	if len(shards) == 0 {
		return
	}
	l.beside(func() { l.backfillAll(shards) })
}

func (l *loop) backfillAll(shards []*Shard) {
	for _, sh := range shards {
		l.backfillShard(sh)
	}
}

func (l *loop) backfillShard(sh *Shard) {
	err := l.topLevel.do(l.ctx, sh.key, func() error {
		if l.ctx.Err() != nil || !l.gate.serves(sh) {
			return nil
		}
		idx, err := l.iterableIndex(sh.key)
		if err != nil {
			return err
		}
		defer l.release(idx)
		if err := verifyIndex(l.ctx, idx); err != nil {
			return err
		}
		sh.trust.whole.Store(true)
		return l.topLevel.feed(l.ctx, sh.key, indexMultihashes{idx})
	})
	switch {
	case err == nil, l.ctx.Err() != nil:
	case isLost(err), errors.Is(err, errNotIterable):
		l.gate.post(message{shard: sh, event: event{kind: evIndexLost, err: err}})
	default:
		log.Errorw("shard is missing in the top-level index, and could not be added: look-ups go to its full index, and the next start tries again", "shard", sh.key, "error", err)
	}
}

// renewTopLevel is called when the store's own index was found damaged: it is made
// anew from the full indices, which answer until that is done.
func (d *DAGStore) renewTopLevel(damage error) {
	t := d.topLevel
	shards := d.gate.indexed()
	t.mu.Lock()
	begun := t.renewing
	t.renewing = true
	t.mu.Unlock()
	if begun {
		return
	}
	log.Errorw("top-level index is damaged: it is made anew", "error", damage)
	t.lack(shards)
	d.gate.post(message{renew: true})
}

// renew makes the index empty, and adds all shards to it.
func (l *loop) renew() {
	if l.closing {
		return
	}
	l.beside(func() {
		t := l.topLevel
		if err := t.own.Reset(l.ctx); err != nil {
			log.Errorw("top-level index could not be made anew; look-ups go to the full indices until the next start", "error", err)
			return
		}
		shards := l.gate.indexed()
		t.lack(shards) // also what was added to the index that is gone
		t.mu.Lock()
		t.renewing = false
		t.mu.Unlock()
		l.backfillAll(shards)
	})
}

// find returns the shards that have a multihash, as far as the top-level index
// knows, and those that it lacks.
func (d *DAGStore) find(ctx context.Context, h mh.Multihash) (found []shard.Key, err error) {
	defer guard.Recover(&err)
	found, err = d.topLevel.inverted.GetShardsForMultihash(ctx, h)
	if d.topLevel.own != nil && errors.Is(err, index.ErrDamaged) {
		d.renewTopLevel(err)
		found, err = nil, ds.ErrNotFound
	}
	lacking := d.topLevel.lacks()
	if len(lacking) == 0 || err != nil && !errors.Is(err, ds.ErrNotFound) {
		return found, err
	}
	for _, key := range lacking {
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		if !slices.Contains(found, key) && d.fullIndexHas(key, h) {
			found = append(found, key)
		}
	}
	if len(found) > 0 {
		err = nil
	}
	return found, err
}

// fullIndexHas tells whether the full index of a shard has a multihash. One that
// cannot be read has none.
func (d *DAGStore) fullIndexHas(key shard.Key, h mh.Multihash) bool {
	idx, err := d.fullIndex(key)
	if err != nil {
		return false
	}
	defer d.release(idx)
	found := false
	_ = guard.Call(func() error {
		return idx.GetAll(cid.NewCidV1(cid.Raw, h), func(uint64) bool {
			found = true
			return false
		})
	})
	return found
}
