package dagstore

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"syscall"

	carindex "github.com/ipld/go-car/v2/index"

	"github.com/filecoin-project/dagstore/index"
	"github.com/filecoin-project/dagstore/internal/blockview"
	"github.com/filecoin-project/dagstore/internal/carfile"
	"github.com/filecoin-project/dagstore/internal/guard"
	"github.com/filecoin-project/dagstore/mount"
	"github.com/filecoin-project/dagstore/shard"
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
		if m.kind == evOpenStale && sh.verified.Load() {
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

// index makes sure that the full index and the top-level index hold the shard.
// Every step can be repeated, so that a crash anywhere is repaired by running it
// again.
func (sh *Shard) index(ctx context.Context, kind jobKind) (err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("%w: %w", ErrShardInitializationFailed, err)
		}
	}()
	defer guard.Recover(&err)
	if sh.mount == nil {
		return errors.New("the mount could not be revived; destroy the shard")
	}
	if kind == jobIndex && sh.adopt(ctx) == nil {
		return nil
	}
	if kind == jobRefetch {
		if err := sh.dropTransient(); err != nil {
			return err
		}
	}
	before := sh.mount.TimesFetched()
	err = sh.indexData(ctx)
	if isDamaged(err) && sh.mount.TransientPath() != "" && sh.mount.TimesFetched() == before {
		// The data was a local copy from earlier times, which may be damaged.
		log.Warnw("local copy cannot be indexed: fetching it anew", "shard", sh.key, "error", err)
		if err := sh.mount.DeleteTransient(); err != nil {
			return err
		}
		err = sh.indexData(ctx)
	}
	return err
}

// dropTransient removes the store's own local copy; the user's is still used.
func (sh *Shard) dropTransient() error {
	remove, err := sh.mount.RetireTransient()
	if errors.Is(err, mount.ErrFetching) {
		return nil // a new copy is under way, which this job shares
	}
	if err != nil || remove == nil {
		return err
	}
	return remove()
}

// isDamaged reports whether an error says that the data is not a whole CAR.
func isDamaged(err error) bool {
	return errors.Is(err, carfile.ErrMalformed) || errors.Is(err, carfile.ErrTruncated)
}

// adopt uses a full index that is there already. It is checked against the data
// when the shard is first opened.
func (sh *Shard) adopt(ctx context.Context) error {
	idx, err := sh.store.iterableIndex(sh.key)
	if err != nil {
		return err
	}
	return sh.store.topLevel.add(ctx, sh.key, idx)
}

var errNotIterable = errors.New("index is not iterable")

// indexData makes the indices from the data. Fetching has its own throttle, and
// nothing is held open while the job waits for the one of indexing.
func (sh *Shard) indexData(ctx context.Context) error {
	if err := sh.mount.Prepare(ctx); err != nil {
		return err
	}
	d := sh.store
	return d.throttleIndex.Do(ctx, func(ctx context.Context) error {
		old := d.multihashesOf(sh.key)
		mhs, err := sh.makeIndex(ctx)
		if err != nil {
			return err
		}
		if err := d.topLevel.replace(ctx, sh.key, old, mhs); err != nil {
			return err
		}
		sh.verified.Store(true)
		return nil
	})
}

func (sh *Shard) makeIndex(ctx context.Context) (_ index.MultihashIterator, err error) {
	r, err := sh.mount.Fetch(ctx)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	idx, err := sh.store.config.ShardIndexer(ctx, sh.key, r)
	if err != nil {
		return nil, fmt.Errorf("index the data: %w", err)
	}
	if idx == nil {
		return nil, errors.New("index the data: the indexer returned no index")
	}
	if err := sh.store.indices.AddFullIndex(sh.key, idx); err != nil {
		return nil, fmt.Errorf("keep the full index: %w", err)
	}
	return sh.multihashes(ctx, idx, r)
}

// multihashes returns what the top-level index is fed with. An indexer may
// return an index that does not tell its multihashes; then they are those
// sections of the data that it finds.
func (sh *Shard) multihashes(ctx context.Context, idx carindex.Index, r mount.Reader) (index.MultihashIterator, error) {
	if iterable, ok := idx.(carindex.IterableIndex); ok {
		return indexMultihashes{iterable}, nil
	}
	size, err := r.Seek(0, io.SeekEnd)
	if err != nil {
		return nil, err
	}
	var list listedMultihashes
	err = carfile.Sections(ctx, r, size, func(s carfile.Section) error {
		if idx.GetAll(s.Cid, func(uint64) bool { return false }) == nil {
			list = append(list, s.Cid.Hash())
		}
		return nil
	})
	return list, err
}

// indexSections is the ShardIndexer of stores that have no other.
func indexSections(ctx context.Context, _ shard.Key, r mount.Reader) (carindex.Index, error) {
	size, err := r.Seek(0, io.SeekEnd)
	if err != nil {
		return nil, err
	}
	return carfile.Index(ctx, r, size)
}

// fullIndex returns the full index of a shard from the repository.
func (d *DAGStore) fullIndex(key shard.Key) (idx carindex.Index, err error) {
	defer guard.Recover(&err)
	idx, err = d.indices.GetFullIndex(key)
	if err == nil && idx == nil {
		err = index.ErrNotFound
	}
	return idx, err
}

// iterableIndex returns the full index of a shard if it tells its multihashes.
func (d *DAGStore) iterableIndex(key shard.Key) (carindex.IterableIndex, error) {
	idx, err := d.fullIndex(key)
	if err != nil {
		return nil, err
	}
	iterable, ok := idx.(carindex.IterableIndex)
	if !ok {
		return nil, fmt.Errorf("%w: codec %s", errNotIterable, idx.Codec())
	}
	return iterable, nil
}

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

// isLost reports whether an error of the index repository says that the index is
// not there, or not whole.
func isLost(err error) bool {
	lost := errors.Is(err, index.ErrNotFound) || errors.Is(err, index.ErrDamaged) || errors.Is(err, fs.ErrNotExist)
	return lost && !isPassing(err)
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
	idx, err := sh.store.fullIndex(sh.key)
	if err != nil {
		if isLost(err) {
			err = fmt.Errorf("%w: %w", errStaleIndex, err)
		}
		return nil, errors.Join(err, r.Close())
	}
	a, err := NewShardAccessor(r, idx, sh)
	if err != nil {
		return nil, errors.Join(err, r.Close())
	}
	if err := sh.verify(ctx, a, idx); err != nil {
		return nil, errors.Join(err, a.data.Close())
	}
	return a, nil
}

// verify compares an index that was found, and not made, with the data.
func (sh *Shard) verify(ctx context.Context, a *ShardAccessor, idx carindex.Index) error {
	if sh.verified.Load() {
		return nil
	}
	err := blockview.Fits(ctx, a.data, idx, openChecks)
	if errors.Is(err, blockview.ErrMismatch) || isDamaged(err) {
		return fmt.Errorf("%w: %w", errStaleIndex, err)
	}
	if err == nil {
		sh.verified.Store(true)
	}
	return err
}

// erase removes all that the store keeps of the shard, but its record, which
// goes last, so that a crash in between is made good at the next start.
func (sh *Shard) erase(ctx context.Context) (err error) {
	defer guard.Recover(&err)
	d := sh.store
	if err := d.topLevel.remove(ctx, sh.key, d.multihashesOf(sh.key)); err != nil {
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

// multihashesOf returns the multihashes of a shard as far as its full index can
// be read, and nil otherwise.
func (d *DAGStore) multihashesOf(key shard.Key) index.MultihashIterator {
	idx, err := d.iterableIndex(key)
	if err != nil {
		return nil
	}
	return indexMultihashes{idx}
}
