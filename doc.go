// Package dagstore is a store of DAGs that live in CAR files.
//
// Each CAR is a shard, registered under a key. The store reads it through a
// mount, fetches it into a local file if it cannot be read at random where it
// is, indexes it, keeps its state across restarts, and hands out accessors:
//
//	registry := mount.NewRegistry()
//	_ = registry.Register("file", &mount.FileMount{})
//	store, err := dagstore.NewDAGStore(dagstore.Config{
//		TransientsDir: "/var/lib/dags/transients",
//		Datastore:     records,
//		MountRegistry: registry,
//	})
//	...
//	err = store.Start(ctx)
//	...
//	err = dagstore.Register(ctx, store, key, &mount.FileMount{Path: "/data/a.car"}, dagstore.RegisterOpts{})
//	...
//	block, err := dagstore.GetBlock(ctx, store, c)
//
// # Two forms
//
// The methods of [DAGStore] that take a channel return at once and send one
// result later. The functions [Register], [Acquire], [Recover], [Destroy] and
// [GetBlock] wait for it. Both mix freely.
//
// # Shards
//
// A shard is New, then Initializing while it is fetched and indexed, then
// Available, and Serving while accessors are open. If that fails it is Errored,
// until it is recovered. A shard registered with LazyInitialization stays New
// until it is first acquired. See [ShardState].
//
// # Concurrency
//
// Everything is safe for concurrent use. No caller, however slow, delays another
// or the store: channels may be unbuffered, shared, or never read. The context
// of a call bounds that call's wait and nothing else; when it ends first, no
// result is sent, and nothing is held for the caller.
//
// # Durability
//
// When a result was sent, it stays true after a crash, if the store has a
// Datastore whose Sync is one. Acquiring and closing write nothing.
//
// # Robustness
//
// Panics of mounts, indexers, datastores and index repositories become errors
// of the shard concerned. CARs, indices, records, URLs and keys are checked
// before they are believed; the index that a CARv2 brings along is not used. A
// file that is truncated while it is mapped gives errors, not a dead process.
package dagstore
