package dagstore_test

import (
	"context"
	"fmt"
	"io"
	"log"
	"os"
	"path/filepath"

	"github.com/ipfs/go-cid"
	ds "github.com/ipfs/go-datastore"
	dssync "github.com/ipfs/go-datastore/sync"

	"github.com/filecoin-project/dagstore"
	"github.com/filecoin-project/dagstore/index"
	"github.com/filecoin-project/dagstore/mount"
	"github.com/filecoin-project/dagstore/shard"
)

// exampleStore returns a started store, and what ends it.
func exampleStore(tweaks ...func(*dagstore.Config)) (*dagstore.DAGStore, func()) {
	dir, err := os.MkdirTemp("", "dagstore-example")
	if err != nil {
		log.Fatal(err)
	}
	registry := mount.NewRegistry()
	if err := registry.Register("file", &mount.FileMount{}); err != nil {
		log.Fatal(err)
	}
	indices, err := index.NewFSRepo(filepath.Join(dir, "index"))
	if err != nil {
		log.Fatal(err)
	}
	config := dagstore.Config{
		TransientsDir: filepath.Join(dir, "transients"),
		IndexRepo:     indices,
		Datastore:     dssync.MutexWrap(ds.NewMapDatastore()), // use one that is on disk
		MountRegistry: registry,
	}
	for _, tweak := range tweaks {
		tweak(&config)
	}
	store, err := dagstore.NewDAGStore(config)
	if err != nil {
		log.Fatal(err)
	}
	if err := store.Start(context.Background()); err != nil {
		log.Fatal(err)
	}
	return store, func() {
		_ = store.Close()
		_ = os.RemoveAll(dir)
	}
}

// Register a CAR file, and read a block of it by its CID.
func Example() {
	store, end := exampleStore()
	defer end()
	ctx := context.Background()

	key := shard.KeyFromString("wikipedia")
	car := &mount.FileMount{Path: "testdata/wikipedia-cryptographic-hash-function.car"}
	if err := dagstore.Register(ctx, store, key, car, dagstore.RegisterOpts{}); err != nil {
		log.Fatal(err)
	}
	info, _ := store.GetShardInfo(key)
	fmt.Println(info.ShardState)

	accessor, err := dagstore.Acquire(ctx, store, key)
	if err != nil {
		log.Fatal(err)
	}
	defer accessor.Close()
	blockstore, err := accessor.Blockstore()
	if err != nil {
		log.Fatal(err)
	}
	keys, err := blockstore.AllKeysChan(ctx)
	if err != nil {
		log.Fatal(err)
	}
	var all []cid.Cid
	for c := range keys {
		all = append(all, c)
	}
	block, err := dagstore.GetBlock(ctx, store, all[0])
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(len(all), "blocks; one has", len(block.RawData()), "bytes")
	// Output:
	// ShardStateAvailable
	// 5 blocks; one has 664 bytes
}

// The same with channels: the call returns at once, and the result comes later.
func ExampleDAGStore_RegisterShard() {
	store, end := exampleStore()
	defer end()

	results := make(chan dagstore.ShardResult)
	err := store.RegisterShard(context.Background(), shard.KeyFromString("sample"),
		&mount.FileMount{Path: "testdata/sample-v1.car"}, results, dagstore.RegisterOpts{LazyInitialization: true})
	if err != nil {
		log.Fatal(err)
	}
	res := <-results
	fmt.Println(res.Key, res.Error, store.Stats())
	// Output: sample <nil> map[ShardStateNew:1]
}

// An accessor reads the whole shard, too.
func ExampleShardAccessor_Reader() {
	file, err := os.Open("testdata/sample-v1.car")
	if err != nil {
		log.Fatal(err)
	}
	accessor, err := dagstore.NewShardAccessor(file, nil, nil)
	if err != nil {
		log.Fatal(err)
	}
	defer accessor.Close()
	n, err := io.Copy(io.Discard, accessor.Reader())
	fmt.Println(n, err)
	// Output: 479907 <nil>
}

// GC removes local copies that nobody uses. Shards without one are listed too.
func ExampleDAGStore_GC() {
	store, end := exampleStore()
	defer end()
	ctx := context.Background()

	key := shard.KeyFromString("sample")
	err := dagstore.Register(ctx, store, key, &mount.FileMount{Path: "testdata/sample-v1.car"}, dagstore.RegisterOpts{})
	if err != nil {
		log.Fatal(err)
	}
	res, err := store.GC(ctx)
	fmt.Println(len(res.Shards), res.ShardFailures(), err)
	// Output: 1 0 <nil>
}

// A shard that fails is recovered at once, here twice in a row at most.
func ExampleRecoverImmediately() {
	failures := make(chan dagstore.ShardResult)
	store, end := exampleStore(func(c *dagstore.Config) { c.FailureCh = failures })
	defer end()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go dagstore.RecoverImmediately(ctx, store, failures, 2, func() { close(done) })

	missing := &mount.FileMount{Path: "testdata/no-such-file.car"}
	err := dagstore.Register(ctx, store, shard.KeyFromString("missing"), missing, dagstore.RegisterOpts{})
	fmt.Println(err != nil)

	cancel()
	<-done
	// Output: true
}
