// Package indexbuild makes full indices, the format car-multihash-index-sorted
// (codec 0x0401), out of records that come one by one and in any order, in
// bounded memory.
//
// A [Builder] keeps the records of each bucket (one multihash code and one digest
// length) together. Those of a large bucket are in 256 parts, one for each first
// byte of a digest; they get there by some hundred at a time. To write, the parts
// are sorted by counting, one after the other, each as small as a processor's
// cache. Little more memory is needed than what the records take.
//
// When the [Budget] has no more memory, the builder writes what it has as a
// sorted run to a temporary file and begins anew. In the end the runs are merged.
package indexbuild
