package indexbs

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/golang-lru/v2/simplelru"
	logging "github.com/ipfs/go-log/v2"

	"github.com/filecoin-project/dagstore"
	"github.com/filecoin-project/dagstore/shard"
)

var log = logging.Logger("dagstore/indexbs")

// A cache keeps accessors open. Whoever uses one has a lease on it; an accessor
// is closed when the cache has let go of it and the last lease has ended. Until
// then it is the only one of its shard, and others can have a lease on it, too;
// unless it fails somebody: then it serves out the leases it has, and whoever
// comes next has the shard opened anew.
type cache struct {
	store  IdxBstoreDagstore
	expiry time.Duration // 0 for none
	size   int

	ctx    context.Context // under which shards are acquired; ends when close begins
	cancel context.CancelFunc
	live   sync.WaitGroup // entries that were made and have not ended

	mu     sync.Mutex           // guards what follows, and the entries
	shared map[shard.Key]*entry // those of which leases can be had
	kept   *simplelru.LRU[shard.Key, *entry]
	closed bool
}

// shardBlocks is what the blockstores of accessors are.
type shardBlocks interface {
	dagstore.ReadBlockstore
	dagstore.BlockViewer
	dagstore.BlocksGetter
}

// An entry is an accessor, or the acquiring of one that several callers share.
type entry struct {
	key    shard.Key
	cancel context.CancelFunc // gives the acquiring up
	opened chan struct{}      // closed when accessor, blocks and err are set for good

	accessor *dagstore.ShardAccessor // nil after an error
	blocks   shardBlocks
	err      error

	ready     bool        // opened is closed
	kept      bool        // the cache keeps it open without leases
	broken    atomic.Bool // it has failed somebody; set under mu, for good
	leases    int
	idleSince time.Time
	timer     *time.Timer // of the expiry; nil until the entry was idle
}

func newCache(ctx context.Context, d IdxBstoreDagstore, size int, expiry time.Duration) (*cache, error) {
	kept, err := simplelru.NewLRU[shard.Key, *entry](size, nil)
	if err != nil {
		return nil, err
	}
	c := &cache{store: d, expiry: expiry, size: size, kept: kept, shared: map[shard.Key]*entry{}}
	c.ctx, c.cancel = context.WithCancel(ctx)
	context.AfterFunc(c.ctx, c.close)
	return c, nil
}

func (c *cache) usable() error {
	if c.ctx.Err() != nil {
		return ErrClosed
	}
	return nil
}

// likely returns nil: reads of several callers say nothing about the next.
func (c *cache) likely() *entry { return nil }

func (c *cache) giveBack(e *entry, o outcome) {
	if o == failed {
		c.mu.Lock()
		e.broken.Store(true)
		c.discard(e)
		c.mu.Unlock()
	}
	c.release(e)
}

// lease returns the open entry of a shard, which the caller releases. Callers
// that come while it is being opened wait for the same.
func (c *cache) lease(ctx context.Context, key shard.Key) (*entry, error) {
	e, evicted, err := c.join(key)
	if err != nil {
		return nil, err
	}
	c.end(evicted)
	select {
	case <-e.opened:
		if e.err != nil {
			c.release(e)
			return nil, e.err
		}
		return e, nil
	case <-ctx.Done():
		c.release(e)
		return nil, ctx.Err()
	}
}

// join adds a lease to the entry of a shard, which is made if there is none, and
// returns also the entry that had to make room and ends, or nil.
func (c *cache) join(key shard.Key) (e, evicted *entry, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return nil, nil, ErrClosed
	}
	e, ok := c.shared[key]
	if !ok {
		ctx, cancel := context.WithCancel(c.ctx)
		e = &entry{key: key, cancel: cancel, opened: make(chan struct{})}
		c.shared[key] = e
		c.live.Add(1)
		go c.open(ctx, e)
	}
	c.lend(e)
	if !e.kept {
		evicted = c.keep(e)
	}
	return e, evicted, nil
}

// keep has the cache keep an entry, and returns the one that had to make room if
// that ends. The caller holds mu.
func (c *cache) keep(e *entry) (evicted *entry) {
	if c.kept.Len() == c.size {
		_, oldest, _ := c.kept.GetOldest()
		if c.letGo(oldest); oldest.unused() {
			evicted = oldest
		}
	}
	e.kept = true
	c.kept.Add(e.key, e)
	return evicted
}

// extend adds a lease to an entry on which the caller has one.
func (c *cache) extend(e *entry) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.lend(e)
}

// lend adds a lease. The caller holds mu.
func (c *cache) lend(e *entry) {
	e.leases++
	if e.timer != nil {
		e.timer.Stop()
	}
	if e.kept {
		c.kept.Get(e.key) // it is the last to give way now
	}
}

// open acquires the shard of an entry. What nobody waits for any more is closed.
func (c *cache) open(ctx context.Context, e *entry) {
	a, bs, err := c.acquire(ctx, e.key)
	if err != nil && c.ctx.Err() != nil {
		err = ErrClosed
	}
	c.mu.Lock()
	e.accessor, e.blocks, e.err, e.ready = a, bs, err, true
	close(e.opened)
	if err != nil {
		c.discard(e)
	}
	unused := e.unused()
	c.mu.Unlock()
	if unused {
		c.end(e)
	}
}

func (c *cache) acquire(ctx context.Context, key shard.Key) (*dagstore.ShardAccessor, shardBlocks, error) {
	a, err := dagstore.Acquire(ctx, acquirer{store: c.store}, key)
	if err != nil {
		return nil, nil, err
	}
	bs, err := a.Blockstore()
	if err != nil {
		closeAccessor(a)
		return nil, nil, err
	}
	all, ok := bs.(shardBlocks)
	if !ok {
		closeAccessor(a)
		return nil, nil, fmt.Errorf("blockstore %T: %w", bs, errors.ErrUnsupported)
	}
	return a, all, nil
}

// release ends a lease. An entry that is still being opened, and that nobody
// waits for any more, is given up.
func (c *cache) release(e *entry) {
	c.mu.Lock()
	e.leases--
	if e.leases == 0 {
		switch {
		case !e.ready:
			c.discard(e)
			e.cancel()
		case e.kept:
			c.awaitExpiry(e)
		default:
			c.hide(e)
		}
	}
	unused := e.unused()
	c.mu.Unlock()
	if unused {
		c.end(e)
	}
}

// unused reports whether the entry can end. It becomes true once: an entry that
// the cache does not keep is hidden with its last lease, and gets no new ones.
func (e *entry) unused() bool { return e.ready && !e.kept && e.leases == 0 }

// discard lets an entry go that nobody else shall get. The caller holds mu.
func (c *cache) discard(e *entry) {
	c.hide(e)
	c.letGo(e)
}

// letGo has the cache keep an entry no longer. The caller holds mu, and ends the
// entry if it is unused now.
func (c *cache) letGo(e *entry) {
	if e.kept {
		e.kept = false
		c.kept.Remove(e.key)
	}
	if e.timer != nil {
		e.timer.Stop()
	}
	if e.leases == 0 {
		c.hide(e)
	}
}

// hide sees to it that an entry gets no new leases. The shard may have another
// entry by now. The caller holds mu.
func (c *cache) hide(e *entry) {
	if c.shared[e.key] == e {
		delete(c.shared, e.key)
	}
}

// end closes the accessor of an unused entry; nil is none. It is called without
// mu, since mounts may be slow to close.
func (c *cache) end(e *entry) {
	if e == nil {
		return
	}
	defer c.live.Done()
	e.cancel()
	if e.accessor != nil {
		closeAccessor(e.accessor)
	}
}

// awaitExpiry lets an idle entry go after some time. The caller holds mu.
func (c *cache) awaitExpiry(e *entry) {
	if c.expiry == 0 {
		return
	}
	e.idleSince = time.Now()
	if e.timer == nil {
		e.timer = time.AfterFunc(c.expiry, func() { c.expire(e) })
		return
	}
	e.timer.Reset(c.expiry)
}

// expire lets an entry go, unless it was used since its timer was set.
func (c *cache) expire(e *entry) {
	c.mu.Lock()
	expired := e.kept && e.leases == 0 && time.Since(e.idleSince) >= c.expiry
	if expired {
		c.letGo(e)
	}
	c.mu.Unlock()
	if expired {
		c.end(e)
	}
}

// openAmong returns those of keys whose shards are open.
func (c *cache) openAmong(keys iter.Seq[shard.Key]) map[shard.Key]bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	open := map[shard.Key]bool{}
	for key := range keys {
		if e, ok := c.shared[key]; ok && e.ready {
			open[key] = true
		}
	}
	return open
}

// openFirst sorts keys such that those whose shards are open come first.
func (c *cache) openFirst(keys []shard.Key) {
	if len(keys) == 1 {
		return
	}
	open := c.openAmong(slices.Values(keys))
	slices.SortStableFunc(keys, func(x, y shard.Key) int {
		switch {
		case open[x] == open[y]:
			return 0
		case open[x]:
			return -1
		}
		return 1
	})
}

// close lets everything go and waits until all accessors are closed.
func (c *cache) close() {
	c.mu.Lock()
	c.closed = true
	var unused []*entry
	for _, e := range c.kept.Values() {
		if c.letGo(e); e.unused() {
			unused = append(unused, e)
		}
	}
	c.mu.Unlock()
	c.cancel()
	for _, e := range unused {
		c.end(e)
	}
	c.live.Wait()
}

func closeAccessor(a *dagstore.ShardAccessor) {
	if err := a.Close(); err != nil {
		log.Warnw("accessor not closed cleanly", "shard", a.Shard(), "error", err)
	}
}

// An acquirer makes dagstore.Acquire, which calls no other method, work with less
// than a whole dagstore.
type acquirer struct {
	dagstore.Interface
	store IdxBstoreDagstore
}

func (a acquirer) AcquireShard(
	ctx context.Context, key shard.Key, out chan dagstore.ShardResult, opts dagstore.AcquireOpts,
) error {
	return a.store.AcquireShard(ctx, key, out, opts)
}
