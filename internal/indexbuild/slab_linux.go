package indexbuild

import "golang.org/x/sys/unix"

// mapMemory returns so many bytes of memory in huge pages, or nil.
func mapMemory(size int) []byte {
	s, err := unix.Mmap(-1, 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE)
	if err != nil {
		return nil
	}
	_ = unix.Madvise(s, unix.MADV_HUGEPAGE) // it is advice
	return s
}

// unmapMemory gives back what mapMemory returned, and returns false for other
// memory.
func unmapMemory(s []byte) bool { return unix.Munmap(s) == nil }
