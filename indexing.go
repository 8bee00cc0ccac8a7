package dagstore

import (
	"context"
	"errors"
	"fmt"
	"io"
	"runtime"

	carindex "github.com/ipld/go-car/v2/index"

	"github.com/filecoin-project/dagstore/internal/carfile"
	"github.com/filecoin-project/dagstore/internal/files"
	"github.com/filecoin-project/dagstore/internal/guard"
	"github.com/filecoin-project/dagstore/internal/indexer"
	"github.com/filecoin-project/dagstore/internal/mapped"
	"github.com/filecoin-project/dagstore/mount"
)

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
	if kind == jobIndex && !sh.store.config.VerifyBlocks && sh.adopt(ctx) == nil {
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

// isDamaged reports whether an error says that the data is not a whole CAR of
// what its CIDs say.
func isDamaged(err error) bool {
	return errors.Is(err, ErrMalformedCAR) || errors.Is(err, ErrTruncatedCAR) || errors.Is(err, ErrHashMismatch)
}

// indexData makes the indices from the data. Fetching has its own throttle. While
// the job waits for the one of indexing it holds nothing open, unless it has
// passed over the data already, which only so many jobs may do at a time.
func (sh *Shard) indexData(ctx context.Context) error {
	d := sh.store
	early := d.config.ShardIndexer == nil && !d.config.VerifyBlocks && d.earlyScans.take()
	if early {
		defer d.earlyScans.give()
	}
	scanned, err := sh.copy(ctx, early)
	if err != nil {
		return err
	}
	defer sh.discard(scanned)
	return d.throttleIndex.Do(ctx, func(ctx context.Context) error {
		switch {
		case scanned != nil:
			return sh.keepIndexed(ctx, scanned)
		case d.config.ShardIndexer != nil:
			return sh.indexByUser(ctx)
		default:
			return sh.scanAndKeep(ctx)
		}
	})
}

// slots bounds how many do something at once. Nil is no bound.
type slots chan struct{}

// take returns false if all are taken. It does not wait.
func (s slots) take() bool {
	if s == nil {
		return true
	}
	select {
	case s <- struct{}{}:
		return true
	default:
		return false
	}
}

func (s slots) give() {
	if s != nil {
		<-s
	}
}

// copy makes a local copy, if the mount needs one. If early, the data is scanned
// as it arrives; the Indexer that is returned has all of it then, and is nil if
// there was nothing to copy, or if somebody else has begun to.
func (sh *Shard) copy(ctx context.Context, early bool) (scanned *indexer.Indexer, err error) {
	if !early {
		return nil, sh.mount.Prepare(ctx)
	}
	x := sh.newIndexer()
	defer func() {
		if scanned == nil { // also when OnIndexProgress ends the goroutine
			sh.discard(x)
		}
	}()
	stream := x.Stream(ctx)
	complete, err := sh.mount.PrepareTapped(ctx, stream)
	if err == nil && complete {
		err = stream.Finish()
	}
	if err != nil || !complete {
		return nil, err
	}
	return x, nil
}

func (sh *Shard) newIndexer() *indexer.Indexer {
	c := sh.store.config
	o := indexer.Options{FS: files.OS, Dir: c.TransientsDir, Budget: sh.store.indexMemory}
	if c.VerifyBlocks {
		o.Verify = runtime.GOMAXPROCS(0)
	}
	if c.OnIndexProgress != nil {
		o.Progress = func(p carfile.Progress) { c.OnIndexProgress(sh.key, IndexProgress(p)) }
	}
	return indexer.New(o)
}

// discard closes an Indexer, unless it is nil.
func (sh *Shard) discard(x *indexer.Indexer) {
	if x == nil {
		return
	}
	if err := x.Close(); err != nil {
		log.Warnw("temporary file of indexing not closed cleanly", "shard", sh.key, "error", err)
	}
}

// scanAndKeep indexes the data that is there.
func (sh *Shard) scanAndKeep(ctx context.Context) (err error) {
	r, err := sh.mount.Fetch(ctx)
	if err != nil {
		return err
	}
	data, err := mapped.Open(r)
	if err != nil {
		return errors.Join(err, r.Close())
	}
	defer func() { err = errors.Join(err, data.Close()) }()
	x := sh.newIndexer()
	defer sh.discard(x)
	if err := x.ScanMapped(ctx, r, data); err != nil {
		return err
	}
	return sh.keepIndexed(ctx, x)
}

// keepIndexed keeps the index that x has made. The repository of this module takes
// it as it is being written; any other gets it in memory.
func (sh *Shard) keepIndexed(ctx context.Context, x *indexer.Indexer) error {
	d := sh.store
	if d.folder == nil {
		idx, err := x.InMemory(ctx)
		if err != nil {
			return err
		}
		return sh.keep(ctx, idx.CarIndex().(carindex.IterableIndex))
	}
	return sh.replaceIndices(ctx, func(feed func(carindex.IterableIndex) error) error {
		err := d.folder.WriteFullIndex(sh.key, func(w io.Writer) error { return x.WriteTo(ctx, w) })
		if err != nil {
			return fmt.Errorf("keep the full index: %w", err)
		}
		idx, err := d.iterableIndex(sh.key)
		if err != nil {
			return fmt.Errorf("read the full index: %w", err)
		}
		defer d.release(idx)
		return feed(idx)
	})
}

// keep keeps an index.
func (sh *Shard) keep(ctx context.Context, idx carindex.IterableIndex) error {
	return sh.replaceIndices(ctx, func(feed func(carindex.IterableIndex) error) error {
		if err := sh.store.indices.AddFullIndex(sh.key, idx); err != nil {
			return fmt.Errorf("keep the full index: %w", err)
		}
		return feed(idx)
	})
}

// replaceIndices has a new full index kept and then fed to the top-level index, in
// the place of what the old one had there.
func (sh *Shard) replaceIndices(ctx context.Context, keep func(feed func(carindex.IterableIndex) error) error) error {
	d := sh.store
	old := d.storedIndex(sh.key)
	defer old.release()
	err := keep(func(idx carindex.IterableIndex) error {
		return d.topLevel.replace(ctx, sh.key, old.multihashes(), idx)
	})
	if err == nil {
		sh.trust.renew()
	}
	return err
}

// indexByUser keeps the index that the user's indexer makes. One that does not
// tell its multihashes is kept in our own form: for the sections of the data that
// it finds.
func (sh *Shard) indexByUser(ctx context.Context) (err error) {
	r, err := sh.mount.Fetch(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	idx, err := sh.store.config.ShardIndexer(ctx, sh.key, r)
	if err != nil {
		return fmt.Errorf("index the data: %w", err)
	}
	if idx == nil {
		return errors.New("index the data: the indexer returned no index")
	}
	if iterable, ok := idx.(carindex.IterableIndex); ok {
		return sh.keep(ctx, iterable)
	}
	size, err := r.Seek(0, io.SeekEnd)
	if err != nil {
		return err
	}
	x := sh.newIndexer()
	defer sh.discard(x)
	if err := x.ScanIndexed(ctx, r, size, idx); err != nil {
		return err
	}
	return sh.keepIndexed(ctx, x)
}
