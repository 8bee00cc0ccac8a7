// Package indexbuild makes full indices, the format car-multihash-index-sorted
// (codec 0x0401), out of records that come one by one and in any order, in
// bounded memory.
//
// A [Builder] keeps the records of each bucket (one multihash code and one
// digest length) in blocks of 64 KiB. A block that is full is put in the order
// of the first byte of its digests, while it is still in the cache. To write,
// the records that share a first byte are gathered from all blocks and sorted
// by counting: memory is read and written in order, and little more is needed
// than what the records take.
//
// When the [Budget] has no more memory, the builder writes what it has as a
// sorted run to a temporary file and begins anew. In the end the runs are merged.
package indexbuild
