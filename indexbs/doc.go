// Package indexbs is a read-only blockstore over all shards of a dagstore: it
// finds the shards of a block in the top-level index and reads it from one of
// them. Shards stay open for some time after a read, since the next block is
// likely to be in the same shard.
package indexbs
