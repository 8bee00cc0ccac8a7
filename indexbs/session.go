package indexbs

import (
	"context"
	"slices"
	"sync"

	blocks "github.com/ipfs/go-block-format"
	"github.com/ipfs/go-cid"

	"github.com/filecoin-project/dagstore/shard"
)

// sessionShards is how many shards a session keeps open.
const sessionShards = 10

// A Session reads the blocks of one retrieval. They are likely to lie together:
// so the shard that gave the last one is asked first, before the top-level index
// is. The ten shards that gave blocks last stay open, however much the cache has
// to do meanwhile; they count as in use and cannot be destroyed. A shard that
// fails, here or elsewhere, is let go and opened anew when it is next needed.
//
// If the blockstore has a selector, that decides for each block, and the index is
// asked before it.
//
// A session ends with its context, Close, or the blockstore; one of them must
// come. From then on its reads fail with ErrClosed; those in progress go on,
// except for those that are opening a shard. It is safe for concurrent use.
type Session struct {
	store  *IndexBackedBlockstore
	ctx    context.Context // ends with the session
	cancel context.CancelFunc

	mu   sync.Mutex // guards held; taken before the mutex of the cache
	held []*entry   // each under a lease; the one that gave a block last comes first
}

// NewSession begins a session that ends with ctx at the latest.
func (b *IndexBackedBlockstore) NewSession(ctx context.Context) *Session {
	s := &Session{store: b}
	s.ctx, s.cancel = context.WithCancel(ctx)
	forget := context.AfterFunc(b.cache.ctx, s.cancel)
	context.AfterFunc(s.ctx, func() {
		forget()
		s.letGo()
	})
	return s
}

// Close ends the session and closes the shards that nobody else uses. It does not
// wait for reads in progress, which hold their shards themselves. It may be
// called often, and always returns nil.
func (s *Session) Close() error {
	s.cancel()
	s.letGo()
	return nil
}

// letGo ends the leases of a session that has ended.
func (s *Session) letGo() {
	s.mu.Lock()
	held := s.held
	s.held = nil
	s.mu.Unlock()
	s.release(held)
}

// Get is Get of the blockstore.
func (s *Session) Get(ctx context.Context, c cid.Cid) (blocks.Block, error) {
	return get(ctx, s.store, s, c)
}

// GetSize is GetSize of the blockstore.
func (s *Session) GetSize(ctx context.Context, c cid.Cid) (int, error) {
	return getSize(ctx, s.store, s, c)
}

// View is View of the blockstore. f may close the session.
func (s *Session) View(ctx context.Context, c cid.Cid, f func([]byte) error) error {
	return view(ctx, s.store, s, c, f)
}

// GetMany is GetMany of the blockstore. What the shard has that gave the last
// block is visited first. visit may close the session, which ends GetMany.
func (s *Session) GetMany(
	ctx context.Context, cids []cid.Cid, visit func(i int, block blocks.Block, err error) error,
) error {
	return getMany(ctx, s.store, s, cids, visit)
}

// Has tells whether the shard that gave the last block has this one, or else what
// Has of the blockstore tells. It opens no shard.
func (s *Session) Has(ctx context.Context, c cid.Cid) (bool, error) {
	r, err := s.store.begin(ctx, s, c)
	if err != nil {
		return false, err
	}
	_, has, err := guess(ctx, s.store, s, r, func(bs shardBlocks) (struct{}, error) {
		has, err := bs.Has(ctx, c)
		if err == nil && !has {
			err = ErrBlockNotFound
		}
		return struct{}{}, err
	})
	if has || err != nil {
		return has, err
	}
	return s.store.Has(ctx, c)
}

func (s *Session) usable() error {
	if s.ctx.Err() != nil {
		return ErrClosed
	}
	return s.store.cache.usable()
}

func (s *Session) likely() *entry {
	return s.extend(func(*entry) bool { return true })
}

// lease returns ErrClosed when the session ends while the shard is being opened.
func (s *Session) lease(ctx context.Context, key shard.Key) (*entry, error) {
	if err := s.usable(); err != nil {
		return nil, err
	}
	if e := s.extend(func(e *entry) bool { return e.key == key }); e != nil {
		return e, nil
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(s.ctx, cancel)()
	e, err := s.store.cache.lease(ctx, key)
	if err != nil && s.ctx.Err() != nil {
		return nil, ErrClosed
	}
	return e, err
}

// extend returns, with one more lease, the first of the entries held that fits,
// or nil.
func (s *Session) extend(fits func(*entry) bool) (found *entry) {
	s.mu.Lock()
	broken := s.takeBroken()
	if i := slices.IndexFunc(s.held, fits); i >= 0 {
		found = s.held[i]
		s.store.cache.extend(found)
	}
	s.mu.Unlock()
	s.release(broken)
	return found
}

// giveBack ends the lease of a read. The session holds the shard on if it has
// given a block, and no longer if it has failed.
func (s *Session) giveBack(e *entry, o outcome) {
	if o == served {
		if gone := s.hold(e); gone != nil {
			s.store.cache.release(gone)
		}
	}
	s.store.cache.giveBack(e, o)
	if o == failed {
		s.dropBroken()
	}
}

// hold makes an entry the first of those that are held, and returns the one that
// has to go, or nil. The caller has a lease on the entry, which is not taken if it
// has failed another reader meanwhile.
func (s *Session) hold(e *entry) (gone *entry) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ctx.Err() != nil || e.broken.Load() {
		return nil
	}
	if i := slices.Index(s.held, e); i >= 0 {
		copy(s.held[1:], s.held[:i])
		s.held[0] = e
		return nil
	}
	s.store.cache.extend(e)
	s.held = slices.Insert(s.held, 0, e)
	if len(s.held) > sessionShards {
		gone = s.held[sessionShards]
		s.held = slices.Delete(s.held, sessionShards, sessionShards+1)
	}
	return gone
}

// dropBroken ends the leases of entries that have failed.
func (s *Session) dropBroken() {
	s.mu.Lock()
	broken := s.takeBroken()
	s.mu.Unlock()
	s.release(broken)
}

// takeBroken takes those that have failed, be it in other hands, out of the
// entries held: the session fares better with what the cache opens in their
// place. The caller holds mu, and releases them without it.
func (s *Session) takeBroken() (broken []*entry) {
	s.held = slices.DeleteFunc(s.held, func(e *entry) bool {
		if !e.broken.Load() {
			return false
		}
		broken = append(broken, e)
		return true
	})
	return broken
}

func (s *Session) release(held []*entry) {
	for _, e := range held {
		s.store.cache.release(e)
	}
}
