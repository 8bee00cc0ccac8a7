package dagstore

import (
	"context"
	"errors"
	"fmt"

	"github.com/filecoin-project/dagstore/index"
	"github.com/filecoin-project/dagstore/internal/guard"
)

// work does one job and returns the one message that reports its end. It runs
// in a goroutine of its own and reads of the shard only what never changes.
func (sh *Shard) work(ctx context.Context, j job) message {
	m := message{shard: sh, job: true, event: event{ticket: j.ticket}}
	switch j.kind {
	case jobOpen:
		m.kind, m.accessor, m.err = sh.open(ctx)
	case jobReopen:
		m.kind, m.accessor, m.err = sh.open(ctx)
		if m.kind == evOpenStale && sh.trust.fits.Load() {
			m.kind = evOpenFailed // the index was made a moment ago: making it again does not help
		}
	case jobErase:
		m.kind, m.err = outcome(evErased, evEraseFailed, sh.erase(ctx))
	default:
		m.kind, m.err = outcome(evIndexed, evIndexFailed, sh.index(ctx, j.kind))
	}
	return m
}

// broken is what a job reports that did not come to its end.
func (sh *Shard) broken(j job) message {
	m := message{shard: sh, job: true, event: event{ticket: j.ticket, err: errEnded}}
	switch j.kind {
	case jobOpen, jobReopen:
		m.kind = evOpenFailed
	case jobErase:
		m.kind = evEraseFailed
	default:
		m.kind = evIndexFailed
	}
	return m
}

var errEnded = errors.New("code that the store called ended its goroutine")

func outcome(succeeded, failed eventKind, err error) (eventKind, error) {
	if err != nil {
		return failed, err
	}
	return succeeded, nil
}

// erase removes all that the store keeps of the shard, but its record, which
// goes last, so that a crash in between is made good at the next start.
func (sh *Shard) erase(ctx context.Context) (err error) {
	defer guard.Recover(&err)
	d := sh.store
	old := d.storedIndex(sh.key)
	defer old.release()
	if err := d.topLevel.remove(ctx, sh.key, old.multihashes()); err != nil {
		return fmt.Errorf("remove from the top-level index: %w", err)
	}
	if _, err := d.indices.DropFullIndex(sh.key); err != nil {
		return fmt.Errorf("remove the full index: %w", err)
	}
	if manifests, ok := d.indices.(index.ManifestRepo); ok {
		if _, err := manifests.DropManifests(sh.key); err != nil {
			return fmt.Errorf("remove the manifests: %w", err)
		}
	}
	if sh.mount == nil {
		return nil
	}
	return sh.mount.DeleteTransient()
}
