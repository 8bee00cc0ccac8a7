// Package journal keeps a list of entries in a file that only grows. Entries
// are bytes that mean nothing to the package. One process appends, in groups
// that share one write and one sync; others may follow.
//
// # The file
//
// Numbers are little-endian. The file is a header and then the entries, without
// gaps. A check is the CRC-32C (Castagnoli) of all bytes of the file before it,
// the earlier checks left out. So it ties an entry to everything before it, and
// an entry of another file, or of another past of this one, never passes.
//
// The header has 24 bytes:
//
//	 0  8  magic, "dagsjrnl"
//	 8  4  version, 1
//	12  8  size of the file as it was created, with header and first entries
//	20  4  check
//
// An entry of n bytes takes n+12:
//
//	  0  4  n, from 1 to 67108864 (64 MiB)
//	  4  4  check
//	  8  n  the entry
//	8+n  4  check
//
// Another version may change all but the first 12 bytes and the check at 20.
//
// # Damage
//
// A crash while entries are appended leaves a file that ends in the middle of
// an entry, or in zeros where entries should begin: file systems may keep the
// new size of a file and lose what was written there. Such a torn tail was
// never acknowledged. Whoever appends next cuts it off. Everything else that
// does not check is damage, and so is a file that is shorter than it was
// created. A file that lost whole entries at its end cannot be told from one
// that never had them.
package journal
