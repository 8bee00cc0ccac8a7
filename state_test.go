package dagstore

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

var update = flag.Bool("update", false, "rewrite the lifecycle in docs/design.md")

var errBoom = errors.New("boom")

// world is a shard together with all that is in flight around it.
type world struct {
	l       lifecycle
	index   bool // an index job is running
	erasing bool // an erase job is running
	opening int  // open jobs running
	open    int  // accessors that callers hold
	waiting int  // callers who were not answered
	calls   int  // calls that may still come
}

func (w world) String() string {
	return fmt.Sprintf("%s err=%v lazy=%v onacquire=%v refs=%d owner=%v parked=%d index=%v/%v erasing=%v opening=%d open=%d waiting=%d calls=%d",
		w.l.state, w.l.err != nil, w.l.lazy, w.l.recoverOnAcquire, w.l.refs, w.l.owner != 0, len(w.l.parked),
		w.index, w.l.indexing, w.erasing, w.opening, w.open, w.waiting, w.calls)
}

func count(bs ...bool) int {
	n := 0
	for _, b := range bs {
		if b {
			n++
		}
	}
	return n
}

// check returns the invariant that does not hold.
func (w world) check() error {
	l := w.l
	working := l.state == ShardStateInitializing || l.state == ShardStateRecovering
	switch {
	case l.refs != w.opening+w.open:
		return fmt.Errorf("%d references, but %d opening and %d open", l.refs, w.opening, w.open)
	case l.state == ShardStateServing && l.refs == 0, l.state == ShardStateAvailable && l.refs != 0:
		return fmt.Errorf("%s with %d references", l.state, l.refs)
	case l.indexing != w.index:
		return fmt.Errorf("index job running %v, believed %v", w.index, l.indexing)
	case working && !w.index, w.index && !working && l.state != ShardStateUnknown:
		return fmt.Errorf("%s with index job %v", l.state, w.index)
	case len(l.parked) > 0 && !w.index:
		return errors.New("acquirers are parked and nobody will wake them")
	case (l.err != nil) != (l.state == ShardStateErrored || l.state == ShardStateRecovering):
		return fmt.Errorf("%s with error %w", l.state, l.err)
	case w.waiting != len(l.parked)+w.opening+count(l.owner != 0):
		return errors.New("a caller was forgotten or answered twice")
	case l.state == ShardStateUnknown && (w.open+w.opening > 0 || w.index == w.erasing):
		return errors.New("destruction is not under way, or somebody uses the shard")
	case l.state == shardStateGone && (w.waiting > 0 || w.open+w.opening > 0 || w.index || w.erasing):
		return errors.New("gone with work left")
	}
	return nil
}

// possible returns the events that can happen in this world.
func (w world) possible() []event {
	var evs []event
	next := ticket(100 + w.waiting + w.calls)
	if w.calls > 0 {
		for _, k := range []eventKind{evAcquire, evRecover, evDestroy} {
			evs = append(evs, event{kind: k, ticket: next})
		}
		evs = append(evs, event{kind: evUndestroyed, ticket: next, err: errBoom})
	}
	evs = append(evs, event{kind: evIndexLost, err: errBoom})
	for _, t := range append([]ticket{7}, w.l.parked...) {
		evs = append(evs, event{kind: evGaveUp, ticket: t, err: errBoom})
	}
	if w.index {
		evs = append(evs, event{kind: evIndexed}, event{kind: evIndexFailed, err: errBoom})
	}
	if w.erasing {
		evs = append(evs, event{kind: evErased}, event{kind: evEraseFailed, err: errBoom})
	}
	if w.opening > 0 {
		for _, k := range []eventKind{evOpened, evOpenFailed, evOpenStale, evAbandoned} {
			evs = append(evs, event{kind: k, ticket: 9, err: errBoom})
		}
	}
	if w.open > 0 {
		evs = append(evs, event{kind: evReleased})
	}
	return evs
}

// after returns the world after an event.
func (w world) after(t *testing.T, ev event) world {
	l, rd, err := step(w.l, ev)
	require.NoError(t, err, "in %v", w)
	from := w
	w.l = l
	switch ev.kind {
	case evRegister, evAcquire, evRecover, evDestroy, evUndestroyed:
		w.calls--
		w.waiting += count(ev.ticket != 0)
	case evIndexed, evIndexFailed:
		w.index = false
	case evErased, evEraseFailed:
		w.erasing = false
	case evOpened:
		w.opening--
		w.open++
	case evOpenFailed, evOpenStale, evAbandoned:
		w.opening--
	case evReleased:
		w.open--
	}
	for _, j := range rd.jobs {
		switch j.kind {
		case jobOpen, jobReopen:
			w.opening++
		case jobErase:
			require.False(t, w.erasing, "a second erase job from %v", from)
			w.erasing = true
		default:
			require.False(t, w.index, "a second index job from %v", from)
			w.index = true
		}
	}
	w.waiting -= len(rd.replies)
	require.NoError(t, w.check(), "from %v\n by %s\n to %v", from, ev.kind, w)
	require.Equal(t, rd.failure != nil, l.state == ShardStateErrored && (from.l.state != ShardStateErrored), "failures are told, from %v by %s", from, ev.kind)
	if l.state.durable() != from.l.state.durable() {
		require.True(t, rd.save || rd.forget, "not recorded, from %v by %s to %v", from, ev.kind, w)
	}
	return w
}

// TestEveryReachableStateKeepsTheInvariants walks, in every order, all that a
// few calls and their outcomes can lead to.
func TestEveryReachableStateKeepsTheInvariants(t *testing.T) {
	const calls = 6
	used := map[ShardState]map[eventKind]bool{}
	for _, start := range []lifecycle{
		{state: ShardStateNew, lazy: true},
		{state: ShardStateAvailable},
		{state: ShardStateErrored, err: errBoom},
		{state: ShardStateErrored, err: errBoom, recoverOnAcquire: true},
		{state: ShardStateUnknown},
		{state: ShardStateNew},
	} {
		first := world{l: start, calls: calls}
		var begin []world
		switch start.state {
		case ShardStateUnknown:
			begin = append(begin, walkTo(t, first, event{kind: evResume}, used))
		case ShardStateNew:
			begin = append(begin,
				walkTo(t, first, event{kind: evRegister, ticket: 1}, used),
				walkTo(t, first, event{kind: evRegister}, used))
			l, rd, err := step(start, event{kind: evUnregistered, ticket: 1, err: errBoom})
			note(used, start.state, evUnregistered)
			require.NoError(t, err)
			require.Equal(t, shardStateGone, l.state)
			require.Equal(t, []reply{{1, errBoom}}, rd.replies)
			require.True(t, rd.forget && !rd.save, "part of the record may be there")
			if !start.lazy {
				begin = append(begin, walkTo(t, first, event{kind: evResume}, used))
			}
		default:
			begin = append(begin, first)
		}
		walk(t, begin, used)
	}
	for state, row := range transitions {
		for kind, act := range row {
			if act != nil {
				require.True(t, used[state][eventKind(kind)], "%s in %s is in the table, and cannot happen", eventKind(kind), state)
			}
		}
	}
}

func walkTo(t *testing.T, w world, ev event, used map[ShardState]map[eventKind]bool) world {
	note(used, w.l.state, ev.kind)
	return w.after(t, ev)
}

func note(used map[ShardState]map[eventKind]bool, s ShardState, k eventKind) {
	if used[s] == nil {
		used[s] = map[eventKind]bool{}
	}
	used[s][k] = true
}

func walk(t *testing.T, queue []world, used map[ShardState]map[eventKind]bool) {
	seen := map[string]bool{}
	for len(queue) > 0 {
		w := queue[0]
		queue = queue[1:]
		if seen[w.String()] {
			continue
		}
		seen[w.String()] = true
		for _, ev := range w.possible() {
			queue = append(queue, walkTo(t, w, ev, used))
		}
	}
}

func TestImpossibleEventIsAnErrorAndChangesNothing(t *testing.T) {
	l := lifecycle{state: ShardStateAvailable}
	next, rd, err := step(l, event{kind: evErased})
	require.ErrorContains(t, err, "erased cannot happen in ShardStateAvailable")
	require.Equal(t, l, next)
	require.Equal(t, ready{}, rd)
}

func TestStepSharesNoMemoryWithItsArgument(t *testing.T) {
	l := lifecycle{state: ShardStateInitializing, indexing: true, parked: make([]ticket, 2, 10)}
	l.parked[0], l.parked[1] = 5, 6
	next, _, err := step(l, event{kind: evGaveUp, ticket: 5})
	require.NoError(t, err)
	require.Equal(t, []ticket{5, 6}, l.parked)
	require.Equal(t, []ticket{6}, next.parked)
}

func TestNamesOfStatesAndOperations(t *testing.T) {
	require.Equal(t, "ShardStateServing", ShardStateServing.String())
	require.Equal(t, "ShardStateUnknown", ShardStateUnknown.String())
	require.Equal(t, "__undefined__", ShardState(77).String())
	require.Equal(t, "OpShardRecover", OpShardRecover.String())
	require.Equal(t, "__undefined__", OpType(-1).String())
	require.Equal(t, "__undefined__", OpType(8).String())
}

// TestDesignShowsTheLifecycleAsItIs renders the table into docs/design.md.
func TestDesignShowsTheLifecycleAsItIs(t *testing.T) {
	const path, from, to = "docs/design.md", "<!-- lifecycle -->\n", "<!-- /lifecycle -->\n"
	doc, err := os.ReadFile(path)
	require.NoError(t, err)
	before, rest, ok := strings.Cut(string(doc), from)
	require.True(t, ok)
	_, after, ok := strings.Cut(rest, to)
	require.True(t, ok)
	want := before + from + renderLifecycle() + to + after
	if *update {
		require.NoError(t, os.WriteFile(path, []byte(want), 0o644))
		return
	}
	require.Equal(t, want, string(doc), "run: go test -run %s -update .", t.Name())
}

// renderLifecycle returns the table with, in each cell, what one event makes of
// a shard that nobody uses.
func renderLifecycle() string {
	states := []ShardState{
		ShardStateNew, ShardStateInitializing, ShardStateAvailable, ShardStateServing,
		ShardStateRecovering, ShardStateErrored, ShardStateUnknown,
	}
	var b strings.Builder
	b.WriteString("| event |")
	for _, s := range states {
		b.WriteString(" " + short(s) + " |")
	}
	b.WriteString("\n|" + strings.Repeat("---|", len(states)+1) + "\n")
	for k := range numEvents {
		b.WriteString("| " + k.String() + " |")
		for _, s := range states {
			b.WriteString(" " + cell(s, k) + " |")
		}
		b.WriteString("\n")
	}
	return b.String()
}

func cell(s ShardState, k eventKind) string {
	l := lifecycle{state: s, parked: []ticket{3}}
	l.indexing = s == ShardStateInitializing || s == ShardStateRecovering
	if s == ShardStateServing {
		l.refs = 1
	}
	if s == ShardStateErrored || s == ShardStateRecovering {
		l.err = errBoom
	}
	if k == evOpened || k == evOpenFailed || k == evOpenStale || k == evAbandoned || k == evReleased {
		l.refs = 1
	}
	next, rd, err := step(l, event{kind: k, ticket: 2, err: errBoom})
	switch {
	case err != nil:
		return ""
	case next.state != s:
		return "→ " + short(next.state)
	case len(rd.replies) > 0 && rd.replies[0].err != nil && k < evGaveUp:
		return "refused"
	default:
		return "stays"
	}
}

func short(s ShardState) string {
	if s == shardStateGone {
		return "gone"
	}
	if s == ShardStateUnknown {
		return "Unknown (being destroyed)"
	}
	return strings.TrimPrefix(s.String(), "ShardState")
}
