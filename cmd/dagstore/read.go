package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/ipfs/go-cid"
	"github.com/multiformats/go-multihash"

	"github.com/filecoin-project/dagstore"
	"github.com/filecoin-project/dagstore/shard"
)

// An outcome is what was found in one file.
type outcome struct {
	name       string // as the caller gave it
	done       string // to have it in the store
	state      string // of the shard in the end
	blocks     int
	bytes      int64 // in the blocks
	mismatches int   // blocks that are not what their CIDs say
	took       time.Duration
	err        error // why not all blocks were read
}

func (o outcome) good() bool { return o.err == nil && o.mismatches == 0 }

// readAll reads files through the store in a folder. The outcomes are in the
// order of the names, without repetitions; when ctx ends, files that were not
// begun are left out. The error is the store's or that of ctx.
func readAll(ctx context.Context, folder string, names []string, stderr io.Writer) (_ []outcome, err error) {
	l, err := openLibrary(ctx, folder)
	if err != nil {
		return nil, fmt.Errorf("store in %s: %w", folder, err)
	}
	defer func() { err = errors.Join(err, l.close()) }()
	bar := newProgress(stderr, names)
	defer bar.finish()
	var outcomes []outcome
	var paths []string
	for _, name := range names {
		path, err := filepath.Abs(name)
		if err != nil {
			return outcomes, err
		}
		if slices.Contains(paths, path) {
			continue
		}
		if ctx.Err() != nil {
			return outcomes, ctx.Err()
		}
		paths = append(paths, path)
		outcomes = append(outcomes, l.read(ctx, name, path, bar))
	}
	return outcomes, ctx.Err()
}

// read reads one file.
func (l *library) read(ctx context.Context, name, path string, bar *progress) outcome {
	began := time.Now()
	o := outcome{name: name}
	bar.begin(name)
	o.done, o.err = l.add(ctx, path)
	o.state = l.state(path) // before it is acquired, since it is released some time after
	if o.err == nil {
		if o.err = l.verify(ctx, shard.KeyFromString(path), &o, bar); o.err != nil {
			o.state = l.state(path)
		}
	}
	o.took = time.Since(began)
	return o
}

// state is where the shard of a file stands, in a word.
func (l *library) state(path string) string {
	info, err := l.store.GetShardInfo(shard.KeyFromString(path))
	if err != nil {
		return "none"
	}
	return strings.ToLower(strings.TrimPrefix(info.String(), "ShardState"))
}

// verify reads all blocks of a shard and counts them in o.
func (l *library) verify(ctx context.Context, key shard.Key, o *outcome, bar *progress) (err error) {
	accessor, err := dagstore.Acquire(ctx, l.store, key)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, accessor.Close()) }()
	blockstore, err := accessor.Blockstore()
	if err != nil {
		return err
	}
	blockstore.HashOnRead(true)
	index, err := l.store.GetIterableIndex(key) // which reports damage, as AllKeysChan cannot
	if err != nil {
		return err
	}
	var last multihash.Multihash
	return index.ForEach(func(mh multihash.Multihash, _ uint64) error {
		if bytes.Equal(mh, last) { // a block that the file has twice
			return nil
		}
		last = bytes.Clone(mh)
		return o.readBlock(ctx, blockstore, cid.NewCidV1(cid.Raw, last), bar)
	})
}

// readBlock reads one block and counts it.
func (o *outcome) readBlock(ctx context.Context, bs dagstore.ReadBlockstore, c cid.Cid, bar *progress) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	size, err := bs.GetSize(ctx, c)
	if err != nil {
		return err
	}
	_, err = bs.Get(ctx, c)
	if errors.Is(err, dagstore.ErrHashMismatch) {
		o.mismatches++
	} else if err != nil {
		return err
	}
	o.blocks++
	o.bytes += int64(size)
	bar.add(size)
	return nil
}

// oneLine is the reason of an error, without control characters.
func oneLine(err error) string {
	return printable(strings.ReplaceAll(err.Error(), "\n", "; "))
}
