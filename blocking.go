package dagstore

import (
	"context"
	"errors"
	"fmt"

	blocks "github.com/ipfs/go-block-format"
	"github.com/ipfs/go-cid"
	ds "github.com/ipfs/go-datastore"
	ipld "github.com/ipfs/go-ipld-format"

	"github.com/filecoin-project/dagstore/internal/guard"
	"github.com/filecoin-project/dagstore/mount"
	"github.com/filecoin-project/dagstore/shard"
)

// Register is RegisterShard that waits for the result: the shard is indexed, or
// with LazyInitialization recorded, when it returns nil. When ctx ends first it
// returns the error of ctx, and the registration goes on. A ctx that has ended
// before asks for nothing.
func Register(ctx context.Context, d Interface, key shard.Key, mnt mount.Mount, opts RegisterOpts) error {
	_, err := awaitResult(ctx, func(out chan ShardResult) error { return d.RegisterShard(ctx, key, mnt, out, opts) })
	return err
}

// Acquire is AcquireShard that waits for the accessor, which the caller closes.
// When ctx ends first it returns the error of ctx, and the shard is not held.
func Acquire(ctx context.Context, d Interface, key shard.Key) (*ShardAccessor, error) {
	a, err := awaitResult(ctx, func(out chan ShardResult) error { return d.AcquireShard(ctx, key, out, AcquireOpts{}) })
	if err == nil && a == nil {
		return nil, fmt.Errorf("acquire shard %q: the store gave no accessor", key)
	}
	return a, err
}

// Recover is RecoverShard that waits for the result. When ctx ends first it
// returns the error of ctx, and the recovery goes on.
func Recover(ctx context.Context, d Interface, key shard.Key) error {
	_, err := awaitResult(ctx, func(out chan ShardResult) error { return d.RecoverShard(ctx, key, out, RecoverOpts{}) })
	return err
}

// Destroy is DestroyShard that waits for the result. When ctx ends first it
// returns the error of ctx, and the shard may be destroyed all the same.
func Destroy(ctx context.Context, d Interface, key shard.Key) error {
	_, err := awaitResult(ctx, func(out chan ShardResult) error { return d.DestroyShard(ctx, key, out, DestroyOpts{}) })
	return err
}

// GetBlock reads one block from any shard that has it. Shards that fail are
// passed over. If no shard has the block, the error is go-ipld-format's
// ErrNotFound; if shards that should have it failed, it is theirs. The shard is
// opened for this block alone: to read many, use package indexbs or [Acquire].
func GetBlock(ctx context.Context, d Interface, c cid.Cid) (blocks.Block, error) {
	if !c.Defined() {
		return nil, errors.New("get block: undefined cid")
	}
	keys, err := d.ShardsContainingMultihash(ctx, c.Hash())
	if err != nil && !errors.Is(err, ds.ErrNotFound) {
		return nil, fmt.Errorf("get block %s: %w", c, err)
	}
	var failures []error
	for _, key := range keys {
		b, err := blockOf(ctx, d, key, c)
		switch {
		case err == nil:
			return b, nil
		case ctx.Err() != nil:
			return nil, ctx.Err()
		case ipld.IsNotFound(err), errors.Is(err, ErrShardUnknown):
		default:
			failures = append(failures, fmt.Errorf("shard %q: %w", key, err))
		}
	}
	if len(failures) > 0 {
		return nil, fmt.Errorf("get block %s: %w", c, errors.Join(failures...))
	}
	return nil, ipld.ErrNotFound{Cid: c}
}

func blockOf(ctx context.Context, d Interface, key shard.Key, c cid.Cid) (blocks.Block, error) {
	a, err := Acquire(ctx, d, key)
	if err != nil {
		return nil, err
	}
	defer a.abandon()
	bs, err := a.Blockstore()
	if err != nil {
		return nil, err
	}
	return bs.Get(ctx, c)
}

// awaitResult makes a request and waits for its result. The channel has no buffer, so
// that a result is either received here or stays the store's, which drops it
// when ctx ends. The request runs beside, since stores put in the place of a
// DAGStore may send before they return.
func awaitResult(ctx context.Context, request func(out chan ShardResult) error) (*ShardAccessor, error) {
	if ctx == nil {
		return nil, errNilContext
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	out := make(chan ShardResult)
	refused := make(chan error, 1)
	returned := make(chan struct{})
	go func() {
		defer close(returned)
		err := errEnded
		defer func() {
			if err != nil {
				refused <- err
			}
		}()
		err = guard.Call(func() error { return request(out) })
	}()
	select {
	case res := <-out:
		return res.Accessor, res.Error
	case err := <-refused:
		return nil, err
	case <-ctx.Done():
		go dropUntil(returned, out)
		return nil, ctx.Err()
	}
}

// dropUntil drops what is sent on out until the request has returned, so that
// one that sends before it returns is not stuck.
func dropUntil(returned <-chan struct{}, out <-chan ShardResult) {
	for {
		select {
		case res := <-out:
			drop(res)
		case <-returned:
			return
		}
	}
}
