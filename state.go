package dagstore

import (
	"fmt"
	"slices"
)

// This file is the lifecycle of a shard, and all of it: the states, the events
// that move a shard between them, and what each move asks of the world. It is
// pure. It does no I/O, starts nothing, knows no caller, and reads no clock; the
// event loop (eventloop.go) does what it says. To change the lifecycle, change
// the table; a test walks everything that the table can reach, and another
// keeps the copy in docs/design.md up to date.

// ShardState is where a shard stands in its lifecycle. Its numbers are part of
// the record that the store keeps of a shard.
type ShardState byte

const (
	// ShardStateNew is a shard that is registered and was not indexed yet. A
	// shard that was registered lazily stays so until its first acquirer.
	ShardStateNew ShardState = iota

	// ShardStateInitializing is a shard that is being fetched and indexed.
	ShardStateInitializing

	// ShardStateAvailable is a shard that is indexed and has no open accessor.
	ShardStateAvailable

	// ShardStateServing is a shard that is indexed and has open accessors.
	ShardStateServing

	// ShardStateRecovering is a failed shard that is being fetched and indexed
	// again, because somebody called RecoverShard or a recovery policy applies.
	ShardStateRecovering ShardState = 0x80

	// ShardStateErrored is a shard that failed. It serves no new accessor until
	// it is recovered; accessors that are open stay usable.
	ShardStateErrored ShardState = 0xf0

	// ShardStateUnknown is a shard that is being, or has been, destroyed. No
	// query shows it; it is what the trace of OpShardDestroy says, and what the
	// record says while a destruction is under way, so that a crash resumes it.
	ShardStateUnknown ShardState = 0xff

	// shardStateGone is a shard that nobody can reach any more, save by
	// messages that were on their way when it was destroyed.
	shardStateGone ShardState = 0xfe
)

var stateNames = map[ShardState]string{
	ShardStateNew:          "ShardStateNew",
	ShardStateInitializing: "ShardStateInitializing",
	ShardStateAvailable:    "ShardStateAvailable",
	ShardStateServing:      "ShardStateServing",
	ShardStateRecovering:   "ShardStateRecovering",
	ShardStateErrored:      "ShardStateErrored",
	ShardStateUnknown:      "ShardStateUnknown",
}

// String returns the name of the constant, or "__undefined__".
func (ss ShardState) String() string {
	if name, ok := stateNames[ss]; ok {
		return name
	}
	return "__undefined__"
}

// durable returns the state in which a shard in state ss begins after a
// restart. It is the only state that is ever written, so work under way is
// never mistaken for work done, and opening or closing an accessor writes
// nothing.
func (ss ShardState) durable() ShardState {
	switch ss {
	case ShardStateInitializing:
		return ShardStateNew
	case ShardStateServing:
		return ShardStateAvailable
	case ShardStateRecovering:
		return ShardStateErrored
	default:
		return ss
	}
}

// OpType is an operation on a shard, as traces name it.
type OpType int

// The operations. One call, or the end of one job, may perform several.
const (
	OpShardRegister      OpType = iota // the shard was added
	OpShardInitialize                  // its fetching and indexing began
	OpShardMakeAvailable               // its fetching and indexing succeeded
	OpShardDestroy                     // it was destroyed, or a destruction was refused
	OpShardAcquire                     // somebody asked for an accessor
	OpShardFail                        // it failed
	OpShardRelease                     // an accessor was closed, or could not be opened
	OpShardRecover                     // its recovery began, or was refused
)

var opNames = [...]string{
	"OpShardRegister", "OpShardInitialize", "OpShardMakeAvailable", "OpShardDestroy",
	"OpShardAcquire", "OpShardFail", "OpShardRelease", "OpShardRecover",
}

// String returns the name of the constant, or "__undefined__".
func (o OpType) String() string {
	if o < 0 || int(o) >= len(opNames) {
		return "__undefined__"
	}
	return opNames[o]
}

// eventKind is something that can happen to a shard: a request, or the outcome
// of work that an earlier event asked for.
type eventKind uint8

const (
	evRegister eventKind = iota // a caller added the shard
	evResume                    // a restart found its registration, or destruction, unfinished
	evAcquire                   // a caller wants an accessor
	evRecover                   // a caller, or a policy, wants a failed shard back
	evDestroy                   // a caller wants the shard gone
	evGaveUp                    // the context of a waiting caller ended

	evIndexed      // the index job succeeded
	evIndexFailed  // the index job failed
	evIndexLost    // the full index is missing or damaged, and no acquirer is concerned
	evOpened       // an open job succeeded
	evOpenFailed   // an open job failed, through the shard's fault
	evOpenStale    // an open job found the full index missing, damaged, or not of this data
	evAbandoned    // an open job failed, through no fault of the shard
	evReleased     // an accessor was closed
	evErased       // all that the store kept of the shard, but its record, was removed
	evEraseFailed  // some of it could not be removed
	evUnregistered // the first record of the shard could not be written
	evUndestroyed  // that the shard is to be destroyed could not be recorded

	numEvents
	noEvent = numEvents // of messages that concern no shard
)

var eventNames = [numEvents]string{
	"register", "resume", "acquire", "recover", "destroy", "gave up",
	"indexed", "index failed", "index lost", "opened", "open failed", "open stale",
	"abandoned", "released", "erased", "erase failed", "unregistered", "undestroyed",
}

func (k eventKind) String() string { return eventNames[k] }

// unrecorded says what an event becomes when the record that it asked for could
// not be written. An event that is not listed stands all the same: a restart
// meets its cause again.
var unrecorded = map[eventKind]eventKind{
	evRegister: evUnregistered,
	evDestroy:  evUndestroyed,
	evIndexed:  evIndexFailed,
	evErased:   evEraseFailed,
}

// A ticket stands for a caller who waits for an answer; zero is nobody. The
// machine hands tickets around; only the loop knows the callers behind them.
type ticket uint64

type event struct {
	kind   eventKind
	ticket ticket
	err    error
}

// A lifecycle is everything about a shard that the machine reads and writes.
type lifecycle struct {
	state            ShardState
	lazy             bool     // not to be indexed before somebody acquires it
	recoverOnAcquire bool     // the next acquirer recovers the failed shard
	refs             int      // accessors open or being opened
	err              error    // why the shard is Errored or Recovering
	owner            ticket   // who asked for the work in flight: registers, recovers or destroys
	parked           []ticket // acquirers who wait for the index job
	indexing         bool     // an index job is running
}

type jobKind uint8

const (
	jobIndex   jobKind = iota // adopt the full index that is there, else fetch and index
	jobReindex                // index again from the data
	jobRefetch                // drop the local copy, fetch and index again
	jobOpen                   // open an accessor for a ticket
	jobReopen                 // the same, right after an index job: a new index that is stale is a failure
	jobErase                  // remove all that is kept of the shard, but its record
)

type job struct {
	kind   jobKind
	ticket ticket
}

// A reply answers a ticket: with err, or with success.
type reply struct {
	ticket ticket
	err    error
}

// A ready is what a transition asks of the world. The fields stand in the order
// in which the loop honours them: nothing starts, and nobody is answered or
// told, before what they are told is durable and can be seen.
type ready struct {
	save    bool    // the record changed
	forget  bool    // the record goes
	cancel  bool    // the index job in flight is to end
	jobs    []job   // work to start
	replies []reply // answers to callers
	traces  []trace // the operations that were performed
	failure error   // why the shard became Errored
}

// A trace is an operation and the shard after it.
type trace struct {
	op    OpType
	after ShardInfo
}

type transition func(l *lifecycle, ev event, rd *ready)

// transitions is the lifecycle. An event without an entry cannot happen in that
// state: it would be a bug in the loop, not in its callers.
var transitions = map[ShardState][numEvents]transition{
	ShardStateNew: {
		evRegister:     register,
		evResume:       resume,
		evUnregistered: unregister,
		evAcquire:      initializeThenOpen,
		evRecover:      refuseRecover,
		evDestroy:      destroy,
		evUndestroyed:  undestroyed,
		evGaveUp:       ignore,
		evIndexLost:    ignore,
	},
	ShardStateInitializing: {
		evAcquire:     park,
		evRecover:     refuseRecover,
		evDestroy:     destroyIfIdle,
		evUndestroyed: undestroyed,
		evGaveUp:      unpark,
		evIndexed:     activate,
		evIndexFailed: fail,
		evIndexLost:   ignore,
		evOpened:      deliver,
		evOpenFailed:  abandon,
		evOpenStale:   parkAgain,
		evAbandoned:   abandon,
		evReleased:    release,
	},
	ShardStateAvailable: {
		evAcquire:     open,
		evRecover:     refuseRecover,
		evDestroy:     destroy,
		evUndestroyed: undestroyed,
		evGaveUp:      ignore,
		evIndexLost:   reindex,
	},
	ShardStateServing: {
		evAcquire:     open,
		evRecover:     refuseRecover,
		evDestroy:     destroyIfIdle,
		evUndestroyed: undestroyed,
		evGaveUp:      ignore,
		evIndexLost:   reindex,
		evOpened:      deliver,
		evOpenFailed:  failOpen,
		evOpenStale:   reindexThenOpen,
		evAbandoned:   abandon,
		evReleased:    release,
	},
	ShardStateRecovering: {
		evAcquire:     park,
		evRecover:     refuseRecover,
		evDestroy:     destroyIfIdle,
		evUndestroyed: undestroyed,
		evGaveUp:      unpark,
		evIndexed:     activate,
		evIndexFailed: fail,
		evIndexLost:   ignore,
		evOpened:      deliver,
		evOpenFailed:  abandon,
		evOpenStale:   parkAgain,
		evAbandoned:   abandon,
		evReleased:    release,
	},
	ShardStateErrored: {
		evAcquire:     recoverThenOpen,
		evRecover:     recoverNow,
		evDestroy:     destroyIfIdle,
		evUndestroyed: undestroyed,
		evGaveUp:      ignore,
		evIndexLost:   ignore,
		evOpened:      deliver,
		evOpenFailed:  abandon,
		evOpenStale:   abandon,
		evAbandoned:   abandon,
		evReleased:    release,
	},
	ShardStateUnknown: {
		evAcquire:     refuseUnknown,
		evRecover:     refuseUnknown,
		evDestroy:     refuseUnknown,
		evUndestroyed: refuse,
		evResume:      erase,
		evGaveUp:      ignore,
		evIndexed:     erase,
		evIndexFailed: erase,
		evIndexLost:   ignore,
		evErased:      forget,
		evEraseFailed: keep,
	},
	shardStateGone: {
		evAcquire:     refuseUnknown,
		evRecover:     refuseUnknown,
		evDestroy:     refuseUnknown,
		evUndestroyed: refuse,
		evGaveUp:      ignore,
		evIndexLost:   ignore,
	},
}

// step is the lifecycle as a function: given where a shard stands and what
// happened, it says where the shard stands next, and what that asks of the
// world. It shares no memory with its argument.
func step(l lifecycle, ev event) (lifecycle, ready, error) {
	act := transitions[l.state][ev.kind]
	if act == nil {
		return l, ready{}, fmt.Errorf("internal error: %s cannot happen in %s", ev.kind, l.state)
	}
	before := l.state.durable()
	l.parked = slices.Clone(l.parked)
	var rd ready
	act(&l, ev, &rd)
	rd.save = l.state != shardStateGone && (rd.save || l.state.durable() != before)
	return l, rd, nil
}
