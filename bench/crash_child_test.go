package bench

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"testing"

	leveldb "github.com/ipfs/go-ds-leveldb"

	"github.com/filecoin-project/dagstore"
	"github.com/filecoin-project/dagstore/index"
	"github.com/filecoin-project/dagstore/mount"
	"github.com/filecoin-project/dagstore/shard"
)

// A process with these variables works on the store in this folder until it is
// killed.
const (
	crashFolder = "DAGSTORE_CRASH_FOLDER"
	crashSeed   = "DAGSTORE_CRASH_SEED"
)

const (
	crashWorkers = 8
	crashShards  = 48
)

// What the child says of a shard: a line before each request and one after it.
const (
	registering = "registering"
	registered  = "registered" // and indexed
	recorded    = "recorded"   // registered lazily
	destroying  = "destroying"
	destroyed   = "destroyed"
)

func TestMain(m *testing.M) {
	if dir := os.Getenv(crashFolder); dir != "" {
		err := workUntilKilled(dir)
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	if path := os.Getenv(childCAR); path != "" {
		if err := handleInChild(path); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// crashKeys are not kind to file systems and datastores.
var crashKeys = []string{"shard-%d", "a/b/%d", "/abs/%d", "../%d", "%%2F%d", "\xff\x00%d"}

func crashKey(i int) shard.Key {
	return shard.KeyFromString(fmt.Sprintf(crashKeys[i%len(crashKeys)], i))
}

func crashCAR(dir string, i int) string { return filepath.Join(dir, "cars", strconv.Itoa(i)+".car") }

// A crashStore is a store and what it keeps on disk.
type crashStore struct {
	*dagstore.DAGStore
	records  *leveldb.Datastore
	indices  *index.FSIndexRepo
	topLevel *index.DatastoreInverted
}

func openCrashStore(dir string) (*crashStore, error) {
	records, err := leveldb.NewDatastore(filepath.Join(dir, "records"), nil)
	if err != nil {
		return nil, err
	}
	s := &crashStore{records: records, topLevel: index.NewInverted(records)}
	if s.indices, err = index.NewFSRepo(filepath.Join(dir, "indices")); err != nil {
		return nil, errors.Join(err, records.Close())
	}
	mounts := mount.NewRegistry()
	err = errors.Join(mounts.Register("file", &mount.FileMount{}), mounts.Register("remote", &remoteMount{}))
	if err != nil {
		return nil, errors.Join(err, records.Close())
	}
	s.DAGStore, err = dagstore.NewDAGStore(dagstore.Config{
		TransientsDir: filepath.Join(dir, "transients"),
		IndexRepo:     s.indices,
		TopLevelIndex: s.topLevel,
		Datastore:     records,
		MountRegistry: mounts,
	})
	if err != nil {
		return nil, errors.Join(err, records.Close())
	}
	if err := s.Start(context.Background()); err != nil {
		return nil, errors.Join(err, s.shut())
	}
	return s, nil
}

func (s *crashStore) shut() error { return errors.Join(s.Close(), s.records.Close()) }

func workUntilKilled(dir string) error {
	seed, err := strconv.ParseUint(os.Getenv(crashSeed), 10, 64)
	if err != nil {
		return err
	}
	s, err := openCrashStore(dir)
	if err != nil {
		return err
	}
	errs := make(chan error)
	var wg sync.WaitGroup
	for w := range crashWorkers {
		wg.Go(func() { errs <- s.work(dir, w, rand.New(rand.NewPCG(seed, uint64(w)))) })
	}
	return <-errs
}

// work registers, uses and destroys the shards of one worker for ever.
func (s *crashStore) work(dir string, worker int, r *rand.Rand) error {
	ctx := context.Background()
	for {
		i := worker + crashWorkers*r.IntN(crashShards/crashWorkers)
		key := crashKey(i)
		_, err := s.GetShardInfo(key)
		switch {
		case err != nil:
			err = s.register(dir, i, r.IntN(3) == 0)
		case r.IntN(2) == 0:
			var a *dagstore.ShardAccessor
			if a, err = dagstore.Acquire(ctx, s, key); err == nil {
				err = a.Close()
			}
		default:
			say(destroying, i)
			if err = dagstore.Destroy(ctx, s, key); err == nil {
				say(destroyed, i)
			}
		}
		if err != nil {
			return fmt.Errorf("shard %q: %w", key, err)
		}
	}
}

func (s *crashStore) register(dir string, i int, lazy bool) error {
	say(registering, i)
	mnt := &remoteMount{mount.FileMount{Path: crashCAR(dir, i)}}
	err := dagstore.Register(context.Background(), s, crashKey(i), mnt, dagstore.RegisterOpts{LazyInitialization: lazy})
	switch {
	case errors.Is(err, dagstore.ErrShardExists):
		return nil // the last process was killed while it destroyed it
	case err == nil && lazy:
		say(recorded, i)
	case err == nil:
		say(registered, i)
	}
	return err
}

// say writes one line at once; short writes to a pipe are not torn.
func say(what string, i int) { fmt.Fprintf(os.Stdout, "%s %d\n", what, i) }
