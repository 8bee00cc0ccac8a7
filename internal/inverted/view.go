package inverted

import (
	"errors"
	"io"
	"slices"
	"sync/atomic"

	"github.com/filecoin-project/dagstore/internal/layer"
	"github.com/filecoin-project/dagstore/internal/mapped"
)

// A view is what look-ups see: immutable but for its dictionary, where shards appear
// and vanish at once.
type view struct {
	secret   secret
	shards   *dictionary
	tables   []*table
	layers   []*layer.Layer
	mappings [][]byte // of those layers that have one

	// gate counts the look-ups in all views that have it. A view that lacks layers
	// of the one before has a gate of its own, so that these layers can be closed
	// when the gate before is.
	gate *mapped.Gate
}

func newGate() *mapped.Gate { return mapped.NewGate() }

func newView(m *manifest, gate *mapped.Gate) *view {
	v := &view{secret: m.secret, shards: m.shards, gate: gate}
	v.tables = slices.Clone(m.tables)
	v.layers = make([]*layer.Layer, 0, len(m.tables))
	for _, t := range v.tables {
		v.layers = append(v.layers, t.layer)
		if m := t.layer.Mapping(); m != nil {
			v.mappings = append(v.mappings, m)
		}
	}
	return v
}

// publish makes the manifest what look-ups see. x.mu is held.
func (x *Index) publish() {
	x.view.Store(newView(x.manifest, x.view.Load().gate))
}

// publishWithout does so when tables are no more. It returns the gate to close before
// they are. x.mu is held.
func (x *Index) publishWithout() *mapped.Gate {
	gate := x.view.Load().gate
	x.view.Store(newView(x.manifest, newGate()))
	return gate
}

// enter returns the view to look something up in. It is to be left by its gate.
func (x *Index) enter() (*view, mapped.Pass, error) {
	if x.follow != nil {
		if err := x.keepUp(); err != nil {
			return nil, 0, err
		}
	}
	for {
		v := x.view.Load()
		if p, ok := v.gate.Enter(); ok {
			x.count(p)
			return v, p, nil
		}
		if err := x.closed(); err != nil {
			return nil, 0, err
		}
	}
}

// traffic counts calls, for the merger to see whether there are any.
type traffic struct {
	counts [8]struct {
		n atomic.Uint64
		_ [56]byte // a cache line each: look-ups on different cores do not wait for each other
	}
}

func (t *traffic) count(p mapped.Pass) { t.counts[uint8(p)%8].n.Add(1) }

func (t *traffic) total() (sum uint64) {
	for i := range t.counts {
		sum += t.counts[i].n.Load()
	}
	return sum
}

// isLayerDamage tells whether an error says so of a layer, or that it was cut.
func isLayerDamage(err error) bool {
	return errors.Is(err, layer.ErrDamaged) || errors.Is(err, io.ErrUnexpectedEOF)
}
