package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	ds "github.com/ipfs/go-datastore"
	leveldb "github.com/ipfs/go-ds-leveldb"

	"github.com/filecoin-project/dagstore"
	"github.com/filecoin-project/dagstore/index"
	"github.com/filecoin-project/dagstore/mount"
	"github.com/filecoin-project/dagstore/shard"
)

// A library is a store in a folder, whose shards are files of this machine. The
// key of a shard is the absolute path of its file.
type library struct {
	store   *dagstore.DAGStore
	records *leveldb.Datastore // of the store, and the stamps
}

// openLibrary opens the library in a folder, which it makes if it is missing.
func openLibrary(ctx context.Context, folder string) (_ *library, err error) {
	if err := os.MkdirAll(folder, 0o755); err != nil {
		return nil, err
	}
	records, err := leveldb.NewDatastore(filepath.Join(folder, "records"), nil)
	if err != nil {
		return nil, fmt.Errorf("%w (one process at a time can use a store)", err)
	}
	l := &library{records: records}
	defer func() {
		if err != nil {
			err = errors.Join(err, l.close())
		}
	}()
	indices, err := index.NewFSRepo(filepath.Join(folder, "index"))
	if err != nil {
		return nil, err
	}
	registry := mount.NewRegistry()
	if err := registry.Register("file", &mount.FileMount{}); err != nil {
		return nil, err
	}
	l.store, err = dagstore.NewDAGStore(dagstore.Config{
		TransientsDir: filepath.Join(folder, "transients"),
		IndexRepo:     indices,
		TopLevelDir:   filepath.Join(folder, "toplevel"),
		Datastore:     records,
		MountRegistry: registry,
	})
	if err != nil {
		return nil, err
	}
	return l, l.store.Start(ctx)
}

// close closes the store, and then what it stands on.
func (l *library) close() error {
	var err error
	if l.store != nil {
		err = l.store.Close()
	}
	return errors.Join(err, l.records.Close())
}

// add makes the file at path a shard, unless it is one already, and says what
// it had to do.
func (l *library) add(ctx context.Context, path string) (done string, err error) {
	file, err := os.Stat(path)
	if err != nil {
		return "", err
	}
	key := shard.KeyFromString(path)
	info, err := l.store.GetShardInfo(key)
	if errors.Is(err, dagstore.ErrShardUnknown) {
		return "registered", l.register(ctx, path, file)
	}
	if err != nil {
		return "", err
	}
	same, err := l.stamped(ctx, path, file)
	if err != nil {
		return "", err
	}
	if !same {
		if err := dagstore.Destroy(ctx, l.store, key); err != nil {
			return "", err
		}
		return "changed, registered anew", l.register(ctx, path, file)
	}
	if info.ShardState == dagstore.ShardStateErrored {
		return "recovered", dagstore.Recover(ctx, l.store, key)
	}
	return "reused", nil
}

// register stamps first: a stamp without a shard does no harm, but a shard
// without its stamp would be registered anew by the next run.
func (l *library) register(ctx context.Context, path string, file os.FileInfo) error {
	if err := l.records.Put(ctx, stampKey(path), stamp(file)); err != nil {
		return err
	}
	return dagstore.Register(ctx, l.store, shard.KeyFromString(path), &mount.FileMount{Path: path}, dagstore.RegisterOpts{})
}

// stamped tells whether the file is the one that was registered.
func (l *library) stamped(ctx context.Context, path string, file os.FileInfo) (bool, error) {
	old, err := l.records.Get(ctx, stampKey(path))
	if errors.Is(err, ds.ErrNotFound) {
		return false, nil
	}
	return string(old) == string(stamp(file)), err
}

// stampKey is where the stamp of a file is kept, beside the store's own records.
func stampKey(path string) ds.Key { return ds.NewKey("files").Child(ds.NewKey(path)) }

// stamp is the size and the modification time of a file, by which a change is
// noticed.
func stamp(file os.FileInfo) []byte {
	return fmt.Appendf(nil, "%d %d", file.Size(), file.ModTime().UnixNano())
}
