package dagstore

import (
	"context"
	"fmt"
	"io"
	"sync"
	"sync/atomic"

	blocks "github.com/ipfs/go-block-format"
	"github.com/ipfs/go-cid"
	carindex "github.com/ipld/go-car/v2/index"

	"github.com/filecoin-project/dagstore/internal/blockview"
	"github.com/filecoin-project/dagstore/internal/carfile"
	"github.com/filecoin-project/dagstore/internal/indexer"
	"github.com/filecoin-project/dagstore/internal/mapped"
	"github.com/filecoin-project/dagstore/mount"
	"github.com/filecoin-project/dagstore/shard"
)

var (
	// ErrMalformedCAR is the error for data that is not a CAR, or a damaged one.
	ErrMalformedCAR = carfile.ErrMalformed

	// ErrTruncatedCAR is the error for a CAR that ends too early.
	ErrTruncatedCAR = carfile.ErrTruncated

	// ErrHashMismatch is the error for a block that is not what its CID says. Only
	// a blockstore with HashOnRead notices, and indexing with Config.VerifyBlocks.
	ErrHashMismatch = carfile.ErrHashMismatch

	// ErrUnknownHash is the error for a block that cannot be verified, because its
	// hash function is not known.
	ErrUnknownHash = carfile.ErrUnknownHash
)

// ReadBlockstore is a read-only blockstore over one shard. It is safe for
// concurrent use. Blocks are found by multihash, whatever the codec and version
// of the CID; a block that is absent gives go-ipld-format's ErrNotFound. After
// the accessor was closed, every method returns an error that is fs.ErrClosed.
type ReadBlockstore interface {
	Has(context.Context, cid.Cid) (bool, error)
	Get(context.Context, cid.Cid) (blocks.Block, error)
	GetSize(context.Context, cid.Cid) (int, error)

	// AllKeysChan sends a CIDv1 with the raw codec for every multihash of the
	// shard. The channel is closed after the last, when the context ends, or when
	// the accessor is closed.
	AllKeysChan(ctx context.Context) (<-chan cid.Cid, error)

	// HashOnRead makes Get compare every block with its CID from now on. A block
	// that differs gives ErrHashMismatch. Off at first.
	HashOnRead(enabled bool)
}

// A BlockViewer hands out blocks in place. The blockstores of accessors are
// BlockViewers; boxo knows the interface as Viewer.
type BlockViewer interface {
	// View calls f with the bytes of a block, which are not copied if the data is
	// mapped into memory. They are valid during the call only, and not to be
	// changed. The accessor's Close waits for the call. An error of f is returned
	// as it is; the others are those of Get.
	View(ctx context.Context, c cid.Cid, f func([]byte) error) error
}

// A BlocksGetter reads many blocks in the order in which they lie. The
// blockstores of accessors are BlocksGetters.
type BlocksGetter interface {
	// GetMany calls visit for each of cids, in the order of their blocks in the
	// CAR, with its place i in cids and the block, or the error that Get would
	// have returned. The blocks that are not in the CAR come first. An error of
	// visit, and the end of ctx, end it and are returned.
	GetMany(ctx context.Context, cids []cid.Cid, visit func(i int, block blocks.Block, err error) error) error
}

var (
	_ ReadBlockstore = (*blockview.Blocks)(nil)
	_ BlockViewer    = (*blockview.Blocks)(nil)
	_ BlocksGetter   = (*blockview.Blocks)(nil)
)

// A ShardAccessor gives access to the data of a shard until it is closed. It is
// safe for concurrent use.
type ShardAccessor struct {
	key   shard.Key
	shard *Shard // nil outside a store
	data  *mapped.Data

	stored     bool  // idx is the store's, which is released in the end
	generation int64 // of idx then; see trust

	mu   sync.Mutex // guards idx, which is made at first use when none was given
	idx  carindex.Index
	once sync.Once
	err  error // of Close

	suspected atomic.Bool // a look-up found that idx is not right
}

// NewShardAccessor returns an accessor over data, which must support random
// access, and which it closes in the end. A nil idx is made from the data when
// it is first needed; s is nil outside a store.
func NewShardAccessor(data mount.Reader, idx carindex.Index, s *Shard) (*ShardAccessor, error) {
	d, err := mapped.Open(data)
	if err != nil {
		return nil, fmt.Errorf("open shard: %w", err)
	}
	a := &ShardAccessor{shard: s, data: d, idx: idx}
	if s != nil {
		a.key = s.key
	}
	return a, nil
}

// Shard returns the key of the shard, the empty one outside a store.
func (sa *ShardAccessor) Shard() shard.Key { return sa.key }

// Reader returns a new reader over the whole shard, from its first byte,
// independent of all others. It is also an io.ReaderAt, an io.Seeker and an
// io.WriterTo.
func (sa *ShardAccessor) Reader() io.Reader { return sa.data.NewReader() }

// Blockstore returns a blockstore over the shard, which is also a BlockViewer and
// a BlocksGetter. It may be called often; all share what is behind them, but for
// HashOnRead.
func (sa *ShardAccessor) Blockstore() (ReadBlockstore, error) {
	if err := sa.data.Map(); err != nil {
		return nil, fmt.Errorf("blockstore of shard %q: %w", sa.key, err)
	}
	idx, err := sa.index()
	if err != nil {
		return nil, fmt.Errorf("blockstore of shard %q: %w", sa.key, err)
	}
	bs, err := blockview.New(sa.data, idx, sa.suspectIndex)
	if err != nil {
		return nil, fmt.Errorf("blockstore of shard %q: %w", sa.key, err)
	}
	return bs, nil
}

func (sa *ShardAccessor) index() (carindex.Index, error) {
	sa.mu.Lock()
	defer sa.mu.Unlock()
	if sa.idx != nil {
		return sa.idx, nil
	}
	idx, err := indexer.Memory(context.Background(), sa.data, sa.data.Size())
	if err != nil {
		return nil, err
	}
	sa.idx = idx.CarIndex()
	return sa.idx, nil
}

// suspectIndex reports, once, that the store's index is not one of the data.
func (sa *ShardAccessor) suspectIndex(err error) {
	if !sa.stored || sa.suspected.Swap(true) || sa.generation != sa.shard.trust.generation.Load() {
		return
	}
	sa.shard.suspectIndex(err)
}

// Close ends the access: readers and blockstores return errors from now on. It
// waits for reads in progress. Only the first Close has an effect; all return
// its error.
func (sa *ShardAccessor) Close() error {
	sa.once.Do(func() {
		if sa.shard != nil && sa.shard.store != nil {
			defer sa.shard.store.gate.post(message{shard: sa.shard, event: event{kind: evReleased}})
		}
		sa.err = sa.letGo()
	})
	return sa.err
}

// letGo closes the data, which waits for reads in progress, and then lets go of
// the index that they use.
func (sa *ShardAccessor) letGo() error {
	err := sa.data.Close()
	if sa.stored {
		sa.shard.store.release(sa.idx)
	}
	return err
}

// abandon closes an accessor that nobody got.
func (sa *ShardAccessor) abandon() {
	if err := sa.Close(); err != nil {
		log.Warnw("accessor not closed cleanly", "shard", sa.key, "error", err)
	}
}
