// Package indexbs is a read-only blockstore over all shards of a dagstore: it
// finds the shards of a block in the top-level index and reads it from one of
// them; if that fails, from another. Shards stay open for some time after a read,
// since the next block is likely to be in the same shard.
//
// Whoever knows which blocks are wanted should ask for them together, with
// GetMany: the index is asked once, few shards are opened, and each is read from
// front to back.
//
// Whoever walks through a DAG should do so in a [Session]. It asks the shard that
// gave the last block before it asks the index, and keeps the ten shards open
// that it used last, whatever others read meanwhile:
//
//	session := blockstore.NewSession(ctx) // ends with ctx, or Close
//	defer session.Close()
//	block, err := session.Get(ctx, root)
//
// View, of both, lends the bytes of a block instead of copying them.
package indexbs
