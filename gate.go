package dagstore

import (
	"context"
	"maps"
	"sync"

	"github.com/filecoin-project/dagstore/shard"
)

// A message is an event on its way to the loop.
type message struct {
	key   shard.Key // of requests
	shard *Shard    // nil in requests made before Start for a key not known yet
	event
	caller   *caller        // who asks, of requests
	accessor *ShardAccessor // what was opened
	job      bool           // it ends a job
	gc       *collection    // a request to reclaim transients; it concerns no shard
	idle     *outbox        // an outbox whose goroutine has ended
	suspect  bool           // the full index of the shard is to be checked
	mend     bool           // the top-level index may lack shards, or be damaged
	audit    []shard.Key    // shards that the top-level index holds since before the start
	then     func()         // what the loop does after work beside it has ended; may be nil
}

// A caller is somebody who waits for a result.
type caller struct {
	key  shard.Key
	ctx  context.Context
	out  chan ShardResult // may be nil
	stop func() bool      // ends the watch over ctx; nil if there is none
}

// The gate is where callers and jobs meet the loop: they put messages into its
// inbox, which never makes them wait, and read what the loop has published. It
// has the only lock of this package beside those of accessors and outboxes; an
// owner would not do, since callers must be admitted, and see what was
// published, while the loop is writing records.
type gate struct {
	wake chan struct{} // has an element when the inbox may have messages

	mu      sync.RWMutex         // guards what follows, and the published part of shards
	shards  map[shard.Key]*Shard // also those whose registration is not recorded yet
	inbox   []message
	started bool // the keys of all recorded shards are known
	closed  bool // no request is taken on any more
	dead    bool // the loop has ended: nobody reads the inbox
}

func newGate() *gate {
	return &gate{wake: make(chan struct{}, 1), shards: map[shard.Key]*Shard{}}
}

// register takes on the registration of a shard under a key that is free.
func (g *gate) register(m message) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closed {
		return ErrClosed
	}
	if _, taken := g.shards[m.shard.key]; taken {
		return ErrShardExists
	}
	g.shards[m.shard.key] = m.shard
	m.key = m.shard.key
	g.put(m)
	return nil
}

// request takes on a request concerning the shard with this key.
func (g *gate) request(key shard.Key, m message) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closed {
		return ErrClosed
	}
	m.key = key
	if g.started { // before, the catalogue may yet have another shard of this key
		if m.shard = g.shards[key]; m.shard == nil || m.shard.leaving {
			return ErrShardUnknown
		}
	}
	g.put(m)
	return nil
}

// collect takes on a garbage collection.
func (g *gate) collect(c *collection) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closed {
		return ErrClosed
	}
	g.put(message{gc: c})
	return nil
}

// post delivers an outcome, also while the store is closing. It returns false
// when the loop has ended.
func (g *gate) post(m message) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if !g.dead {
		g.put(m)
	}
	return !g.dead
}

func (g *gate) put(m message) {
	g.inbox = append(g.inbox, m)
	select {
	case g.wake <- struct{}{}:
	default:
	}
}

// take empties the inbox.
func (g *gate) take() []message {
	g.mu.Lock()
	defer g.mu.Unlock()
	ms := g.inbox
	g.inbox = nil
	return ms
}

// open makes the restored shards known and puts what their restart calls for
// before all requests that are waiting. A restored shard takes its key from a
// registration that was made before Start.
func (g *gate) open(restored []*Shard, resumed []message) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, sh := range restored {
		g.shards[sh.key] = sh
		sh.published, sh.leaving = sh.info(), sh.state == ShardStateUnknown
		sh.visible = !sh.leaving
	}
	waiting := g.inbox
	g.inbox = nil
	for _, m := range append(resumed, waiting...) {
		g.put(m)
	}
	g.started = true
}

func (g *gate) close() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.closed = true
}

func (g *gate) die() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.dead, g.inbox = true, nil
}

// publish shows where the shards of these moves stand now.
func (g *gate) publish(moves []move) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, mv := range moves {
		sh := mv.msg.shard
		sh.published = sh.info()
		sh.leaving = sh.state == ShardStateUnknown
		sh.visible = !sh.leaving && sh.state != shardStateGone
		if sh.state == shardStateGone && g.shards[sh.key] == sh {
			delete(g.shards, sh.key)
		}
	}
}

// lookup returns the shard that has this key, or nil.
func (g *gate) lookup(key shard.Key) *Shard {
	g.mu.RLock()
	defer g.mu.RUnlock()
	return g.shards[key]
}

func (g *gate) info(key shard.Key) (ShardInfo, error) {
	g.mu.RLock()
	defer g.mu.RUnlock()
	sh := g.shards[key]
	if sh == nil || !sh.visible {
		return ShardInfo{}, ErrShardUnknown
	}
	return sh.published, nil
}

func (g *gate) infos() AllShardsInfo {
	g.mu.RLock()
	defer g.mu.RUnlock()
	all := make(AllShardsInfo, len(g.shards))
	for key, sh := range g.shards {
		if sh.visible {
			all[key] = sh.published
		}
	}
	return all
}

// known returns those of the keys that a visible shard has.
func (g *gate) known(keys []shard.Key) []shard.Key {
	g.mu.RLock()
	defer g.mu.RUnlock()
	var found []shard.Key
	for _, k := range keys {
		if sh := g.shards[k]; sh != nil && sh.visible {
			found = append(found, k)
		}
	}
	return found
}

// indexed returns the visible shards that are indexed.
func (g *gate) indexed() []*Shard {
	g.mu.RLock()
	defer g.mu.RUnlock()
	var shards []*Shard
	for _, sh := range g.shards {
		state := sh.published.ShardState
		if sh.visible && (state == ShardStateAvailable || state == ShardStateServing) {
			shards = append(shards, sh)
		}
	}
	return shards
}

// serves reports whether the shard has its key and is not being destroyed.
func (g *gate) serves(sh *Shard) bool {
	g.mu.RLock()
	defer g.mu.RUnlock()
	return g.shards[sh.key] == sh && sh.visible
}

// all returns a copy of the table of shards.
func (g *gate) all() map[shard.Key]*Shard {
	g.mu.RLock()
	defer g.mu.RUnlock()
	return maps.Clone(g.shards)
}
