package index

import (
	"context"
	"errors"
	"fmt"

	carindex "github.com/ipld/go-car/v2/index"
	"github.com/multiformats/go-multihash"

	"github.com/filecoin-project/dagstore/internal/folderlock"
	"github.com/filecoin-project/dagstore/internal/inverted"
	"github.com/filecoin-project/dagstore/shard"
)

// RebuildFSInverted makes the index in a folder anew from the full indices of a
// repository, beside the present one, which serves readers meanwhile, and then puts
// it in its place. Nobody may have the index open for writing. Progress, unless
// nil, is called with how many shards of how many are done.
//
// When it is interrupted, by ctx or by a crash, the next call goes on where it
// was. A full index that is damaged, or does not tell its multihashes, is left out:
// its shard is named in the error, which comes when all the others are done and in
// place.
func RebuildFSInverted(ctx context.Context, dir string, repo FullIndexRepo, progress func(done, all int)) error {
	unlock, err := folderlock.Lock(dir)
	if err != nil {
		return fmt.Errorf("rebuild the top-level index in %s: %w", dir, err)
	}
	left, err := rebuild(ctx, dir, repo, progress)
	if err = errors.Join(err, unlock()); err != nil {
		return fmt.Errorf("rebuild the top-level index in %s: %w", dir, err)
	}
	if left != nil {
		return fmt.Errorf("rebuilt the top-level index in %s, but for: %w", dir, left)
	}
	return nil
}

func rebuild(ctx context.Context, dir string, repo FullIndexRepo, progress func(done, all int)) (left, err error) {
	current, err := currentGeneration(dir)
	if err != nil {
		current = newestGeneration(dir)
	}
	next := max(newestGeneration(dir), current+1)
	engine, err := inverted.Open(ctx, generationFolder(dir, next), inverted.Options{})
	if errors.Is(err, inverted.ErrDamaged) {
		next++
		engine, err = inverted.Open(ctx, generationFolder(dir, next), inverted.Options{})
	}
	if err != nil {
		return nil, err
	}
	left, err = fill(ctx, engine, repo, progress)
	if err = errors.Join(err, engine.Close()); err != nil {
		return nil, err
	}
	if err := switchTo(dir, next); err != nil {
		return nil, err
	}
	sweepGenerations(dir, next)
	return left, nil
}

// fill adds the shards of a repository that an index lacks, and removes those that
// the repository lacks. Left says which could not be added, and why.
func fill(ctx context.Context, engine *inverted.Index, repo FullIndexRepo, progress func(done, all int)) (left, err error) {
	keys := map[string]bool{}
	err = repo.ForEach(func(key shard.Key) (bool, error) {
		keys[key.String()] = true
		return true, ctx.Err()
	})
	if err != nil {
		return nil, err
	}
	held, err := engine.Shards()
	if err != nil {
		return nil, err
	}
	all, done := len(keys), 0
	for _, key := range held {
		if keys[key] {
			done++
		} else if err := engine.Remove(ctx, key); err != nil {
			return nil, err
		}
		delete(keys, key)
	}
	var failures []error
	for key := range keys {
		if err := addFrom(ctx, engine, repo, shard.KeyFromString(key)); err != nil {
			if ctx.Err() != nil || !errors.Is(err, errNotAdded) {
				return nil, err
			}
			failures = append(failures, err)
		}
		done++
		if progress != nil {
			progress(done, all)
		}
	}
	return errors.Join(failures...), nil
}

// errNotAdded tells what is wrong with one shard from what is wrong with all.
var errNotAdded = errors.New("its full index cannot be used")

func addFrom(ctx context.Context, engine *inverted.Index, repo FullIndexRepo, key shard.Key) error {
	idx, err := repo.GetFullIndex(key)
	if err != nil {
		return fmt.Errorf("shard %q: %w: %w", key, errNotAdded, err)
	}
	if r, ok := idx.(Releaser); ok {
		defer r.Release()
	}
	if v, ok := idx.(Verifier); ok {
		if err := v.Verify(ctx); err != nil {
			return fmt.Errorf("shard %q: %w: %w", key, errNotAdded, err)
		}
	}
	multihashes, err := multihashesOf(idx)
	if err != nil {
		return fmt.Errorf("shard %q: %w: %w", key, errNotAdded, err)
	}
	return engine.Add(ctx, key.String(), multihashes)
}

// multihashesOf returns a function that visits the multihashes of a full index.
func multihashesOf(idx carindex.Index) (func(visit func(mh []byte) error) error, error) {
	switch idx := idx.(type) {
	case RecordIterator:
		return func(visit func(mh []byte) error) error { return eachRecord(idx, visit) }, nil
	case carindex.IterableIndex:
		return func(visit func(mh []byte) error) error {
			return idx.ForEach(func(h multihash.Multihash, _ uint64) error { return visit(h) })
		}, nil
	}
	return nil, errors.New("it does not tell its multihashes")
}
