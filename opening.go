package dagstore

import (
	"context"
	"errors"
	"fmt"
	"syscall"

	carindex "github.com/ipld/go-car/v2/index"

	"github.com/filecoin-project/dagstore/internal/blockview"
	"github.com/filecoin-project/dagstore/internal/guard"
)

// open makes an accessor. ctx is the caller's; the work also ends with the store.
func (sh *Shard) open(ctx context.Context) (eventKind, *ShardAccessor, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(sh.store.ctx, cancel)()
	a, err := sh.openAccessor(ctx)
	switch {
	case err == nil:
		return evOpened, a, nil
	case ctx.Err() != nil, isPassing(err):
		return evAbandoned, nil, err
	case errors.Is(err, errStaleIndex):
		return evOpenStale, nil, err
	default:
		return evOpenFailed, nil, err
	}
}

var errStaleIndex = errors.New("full index is missing, damaged, or not of this data")

// isPassing reports whether an error says something about the machine, and
// nothing about the shard.
func isPassing(err error) bool {
	return errors.Is(err, syscall.EMFILE) || errors.Is(err, syscall.ENFILE) || errors.Is(err, syscall.ENOMEM)
}

// openChecks is how many entries of a full index are compared with the data
// when it was not made by this process.
const openChecks = 64

func (sh *Shard) openAccessor(ctx context.Context) (_ *ShardAccessor, err error) {
	defer guard.Recover(&err)
	r, err := sh.mount.Fetch(ctx)
	if err != nil {
		return nil, err
	}
	generation := sh.trust.generation.Load()
	idx, err := sh.store.fullIndex(sh.key)
	if err != nil {
		if isLost(err) {
			err = fmt.Errorf("%w: %w", errStaleIndex, err)
		}
		return nil, errors.Join(err, r.Close())
	}
	a, err := NewShardAccessor(r, idx, sh)
	if err != nil {
		sh.store.release(idx)
		return nil, errors.Join(err, r.Close())
	}
	a.stored, a.generation = true, generation
	if err := sh.compare(ctx, a, idx); err != nil {
		return nil, errors.Join(err, a.letGo())
	}
	return a, nil
}

// compare compares an index that was found, and not made, with the data. The rest
// of it is looked at beside serving.
func (sh *Shard) compare(ctx context.Context, a *ShardAccessor, idx carindex.Index) error {
	if !sh.trust.fits.Load() {
		err := blockview.Fits(ctx, a.data, idx, openChecks)
		if errors.Is(err, blockview.ErrMismatch) || isDamaged(err) {
			return fmt.Errorf("%w: %w", errStaleIndex, err)
		}
		if err != nil {
			return err
		}
		sh.trust.fits.Store(true)
	}
	if !sh.trust.known() {
		sh.suspectIndex(nil)
	}
	return nil
}
