package dagstore

import (
	"fmt"
	"sync"

	carindex "github.com/ipld/go-car/v2/index"

	"github.com/filecoin-project/dagstore/shard"
)

// keptIndices is how many full indices of lacking shards stay open at once. One
// costs a mapping and about 1 KiB.
const keptIndices = 8192

// The lackingIndices are the full indices of the shards that the top-level index
// lacks.
type lackingIndices struct {
	store *DAGStore
	room  slots // how many are kept open
}

func (x *lackingIndices) of(key shard.Key) *lackingShard { return &lackingShard{key: key, indices: x} }

// A lackingShard is a shard that the top-level index lacks. Its full index is opened
// by the first look-up, and stays open if there is room.
type lackingShard struct {
	key     shard.Key
	indices *lackingIndices

	mu     sync.Mutex // guards what follows, and the users of kept; look-ups hold it for instants, and not while they open, ask or release
	kept   *keptIndex // nil if none is kept
	gone   bool       // the top-level index holds the shard, or never will
	isLost bool       // a look-up has found that the full index is to be made anew
	closed bool       // nothing is kept any more
}

// A keptIndex is open until it has no users. That it is kept counts as one.
type keptIndex struct {
	carindex.Index
	users int
}

// use calls ask with the full index of the shard. It does not if the shard is gone:
// then the top-level index is to be asked. An index that is lost has nothing, and is
// made anew; all other errors are returned.
func (l *lackingShard) use(ask func(carindex.Index) error) error {
	err := l.tryUse(ask)
	if isLost(err) {
		l.lose(err)
		return nil
	}
	if err != nil {
		return fmt.Errorf("full index of shard %q: %w", l.key, err)
	}
	return nil
}

func (l *lackingShard) tryUse(ask func(carindex.Index) error) error {
	k, gone := l.reuse()
	if gone {
		return nil
	}
	if k == nil {
		idx, err := l.indices.store.fullIndex(l.key)
		if err != nil {
			return err
		}
		k = l.keep(idx)
	}
	defer l.letGo(k)
	return ask(k.Index)
}

// lose has the full index made anew, which is missing or damaged. Of many look-ups
// that find this, only the first does, and none after the shard is gone.
func (l *lackingShard) lose(err error) {
	l.mu.Lock()
	isNews := !l.gone && !l.isLost
	l.isLost = true
	l.mu.Unlock()
	if sh := l.indices.store.gate.lookup(l.key); isNews && sh != nil {
		sh.indexLost(err)
	}
}

func (l *lackingShard) reuse() (k *keptIndex, gone bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.kept != nil {
		l.kept.users++
	}
	return l.kept, l.gone
}

// keep returns an index that was opened for one user, and keeps it if it can. What
// another repository gives is not kept: it may be as large as it is.
func (l *lackingShard) keep(idx carindex.Index) *keptIndex {
	l.mu.Lock()
	defer l.mu.Unlock()
	k := &keptIndex{idx, 1}
	if l.kept == nil && !l.gone && !l.closed && l.indices.store.folder != nil && l.indices.room.take() {
		k.users++
		l.kept = k
	}
	return k
}

func (l *lackingShard) letGo(k *keptIndex) {
	l.mu.Lock()
	k.users--
	isLast := k.users == 0
	l.mu.Unlock()
	if isLast {
		l.indices.store.release(k.Index)
	}
}

// end is called when the shard is lacking no longer, and look-ups can know that. Of
// no shard it does nothing.
func (l *lackingShard) end() {
	if l != nil {
		l.drop(&l.gone)
	}
}

// close is called when the store is closed.
func (l *lackingShard) close() { l.drop(&l.closed) }

// drop sets a flag, and keeps nothing any more.
func (l *lackingShard) drop(flag *bool) {
	l.mu.Lock()
	k := l.kept
	l.kept, *flag = nil, true
	l.mu.Unlock()
	if k != nil {
		l.indices.room.give()
		l.letGo(k)
	}
}
