//go:build unix

package mapped

import (
	"math"
	"os"

	"golang.org/x/sys/unix"
)

// mapFile maps the first size bytes of a regular file, or returns nil.
func mapFile(file *os.File, size int64) []byte {
	info, err := file.Stat()
	if err != nil || !info.Mode().IsRegular() || size <= 0 || size > math.MaxInt || info.Size() < size {
		return nil
	}
	conn, err := file.SyscallConn()
	if err != nil {
		return nil
	}
	var mapping []byte
	err = conn.Control(func(fd uintptr) {
		mapping, _ = unix.Mmap(int(fd), 0, int(size), unix.PROT_READ, unix.MAP_SHARED)
	})
	if err != nil {
		return nil
	}
	return mapping
}

// unmap cannot fail for a mapping that mapFile returned.
func unmap(mapping []byte) { _ = unix.Munmap(mapping) }
