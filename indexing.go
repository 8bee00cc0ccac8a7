package dagstore

import (
	"context"
	"errors"
	"fmt"
	"io"
	"runtime"

	carindex "github.com/ipld/go-car/v2/index"

	"github.com/filecoin-project/dagstore/index"
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

// isDamaged reports whether an error says that the data is not a whole CAR of
// what its CIDs say.
func isDamaged(err error) bool {
	return errors.Is(err, ErrMalformedCAR) || errors.Is(err, ErrTruncatedCAR) || errors.Is(err, ErrHashMismatch)
}

// adopt uses a full index that is there already. It is checked against the data
// when the shard is first opened.
func (sh *Shard) adopt(ctx context.Context) error {
	idx, err := sh.store.iterableIndex(sh.key)
	if err != nil {
		return err
	}
	defer releaseIndex(idx)
	return sh.store.topLevel.add(ctx, sh.key, idx)
}

// indexData makes the indices from the data. Fetching has its own throttle, and
// nothing is held open while the job waits for the one of indexing.
func (sh *Shard) indexData(ctx context.Context) (err error) {
	x := sh.newIndexer()
	defer func() { err = errors.Join(err, x.Close()) }()
	scanned, err := sh.copyAndScan(ctx, x)
	if err != nil {
		return err
	}
	return sh.store.throttleIndex.Do(ctx, func(ctx context.Context) error {
		switch {
		case sh.store.config.ShardIndexer != nil:
			return sh.indexByUser(ctx, x)
		case !scanned:
			if err := sh.scan(ctx, x); err != nil {
				return err
			}
		}
		return sh.keepIndexed(ctx, x)
	})
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

// copyAndScan makes a local copy, if the mount needs one, and scans the data as
// it arrives. It reports whether that was done: not if the data is here already,
// and not if it is to be read in another way.
func (sh *Shard) copyAndScan(ctx context.Context, x *indexer.Indexer) (bool, error) {
	if sh.store.config.ShardIndexer != nil || sh.store.config.VerifyBlocks {
		return false, sh.mount.Prepare(ctx)
	}
	stream := x.Stream(ctx)
	complete, err := sh.mount.PrepareTapped(ctx, stream)
	if err != nil || !complete {
		return false, err
	}
	return true, stream.Finish()
}

// scan adds the sections of the data to the index.
func (sh *Shard) scan(ctx context.Context, x *indexer.Indexer) (err error) {
	r, err := sh.mount.Fetch(ctx)
	if err != nil {
		return err
	}
	data, err := mapped.Open(r)
	if err != nil {
		return errors.Join(err, r.Close())
	}
	defer func() { err = errors.Join(err, data.Close()) }()
	return x.ScanMapped(ctx, r, data)
}

// withData calls use with a reader of the data, at its first byte.
func (sh *Shard) withData(ctx context.Context, use func(mount.Reader) error) (err error) {
	r, err := sh.mount.Fetch(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	return use(r)
}

// keepIndexed keeps the index that x has made. A repository that cannot take it
// as it is written gets it in memory.
func (sh *Shard) keepIndexed(ctx context.Context, x *indexer.Indexer) error {
	d := sh.store
	return sh.replaceIndices(ctx, func() error {
		if repo, ok := d.indices.(index.StreamRepo); ok {
			return repo.WriteFullIndex(sh.key, func(w io.Writer) error { return x.WriteTo(ctx, w) })
		}
		idx, err := x.InMemory(ctx)
		if err != nil {
			return err
		}
		return d.indices.AddFullIndex(sh.key, idx.CarIndex())
	})
}

// replaceIndices keeps a new full index, and puts its multihashes into the
// top-level index in the place of those of the old one.
func (sh *Shard) replaceIndices(ctx context.Context, keep func() error) error {
	d := sh.store
	old := d.storedIndex(sh.key)
	defer old.release()
	if err := keep(); err != nil {
		return fmt.Errorf("keep the full index: %w", err)
	}
	idx, err := d.iterableIndex(sh.key)
	if err != nil {
		return fmt.Errorf("read the full index: %w", err)
	}
	defer releaseIndex(idx)
	if err := d.topLevel.replace(ctx, sh.key, old.multihashes(), indexMultihashes{idx}); err != nil {
		return err
	}
	sh.fits.Store(true)
	sh.made.Store(true)
	return nil
}

// indexByUser keeps the index that the user's indexer makes. One that does not
// tell its multihashes is kept in our own form: for the sections of the data that
// it finds.
func (sh *Shard) indexByUser(ctx context.Context, x *indexer.Indexer) error {
	return sh.withData(ctx, func(r mount.Reader) error {
		idx, err := sh.store.config.ShardIndexer(ctx, sh.key, r)
		if err != nil {
			return fmt.Errorf("index the data: %w", err)
		}
		if idx == nil {
			return errors.New("index the data: the indexer returned no index")
		}
		if _, ok := idx.(carindex.IterableIndex); ok {
			return sh.replaceIndices(ctx, func() error { return sh.store.indices.AddFullIndex(sh.key, idx) })
		}
		size, err := r.Seek(0, io.SeekEnd)
		if err != nil {
			return err
		}
		if err := x.ScanIndexed(ctx, r, size, idx); err != nil {
			return err
		}
		return sh.keepIndexed(ctx, x)
	})
}
