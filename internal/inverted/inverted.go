// Package inverted is the top-level index on the local file system: it tells which
// shards have a multihash. Records lie in immutable layers (package layer), and a
// journal (package journal) says which layers count and what shards there are.
//
// # The folder
//
// A folder has one writer at a time, and any number of readers in other processes.
// Its files are
//
//	CURRENT    names the journal in use; replaced atomically. Four lines of text:
//	           "dagstore inverted index 1", "journal N", 26 random letters and
//	           digits, and the CRC-32C of these three, with their newlines, in 8
//	           hexadecimal digits of lower case
//	journal-N  what the index is, and all changes since
//	layer-N    sorted records
//	.tmp-*     what is being written
//
// N is a number in decimal, without zeros in front. Files with these names that nothing
// in use names are what a crash has left: the writer removes them when it opens the
// folder, and no other files. Everything here can be made again from the full indices
// of the shards, so damage is not repaired but found out: see ErrDamaged.
//
// Another version may change all of it but this: CURRENT has at most 256 bytes, in four
// lines. The first begins with "dagstore inverted index ", and the last is the checksum
// of the three before, as above.
//
// # Entries of the journal
//
// An entry is parts, one behind the other, that count together. A part is a byte
// for its kind, and what follows; numbers are unsigned varints, as in Protocol
// Buffers:
//
//	1  begin     version (1), secret (16 bytes), next shard, next layer, additions
//	2  shard     number, length of the key, key
//	3  records   addition, how many records, and each: Hi and Lo of the fingerprint
//	             (8 bytes each), shard (4 bytes), little-endian
//	4  layer     number, records, bytes, how many shards, and for each in ascending
//	             order: its number less that of the one before, its records
//	5  drop      number of a layer that is no more
//	6  gathered  addition: the records of all up to this one are in layers by now
//	7  dead      number of a shard that is no more
//
// The first entry of a journal is "begin", and only that one. It and the next ones
// are what was true when the journal was begun. Numbers of shards and of layers are
// never given twice; "begin" says from where on none was given. The records of a
// small shard stand in the journal at first, and are a small addition. They are
// numbered from 1 on in their order, which "records" leaves out with a 0; "begin"
// says how many there were so far. The records of a layer or an addition count if
// their shards are alive: named by a "shard" that no "dead" follows. A "shard" may
// name again, with the same key, one that is alive. The shares of a layer, which are
// how many of its records each shard has, are upper bounds, and are left out if the
// layer has more than 2^20 shards.
//
// A part of another kind is one of another version.
//
// The fingerprint of a multihash is SipHash-2-4 with 128 bits of all its bytes, keyed
// with the secret. Hi is its first 8 bytes as a little-endian number, Lo its last.
package inverted

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"sync"
	"sync/atomic"
	"time"

	"github.com/filecoin-project/dagstore/internal/files"
	"github.com/filecoin-project/dagstore/internal/journal"
)

// ErrDamaged is the error when the files of an index are not what was written. The
// way on is to make the index anew in another folder.
var ErrDamaged = errors.New("inverted index is damaged")

// ErrReadOnly is the error of changes to an index that was opened by OpenReader.
var ErrReadOnly = errors.New("inverted index was opened for reading")

// errClosed is the error of all calls after Close has begun.
var errClosed = fmt.Errorf("inverted index: %w", fs.ErrClosed)

// Options are what can be chosen when an index is opened.
type Options struct {
	FS files.FS // files.OS if nil

	sizes sizes // for tests
}

// sizes are where things change their way. Zeros mean the defaults.
type sizes struct {
	small     int           // records up to which an addition is small
	sorted    int           // fingerprints that one addition sorts at once
	gathered  int64         // records of small additions from which on they become a layer
	most      int           // layers from which on additions wait for merging
	journal   int64         // bytes from which on a journal is replaced, if it is mostly old
	pause     time.Duration // how long merging waits after a failure
	freshness time.Duration // how old what a reader knows may be
}

func (o Options) withDefaults() Options {
	if o.FS == nil {
		o.FS = files.OS
	}
	o.sizes.small = cmp.Or(o.sizes.small, 8192)
	o.sizes.sorted = cmp.Or(o.sizes.sorted, 1<<21)
	o.sizes.gathered = cmp.Or(o.sizes.gathered, 1<<17)
	o.sizes.most = cmp.Or(o.sizes.most, 4*crowded)
	o.sizes.journal = cmp.Or(o.sizes.journal, 16<<20)
	o.sizes.pause = cmp.Or(o.sizes.pause, time.Second)
	o.sizes.freshness = cmp.Or(o.sizes.freshness, 5*time.Millisecond)
	return o
}

// An Index tells which shards have a multihash. It is made by Open, OpenReader and
// InMemory. Its methods are safe for concurrent use. Look-ups wait for no change.
type Index struct {
	folder folder // fsys is nil if the index is in memory
	sizes  sizes
	follow *follower // of a reader, else nil
	log    *log      // of a writer with a folder, else nil
	merger *merger   // nil for a reader

	ctx    context.Context // ends when Close begins
	cancel context.CancelFunc
	calls  sync.WaitGroup // Add, Remove and Verify in progress
	keys   keyLock
	traffic

	view atomic.Pointer[view]

	mu        sync.Mutex // guards what follows, and makes changes of view follow each other; never held during I/O
	manifest  *manifest
	nextShard uint64 // as in the manifest, but for numbers given to additions in progress
	nextLayer uint64
	isClosed  bool

	close func() error
}

func newIndex(o Options, m *manifest) *Index {
	x := &Index{sizes: o.sizes, manifest: m, nextShard: m.nextShard, nextLayer: m.nextLayer}
	x.ctx, x.cancel = context.WithCancel(context.Background())
	x.close = sync.OnceValue(x.end)
	x.view.Store(newView(m, newGate()))
	return x
}

// InMemory returns an index without files. It is empty.
func InMemory(o Options) *Index {
	m := newManifest()
	m.secret = newSecret()
	m.begun = true
	x := newIndex(o.withDefaults(), m)
	x.startMerging()
	return x
}

// Open opens the index in a folder for writing, and makes folder and index if there
// are none. The error is folderlock.ErrLocked if another process, or another Index
// of this one, has it open for writing; ErrDamaged if its files are not what was
// written, after which none is missing; errors.ErrUnsupported if a newer version of
// this program has written them; or that of ctx.
func Open(ctx context.Context, dir string, o Options) (*Index, error) {
	o = o.withDefaults()
	x, err := openWriter(ctx, folder{o.FS, dir}, o)
	if err != nil {
		return nil, fmt.Errorf("open the inverted index in %s: %w", dir, asDamage(err))
	}
	x.startMerging()
	return x, nil
}

// OpenReader opens the index in a folder for reading, beside the process that
// writes. Look-ups see what the writer had done up to 5 milliseconds before they
// began. The error is fs.ErrNotExist if there is no index; ErrDamaged and
// errors.ErrUnsupported as with Open; or that of ctx.
func OpenReader(ctx context.Context, dir string, o Options) (*Index, error) {
	o = o.withDefaults()
	x := newIndex(o, newManifest())
	x.folder = folder{o.FS, dir}
	x.follow = newFollower(o.sizes.freshness)
	if err := x.beginAnew(ctx); err != nil {
		_ = x.Close() // of nothing
		return nil, fmt.Errorf("open the inverted index in %s: %w", dir, asDamage(err))
	}
	return x, nil
}

// Shards returns the keys of all shards, in the order in which they were added.
func (x *Index) Shards() ([]string, error) {
	v, p, err := x.enter()
	if err != nil {
		return nil, err
	}
	defer v.gate.Leave(p)
	var keys []string
	for _, key := range v.shards.all() {
		keys = append(keys, key)
	}
	return keys, nil
}

// begin begins a call that end ends. Its context ends when Close begins.
func (x *Index) begin(ctx context.Context) (bound context.Context, end func(), err error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.isClosed {
		return nil, nil, errClosed
	}
	x.calls.Add(1)
	bound, cancel := context.WithCancelCause(ctx)
	stop := context.AfterFunc(x.ctx, func() { cancel(errClosed) })
	return bound, func() {
		stop()
		cancel(nil)
		x.calls.Done()
	}, nil
}

// closed returns fs.ErrClosed once Close has begun.
func (x *Index) closed() error {
	if x.ctx.Err() != nil {
		return errClosed
	}
	return nil
}

// outcome is the error of a call with a context from begin.
func outcome(bound context.Context, err error) error {
	if err != nil && errors.Is(err, context.Canceled) && errors.Is(context.Cause(bound), errClosed) {
		return errClosed
	}
	return asDamage(err)
}

// asDamage makes damage of a journal or layer that of the index.
func asDamage(err error) error {
	if err != nil && !errors.Is(err, ErrDamaged) && isDamage(err) {
		return fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	return err
}

// Close ends all that is in progress: merging and changes are interrupted, look-ups
// are waited for, and so is an Add whose iterator does not return. Everything that
// was acknowledged is durable before. All calls wait for the first one.
func (x *Index) Close() error { return x.close() }

func (x *Index) end() error {
	x.mu.Lock()
	x.isClosed = true
	x.mu.Unlock()
	x.cancel()
	x.calls.Wait()
	if x.merger != nil {
		<-x.merger.ended
	}
	if x.follow != nil {
		x.follow.mu.Lock()
		defer x.follow.mu.Unlock()
	}
	v := x.view.Load()
	v.gate.Close()
	errs := []error{closeTables(v.tables)}
	if x.log != nil {
		errs = append(errs, x.log.close())
	}
	return errors.Join(errs...)
}

func closeTables(tables []*table) error {
	var errs []error
	for _, t := range tables {
		if t.layer != nil {
			errs = append(errs, t.layer.Close())
		}
	}
	return errors.Join(errs...)
}

// isDamage tells whether an error says that files are not what was written.
func isDamage(err error) bool {
	return errors.Is(err, journal.ErrDamaged) || isLayerDamage(err)
}
