// Package layer is one immutable file of the top-level index: records of
// fingerprint and shard, sorted, with checksums, and made for finding the shards
// of a fingerprint with one cache miss or two. A layer lies in a mapped file or
// in memory, and is written in one pass.
//
// # Format
//
// Numbers are little-endian and unsigned; u32 and u64 have 4 and 8 bytes. A
// checksum is a CRC-32C (Castagnoli). A file is partitions, one behind the other,
// then the directory of the partitions, then the footer, where it ends.
//
// A record has 20 bytes:
//
//	 0  u64  Hi: the upper half of the fingerprint
//	 8  u64  Lo: its lower half
//	16  u32  number of the shard
//
// The records of a file ascend by Hi, Lo and number, and no two are equal.
//
// A partition is at least one record, and all the records of the file with a Hi
// that is one of its. It begins at a multiple of 4096, with zeros in front of it if
// need be: its pages, its table, its filter.
//
//	pages   4096 bytes each: 204 records, or in the last page of the partition
//	        those that are left; zeros up to byte 4092; u32 checksum of these 4092
//	table   u64 for each page: Hi of its first record
//	filter  the bytes of a binary fuse filter of 8 bits, or nothing
//
// The filter has all Hi of the partition. Its bytes are (segments + 2) * segment,
// segment being a power of two up to 2^18. It tells that a Hi is not in the
// partition if f is not zero, in arithmetic modulo 2^64:
//
//	h  = Hi + seed
//	h ^= h >> 33;  h *= 0xff51afd7ed558ccd
//	h ^= h >> 33;  h *= 0xc4ceb9fe1a85ec53
//	h ^= h >> 33
//	a  = (h * segments * segment) >> 64, the product having 128 bits
//	b  = (a + segment) xor ((h >> 18) mod segment)
//	c  = (a + 2 * segment) xor (h mod segment)
//	f  = ((h xor (h >> 32)) mod 256) xor byte a xor byte b xor byte c
//
// The directory has an entry of 48 bytes for each partition, in their order:
//
//	 0  u64  Hi of the first record
//	 8  u64  Hi of the last record
//	16  u64  records
//	24  u64  seed of the filter
//	32  u32  segment: length of a segment of the filter
//	36  u32  segments: how many, but two
//	40  u32  checksum of table and filter
//	44  u32  0
//
// Without a filter, seed, segment and segments are 0. The footer has 32 bytes:
//
//	 0  u64  records in the file
//	 8  u32  partitions
//	12  u32  0
//	16  u32  checksum of the directory and of bytes 0 to 16 of the footer
//	20  u32  version of the format: 1
//	24       the letters "daglayer"
//
// A file without records is the footer alone. A writer of this version ends a
// partition at the first change of Hi after 262,140 records, and leaves out the
// filter of up to 408 different Hi. Readers rely on neither.
//
// Another version may change all but this: a file ends in 32 bytes, the last 12 of
// which are the version and the letters, and bytes 16 to 20 of which are the checksum
// of the 28 others.
package layer
