package inverted

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"sync"
	"time"

	"github.com/filecoin-project/dagstore/internal/layer"
)

// longestPause is how many times as long merging waits after many failures as after
// one. Each failure makes it wait twice as long, whatever changes meanwhile: a large
// merge that fills the disk is not to be tried again with each addition.
const longestPause = 64

// A merger is the goroutine that merges behind, and what others know of it.
type merger struct {
	wake  chan struct{} // has room for one
	ended chan struct{} // closed when the goroutine has ended

	mu      sync.Mutex    // guards what follows
	changed chan struct{} // closed and replaced when merging has got on, or what follows has changed
	asked   uint64        // changes of the index so far
	settled uint64        // of these: all that merging had to do for them is done, or has failed
	err     error         // of the last attempt, until the next one gets on
	damaged error         // a layer cannot be merged any more
}

func (x *Index) startMerging() {
	x.merger = &merger{wake: make(chan struct{}, 1), ended: make(chan struct{}), changed: make(chan struct{})}
	x.merger.ask()
	go x.merge()
}

// ask tells that there may be something to merge.
func (m *merger) ask() {
	m.mu.Lock()
	m.asked++
	m.mu.Unlock()
	select {
	case m.wake <- struct{}{}:
	default: // it will look anyway
	}
}

func (m *merger) askedFor() uint64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.asked
}

// settle tells those who wait that there is no more to do for what was asked.
func (m *merger) settle(asked uint64, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.settled, m.err = asked, err
	if err != nil && isDamage(err) {
		m.settled, m.damaged = math.MaxUint64, asDamage(err)
	}
	m.tell()
}

// getOn tells those who wait that something was merged. What has failed before is
// being tried again.
func (m *merger) getOn() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.err != nil {
		m.settled, m.err = 0, nil
	}
	m.tell()
}

// tell wakes those who wait. m.mu is held.
func (m *merger) tell() {
	close(m.changed)
	m.changed = make(chan struct{})
}

// damage returns the damage that ended merging.
func (m *merger) damage() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.damaged
}

// Wait waits until merging has done what is to do after all that has changed so far,
// and returns the error if it cannot. It returns fs.ErrClosed when Close begins, and
// the error of ctx. A reader merges nothing.
func (x *Index) Wait(ctx context.Context) error {
	if x.merger == nil {
		return nil
	}
	m := x.merger
	wanted := m.askedFor()
	for {
		if err := errors.Join(ctx.Err(), x.closed()); err != nil {
			return err
		}
		m.mu.Lock()
		settled, changed, err := m.settled, m.changed, m.err
		m.mu.Unlock()
		if settled >= wanted {
			return asDamage(err)
		}
		select {
		case <-changed:
		case <-x.ctx.Done():
		case <-ctx.Done():
		}
	}
}

// awaitRoom waits while there are so many layers that merging must catch up before
// anything is added. The error is that of merging if it fails, or that of ctx.
func (x *Index) awaitRoom(ctx context.Context) error {
	m := x.merger
	for {
		m.mu.Lock()
		changed, err := m.changed, m.err
		m.mu.Unlock()
		n := len(x.view.Load().tables)
		if n < x.sizes.most {
			return nil
		}
		if err != nil {
			return fmt.Errorf("there are %d layers, and merging them fails: %w", n, err)
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// merge is the goroutine of the merger. It ends with x.ctx, and when a layer turns
// out to be damaged.
func (x *Index) merge() {
	m := x.merger
	defer close(m.ended)
	pause := x.sizes.pause
	for {
		asked := m.askedFor()
		did, err := x.mergeNext(nil)
		switch {
		case x.ctx.Err() != nil:
			return
		case err != nil:
			m.settle(asked, err)
			if m.damage() != nil {
				return
			}
			if !x.sleep(pause, nil) {
				return
			}
			pause = min(2*pause, longestPause*x.sizes.pause)
		case did: // there may be more
		default:
			pause = x.sizes.pause
			m.settle(asked, nil)
			if !x.sleep(math.MaxInt64, m.wake) {
				return
			}
		}
	}
}

// sleep waits for wake, for at most d. It returns false when Close begins.
func (x *Index) sleep(d time.Duration, wake <-chan struct{}) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-wake:
	case <-timer.C:
	case <-x.ctx.Done():
		return false
	}
	return true
}

// mergeNext does the next thing that is to do, but with tables that are busy, and
// tells whether there was one. A journal that cannot be replaced hinders no merge,
// which may make room on the disk: that error is told when nothing else is to do.
func (x *Index) mergeNext(busy []*table) (did bool, err error) {
	var trimErr error
	if x.log != nil {
		x.log.sweep()
		trimErr = x.trim()
	}
	x.mu.Lock()
	idle := slices.DeleteFunc(slices.Clone(x.manifest.tables), func(t *table) bool { return slices.Contains(busy, t) })
	next := plan(idle, x.log != nil, x.sizes.gathered)
	shards := x.manifest.shards
	x.mu.Unlock()
	switch next.kind {
	case rest:
		return false, trimErr
	case mergeMemory:
		err = x.mergeInMemory(next.tables, shards, busy)
	default:
		err = x.mergeToFile(next, shards, busy)
	}
	if err != nil {
		return false, errors.Join(err, trimErr)
	}
	x.merger.getOn()
	return true, nil
}

// overtaking returns a function for a merge to call often. When there are many layers
// by then that are not busy, it merges them, so that the small does not wait for the
// large: else it would pile up. busy are the tables of merges in progress, of which
// none may be small additions that are in the journal.
func (x *Index) overtaking(busy []*table) func() {
	hasFailed := false
	return func() {
		if len(x.view.Load().tables)-len(busy) < crowded || hasFailed {
			return
		}
		_, err := x.mergeNext(busy)
		hasFailed = err != nil // which is found out again when this merge has ended
	}
}

// mergeInMemory merges tables in memory. Those of an index with files are small.
func (x *Index) mergeInMemory(old []*table, shards *dictionary, busy []*table) error {
	overtake := func() {}
	if x.log == nil {
		overtake = x.overtaking(slices.Concat(busy, old))
	}
	t, err := mergedInMemory(x.ctx, old, shards, overtake)
	if err != nil {
		return err
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	x.manifest.replace(old, t)
	x.publish()
	return nil
}

// mergedInMemory returns a table in memory with what is alive of others. It calls
// overtake often.
func mergedInMemory(ctx context.Context, old []*table, shards *dictionary, overtake func()) (*table, error) {
	shares := shareOut(old, shards.has)
	var records int64
	var last uint64
	for _, t := range old {
		records += t.records
		last = max(last, t.addition)
	}
	t, err := memoryTable(records, func(w *layer.Writer) error {
		return layer.Merge(ctx, w, layersOf(old), shards.has, func(int) { overtake() })
	})
	if err != nil {
		return nil, err
	}
	t.shares, t.addition = shares, last
	return t, nil
}

// mergeToFile makes one file of tables, and puts it in their place.
func (x *Index) mergeToFile(next task, shards *dictionary, busy []*table) error {
	shares := shareOut(next.tables, shards.has)
	overtake := func() {}
	if next.kind == mergeFiles {
		overtake = x.overtaking(slices.Concat(busy, next.tables))
	}
	pace := x.newPace()
	t, err := x.folder.writeLayer(x.newLayer(), func(w *layer.Writer) error {
		return layer.Merge(x.ctx, w, layersOf(next.tables), shards.has, func(int) {
			overtake()
			pace.rest()
		})
	})
	if err != nil {
		return err
	}
	t.shares = shares
	c := new(change)
	if t.records > 0 {
		c.added = []*table{t}
	}
	for _, old := range next.tables {
		if inMemory(old) {
			c.gathered = max(c.gathered, old.addition)
		} else {
			c.dropped = append(c.dropped, old.number)
		}
	}
	r, err := x.commit(x.ctx, c)
	x.retire(r)
	return err
}

// layersOf returns the layers of tables, the largest first.
func layersOf(tables []*table) []*layer.Layer {
	layers := make([]*layer.Layer, len(tables))
	for i, t := range tables {
		layers[i] = t.layer
	}
	slices.SortFunc(layers, func(a, b *layer.Layer) int { return int(min(max(b.Records()-a.Records(), -1), 1)) })
	return layers
}
