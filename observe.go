package dagstore

import (
	"sync/atomic"

	"github.com/filecoin-project/dagstore/shard"
)

// maxTraces is how many undelivered traces are kept.
const maxTraces = 1 << 16

// observed holds what was not yet read from the channels of observers. Only the
// loop touches it, but for the counter.
type observed struct {
	traceCh   chan<- Trace
	failureCh chan<- ShardResult
	traces    []Trace
	failed    []shard.Key // in the order in which they failed
	failures  map[shard.Key]ShardResult
	dropped   atomic.Uint64
}

// note queues what a move has to tell.
func (o *observed) note(key shard.Key, rd ready) {
	if rd.failure != nil {
		log.Warnw("shard failed", "shard", key, "error", rd.failure)
		o.noteFailure(ShardResult{Key: key, Error: rd.failure})
	}
	if o.traceCh == nil {
		return
	}
	for _, t := range rd.traces {
		o.traces = append(o.traces, Trace{Key: key, Op: t.op, After: t.after})
	}
	if excess := len(o.traces) - maxTraces; excess > 0 {
		o.traces = o.traces[excess:]
		if o.dropped.Add(uint64(excess)) == uint64(excess) {
			log.Warnw("traces are dropped: Config.TraceCh is not read fast enough", "kept", maxTraces)
		}
	}
}

func (o *observed) noteFailure(res ShardResult) {
	if o.failureCh == nil {
		return
	}
	if o.failures == nil {
		o.failures = map[shard.Key]ShardResult{}
	}
	if _, pending := o.failures[res.Key]; !pending {
		o.failed = append(o.failed, res.Key)
	}
	o.failures[res.Key] = res
}

// nextTrace returns a nil channel when there is nothing to send.
func (o *observed) nextTrace() (chan<- Trace, Trace) {
	if len(o.traces) == 0 {
		return nil, Trace{}
	}
	return o.traceCh, o.traces[0]
}

func (o *observed) traceTaken() { o.traces = o.traces[1:] }

// nextFailure returns a nil channel when there is nothing to send.
func (o *observed) nextFailure() (chan<- ShardResult, ShardResult) {
	if len(o.failed) == 0 {
		return nil, ShardResult{}
	}
	return o.failureCh, o.failures[o.failed[0]]
}

func (o *observed) failureTaken() {
	delete(o.failures, o.failed[0])
	o.failed = o.failed[1:]
}
