//go:build unix

package mapped

import (
	"math"
	"os"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"
)

// maxMappings is how many files are mapped at once, at most. Linux allows a
// process 65,530 mappings, and ends a Go program that can get none for its heap.
const maxMappings = 30_000

var mappings atomic.Int64

// mapFile maps the first size bytes of a regular file that has them, or returns
// nil.
func mapFile(file *os.File, size int64) []byte {
	conn, err := file.SyscallConn()
	if err != nil || size <= 0 || size > math.MaxInt {
		return nil
	}
	if mappings.Add(1) > maxMappings {
		mappings.Add(-1)
		return nil
	}
	var mapping []byte
	_ = conn.Control(func(fd uintptr) {
		var stat unix.Stat_t
		if unix.Fstat(int(fd), &stat) != nil || stat.Mode&unix.S_IFMT != unix.S_IFREG || stat.Size < size {
			return
		}
		mapping, _ = unix.Mmap(int(fd), 0, int(size), unix.PROT_READ, unix.MAP_SHARED)
	})
	if mapping == nil {
		mappings.Add(-1)
	}
	return mapping
}

// unmap cannot fail for a mapping that mapFile returned.
func unmap(mapping []byte) {
	_ = unix.Munmap(mapping)
	mappings.Add(-1)
}

// Random tells the system that a mapping is read here and there: it reads no more
// from the disk than it is asked for.
func Random(mapping []byte) { advise(mapping, unix.MADV_RANDOM) }

// Sequential tells the system that a mapping is read from one end to the other, so
// that it reads ahead, until Random is called again.
func Sequential(mapping []byte) { advise(mapping, unix.MADV_NORMAL) }

// WillNeed tells the system that a part of a mapping is going to be read, so that
// it reads it from the disk at once.
func WillNeed(part []byte) { advise(part, unix.MADV_WILLNEED) }

// advise gives advice on the pages that a part of a mapping begins and ends in.
func advise(part []byte, advice int) {
	if len(part) == 0 {
		return
	}
	before := uintptr(unsafe.Pointer(unsafe.SliceData(part))) % uintptr(os.Getpagesize())
	start := unsafe.Add(unsafe.Pointer(unsafe.SliceData(part)), -int(before))
	_ = unix.Madvise(unsafe.Slice((*byte)(start), len(part)+int(before)), advice) // it is advice
}
