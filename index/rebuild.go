package index

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	carindex "github.com/ipld/go-car/v2/index"
	"github.com/multiformats/go-multihash"

	"github.com/filecoin-project/dagstore/internal/files"
	"github.com/filecoin-project/dagstore/internal/folderlock"
	"github.com/filecoin-project/dagstore/internal/inverted"
	"github.com/filecoin-project/dagstore/shard"
)

// RebuildFSInverted makes the index in a folder anew from the full indices of a
// repository, beside the present one, which serves readers meanwhile, and then puts
// it in its place. Nobody may have the index open for writing. Progress, unless
// nil, is called with how many shards of how many are done.
//
// When it is interrupted, by ctx, an error or a crash, the next call goes on where it
// was, unless the index was opened for writing meanwhile. A full index that is
// missing, damaged, or does not tell its multihashes is left out: its shard is named
// in the error, which comes when all the others are done and in place. Shards are in
// the order of their keys, since nobody knows that of their registration.
func RebuildFSInverted(ctx context.Context, dir string, repo FullIndexRepo, progress func(done, all int)) error {
	return rebuildFSInverted(ctx, generations{files.OS, dir}, repo, progress)
}

func rebuildFSInverted(ctx context.Context, folder generations, repo FullIndexRepo, progress func(done, all int)) error {
	unlock, err := folderlock.Lock(folder.dir)
	if err != nil {
		return fmt.Errorf("rebuild the top-level index in %s: %w", folder.dir, err)
	}
	left, err := rebuild(ctx, folder, repo, progress)
	if err = errors.Join(err, unlock()); err != nil {
		return fmt.Errorf("rebuild the top-level index in %s: %w", folder.dir, err)
	}
	if left != nil {
		return fmt.Errorf("rebuilt the top-level index in %s, but for: %w", folder.dir, left)
	}
	return nil
}

func rebuild(ctx context.Context, folder generations, repo FullIndexRepo, progress func(done, all int)) (left, err error) {
	engine, next, err := openNext(ctx, folder)
	if err != nil {
		return nil, err
	}
	left, err = fill(ctx, engine, repo, progress)
	if err = errors.Join(err, engine.Close()); err != nil {
		return nil, err
	}
	if err := folder.switchTo(generation{number: next}); err != nil {
		return nil, err
	}
	folder.sweep(next)
	return left, nil
}

// openNext opens the generation after the current one: what an earlier call has left
// of it, or a new one. Where there is none yet, an empty one becomes current, so that
// the next call can tell what it finds.
func openNext(ctx context.Context, folder generations) (engine *inverted.Index, number int, err error) {
	current, damage := folder.current()
	if damage != nil && !errors.Is(damage, ErrDamaged) {
		return nil, 0, damage
	}
	if damage == nil && current.number == 0 {
		current = generation{1, true}
		empty, err := folder.begin(ctx, current)
		if err == nil {
			err = empty.Close()
		}
		if err != nil {
			return nil, 0, err
		}
	}
	if number, err = folder.newest(); err != nil {
		return nil, 0, err
	}
	if damage != nil || number <= current.number {
		number++
	}
	engine, err = folder.open(ctx, number)
	if errors.Is(err, ErrDamaged) {
		number++
		engine, err = folder.open(ctx, number)
	}
	return engine, number, err
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
	tell := func() {
		if progress != nil {
			progress(done, all)
		}
	}
	tell()
	var failures []error
	for _, key := range slices.Sorted(maps.Keys(keys)) {
		err := addFrom(ctx, engine, repo, shard.KeyFromString(key))
		if err != nil && !isLeftOut(err) {
			return nil, err
		}
		if err != nil {
			failures = append(failures, err)
		}
		done++
		tell()
	}
	return errors.Join(failures...), nil
}

var errTellsNothing = errors.New("it does not tell its multihashes")

// isLeftOut tells what is wrong with the full index of one shard from what may be
// wrong with all.
func isLeftOut(err error) bool {
	return errors.Is(err, ErrDamaged) || errors.Is(err, ErrNotFound) || errors.Is(err, errTellsNothing)
}

func addFrom(ctx context.Context, engine *inverted.Index, repo FullIndexRepo, key shard.Key) error {
	idx, err := repo.GetFullIndex(key)
	if err != nil {
		return fmt.Errorf("full index of shard %q: %w", key, err)
	}
	if r, ok := idx.(Releaser); ok {
		defer r.Release()
	}
	if v, ok := idx.(Verifier); ok {
		if err := v.Verify(ctx); err != nil {
			return fmt.Errorf("full index of shard %q: %w", key, err)
		}
	}
	multihashes, err := multihashesOf(idx)
	if err == nil {
		err = engine.Add(ctx, key.String(), multihashes)
	}
	if err != nil {
		return fmt.Errorf("full index of shard %q: %w", key, err)
	}
	return nil
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
	return nil, errTellsNothing
}
