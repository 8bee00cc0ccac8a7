package dagstore

import (
	"context"
	"errors"

	"github.com/filecoin-project/dagstore/shard"
)

// RecoverOnStartPolicy says what becomes of shards that were failed when the
// store was last closed.
type RecoverOnStartPolicy int

const (
	// DoNotRecover leaves failed shards failed. Recover them with RecoverShard.
	DoNotRecover RecoverOnStartPolicy = iota

	// RecoverOnAcquire recovers each failed shard when it is first acquired; the
	// acquirer waits for it. It happens once: a shard whose recovery fails stays
	// failed.
	RecoverOnAcquire

	// RecoverNow recovers all failed shards at Start.
	RecoverNow
)

// RecoverImmediately recovers shards as they fail. It reads failureCh, which is
// the one of Config.FailureCh, and recovers each shard at most maxAttempts times
// in a row; a success forgets the count, and so does a restart. It returns when
// ctx ends or failureCh is closed, having called onDone if that is not nil. Run
// it in a goroutine of its own.
func RecoverImmediately(ctx context.Context, dagst *DAGStore, failureCh chan ShardResult, maxAttempts uint64, onDone func()) {
	if onDone != nil {
		defer onDone()
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel() // nobody reads results any more
	r := recovery{attempts: map[shard.Key]uint64{}, results: make(chan ShardResult, 128)}
	for {
		select {
		case <-ctx.Done():
			return
		case res := <-r.results:
			r.note(res)
		case res, ok := <-failureCh:
			if !ok {
				return
			}
			r.noteAll() // a success that came before this failure counts first
			if r.attempts[res.Key] >= maxAttempts {
				log.Warnw("shard failed too often in a row: not recovering it again", "shard", res.Key, "attempts", maxAttempts)
				continue
			}
			r.attempts[res.Key]++
			if err := dagst.RecoverShard(ctx, res.Key, r.results, RecoverOpts{}); err != nil {
				log.Warnw("recovery of failed shard refused", "shard", res.Key, "error", err)
				delete(r.attempts, res.Key)
			}
		}
	}
}

// A recovery counts, for each shard, the attempts since its last success.
type recovery struct {
	attempts map[shard.Key]uint64
	results  chan ShardResult
}

func (r recovery) note(res ShardResult) {
	if res.Error == nil || errors.Is(res.Error, ErrShardNotErrored) {
		delete(r.attempts, res.Key)
	}
}

func (r recovery) noteAll() {
	for {
		select {
		case res := <-r.results:
			r.note(res)
		default:
			return
		}
	}
}
