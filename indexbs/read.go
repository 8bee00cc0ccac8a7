package indexbs

import (
	"context"
	"errors"
	"fmt"
	"slices"

	blocks "github.com/ipfs/go-block-format"
	"github.com/ipfs/go-cid"
	ds "github.com/ipfs/go-datastore"
	ipld "github.com/ipfs/go-ipld-format"
	"github.com/multiformats/go-multihash"

	"github.com/filecoin-project/dagstore"
	"github.com/filecoin-project/dagstore/internal/fullindex"
	"github.com/filecoin-project/dagstore/internal/guard"
	"github.com/filecoin-project/dagstore/shard"
)

// A lender leases open shards: the cache, or a session that keeps some of them
// open for itself.
type lender interface {
	// usable returns ErrClosed once there are no leases any more.
	usable() error

	// likely returns, with a lease, the shard that the next block is likely to be
	// in; nil if there is none.
	likely() *entry

	// lease returns, with a lease, the entry of a shard, which is opened if need be.
	lease(ctx context.Context, key shard.Key) (*entry, error)

	// giveBack ends a lease and tells what came of it.
	giveBack(e *entry, o outcome)
}

// An outcome is what came of a lease; of several, the greatest counts.
type outcome int

const (
	idle   outcome = iota // the shard has served nothing
	served                // it has served a block
	failed                // it is broken, at least in part
)

// outcomeOf returns what an error says about the shard: nothing if it has not got
// the block, if the reader's context has ended, or if nobody could verify the
// block. A timeout of the mount is a failure, whatever error it is.
func outcomeOf(ctx context.Context, err error) outcome {
	switch {
	case err == nil:
		return served
	case isAbsent(err), ctx.Err() != nil, errors.Is(err, dagstore.ErrUnknownHash):
		return idle
	}
	return failed
}

// A request is a block that is wanted.
type request struct {
	cid      cid.Cid
	place    int         // among the CIDs of GetMany
	keys     []shard.Key // where it is still to be looked for
	tried    shard.Key   // a shard that was asked before the index was; empty if none
	failures []error     // of shards that should have it
}

// begin checks that a read can begin, and returns a request for the block.
func (b *IndexBackedBlockstore) begin(ctx context.Context, l lender, c cid.Cid) (*request, error) {
	if err := b.usable(ctx, l); err != nil {
		return nil, err
	}
	r := &request{cid: c}
	return r, r.check()
}

func (b *IndexBackedBlockstore) usable(ctx context.Context, l lender) error {
	if err := l.usable(); err != nil {
		return err
	}
	return ctx.Err()
}

func (r *request) check() error {
	if _, _, _, ok := fullindex.MultihashOf(r.cid); !ok {
		return errors.New("undefined cid, or cid without a multihash")
	}
	return nil
}

// canGuess tells whether a block may be looked for before the index is asked. A
// selector is to know all shards of a block. And the block of an identity CID is
// in every shard that is asked, but only the index knows whether it is stored.
func (b *IndexBackedBlockstore) canGuess(c cid.Cid) bool {
	return b.selector == nil && c.Prefix().MhType != multihash.IDENTITY
}

// locate asks the index for the shards of a block. There is at least one if it
// returns nil.
func (b *IndexBackedBlockstore) locate(ctx context.Context, r *request) error {
	keys, err := b.store.ShardsContainingMultihash(ctx, r.cid.Hash())
	return b.arrange(r, keys, err)
}

// arrange notes the shards that the index has for a block, the selected one in
// front. It returns the error of the block if there is none.
func (b *IndexBackedBlockstore) arrange(r *request, keys []shard.Key, err error) error {
	if err != nil && !isAbsent(err) {
		r.failures = append(r.failures, err)
		return r.err()
	}
	r.keys = slices.DeleteFunc(slices.Clone(keys), func(k shard.Key) bool { return k == r.tried })
	if len(r.keys) == 0 {
		return r.err()
	}
	if b.selector == nil {
		return nil
	}
	first, err := b.selected(r.cid, slices.Clone(r.keys))
	if errors.Is(err, ErrNoShardSelected) {
		return notFound(r.cid, err)
	}
	if err != nil {
		return fmt.Errorf("block %s: select shard: %w", r.cid, err)
	}
	r.remove(first)
	r.keys = slices.Insert(r.keys, 0, first)
	return nil
}

// selected asks the selector, whose panic is an error.
func (b *IndexBackedBlockstore) selected(c cid.Cid, keys []shard.Key) (_ shard.Key, err error) {
	defer guard.Recover(&err)
	return b.selector(c, keys)
}

func (r *request) remove(key shard.Key) {
	r.keys = slices.DeleteFunc(r.keys, func(k shard.Key) bool { return k == key })
}

// passOver notes that a shard did not give the block. That it is not there, or
// that there is no such shard, is no failure.
func (r *request) passOver(key shard.Key, err error) {
	if !isAbsent(err) {
		r.failures = append(r.failures, fmt.Errorf("shard %q: %w", key, err))
	}
}

// err returns the error for a block that none of its shards gave.
func (r *request) err() error {
	if len(r.failures) > 0 {
		return fmt.Errorf("block %s: %w", r.cid, errors.Join(r.failures...))
	}
	return notFound(r.cid, ErrBlockNotFound)
}

// fatal returns the error that ends a read, rather than letting it go on with the
// next shard.
func fatal(ctx context.Context, err error) error {
	switch {
	case err == nil:
		return nil
	case errors.As(err, new(viewedError)):
		return err
	case ctx.Err() != nil:
		return ctx.Err()
	case errors.Is(err, ErrClosed):
		return err
	}
	return nil
}

// read does something with one of the shards of a block, the first that does not
// fail.
func read[T any](
	ctx context.Context, b *IndexBackedBlockstore, l lender, c cid.Cid, do func(shardBlocks) (T, error),
) (T, error) {
	var zero T
	r, err := b.begin(ctx, l, c)
	if err != nil {
		return zero, err
	}
	if v, found, err := guess(ctx, b, l, r, do); found || err != nil {
		return v, err
	}
	if err := b.locate(ctx, r); err != nil {
		return zero, err
	}
	if b.selector == nil {
		b.cache.openFirst(r.keys)
	}
	for _, key := range r.keys {
		v, err := readShard(ctx, b, l, key, do)
		if err == nil {
			return v, nil
		}
		if err := fatal(ctx, err); err != nil {
			return zero, err
		}
		r.passOver(key, err)
	}
	return zero, r.err()
}

// guess reads a block from the shard that it is likely to be in. Found is false
// if that has not got it, or failed. The error is one that ends the read.
func guess[T any](
	ctx context.Context, b *IndexBackedBlockstore, l lender, r *request, do func(shardBlocks) (T, error),
) (v T, found bool, err error) {
	if !b.canGuess(r.cid) {
		return v, false, nil
	}
	e := l.likely()
	if e == nil {
		return v, false, nil
	}
	if v, err = readEntry(ctx, b, l, e, do); err == nil {
		return v, true, nil
	}
	r.tried = e.key
	r.passOver(e.key, err)
	return v, false, fatal(ctx, err)
}

func readShard[T any](
	ctx context.Context, b *IndexBackedBlockstore, l lender, key shard.Key, do func(shardBlocks) (T, error),
) (T, error) {
	e, err := l.lease(ctx, key)
	if err != nil {
		var zero T
		return zero, err
	}
	return readEntry(ctx, b, l, e, do)
}

// readEntry uses a lease and ends it.
func readEntry[T any](
	ctx context.Context, b *IndexBackedBlockstore, l lender, e *entry, do func(shardBlocks) (T, error),
) (v T, err error) {
	o := idle // what it is if do panics, as a user's View may
	defer func() { l.giveBack(e, o) }()
	e.blocks.HashOnRead(b.verify.Load())
	v, err = do(e.blocks)
	o = outcomeOf(ctx, err)
	return v, err
}

func get(ctx context.Context, b *IndexBackedBlockstore, l lender, c cid.Cid) (blocks.Block, error) {
	return read(ctx, b, l, c, func(bs shardBlocks) (blocks.Block, error) { return bs.Get(ctx, c) })
}

func getSize(ctx context.Context, b *IndexBackedBlockstore, l lender, c cid.Cid) (int, error) {
	return read(ctx, b, l, c, func(bs shardBlocks) (int, error) { return bs.GetSize(ctx, c) })
}

// A viewedError is that of a shard which failed after it had shown the block. The
// read does not go on with another shard, since a viewer is called once.
type viewedError struct{ error }

func (e viewedError) Unwrap() error { return e.error }

func view(ctx context.Context, b *IndexBackedBlockstore, l lender, c cid.Cid, f func([]byte) error) error {
	answer, err := read(ctx, b, l, c, func(bs shardBlocks) (answer error, err error) {
		called := false
		err = bs.View(ctx, c, func(p []byte) error {
			called = true
			answer = f(p)
			return nil
		})
		if called && err != nil {
			return nil, viewedError{err}
		}
		return answer, err
	})
	if err != nil {
		return err
	}
	return answer
}

// isAbsent tells errors that say that there is no such block or shard from those
// that say that something is broken.
func isAbsent(err error) bool {
	return ipld.IsNotFound(err) || errors.Is(err, ErrBlockNotFound) ||
		errors.Is(err, ds.ErrNotFound) || errors.Is(err, dagstore.ErrShardUnknown)
}

func notFound(c cid.Cid, reason error) error {
	if errors.Is(reason, ErrBlockNotFound) {
		return fmt.Errorf("%w: %w", reason, ipld.ErrNotFound{Cid: c})
	}
	return fmt.Errorf("%w: %w: %w", ErrBlockNotFound, reason, ipld.ErrNotFound{Cid: c})
}
