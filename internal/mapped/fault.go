package mapped

import (
	"fmt"
	"io"
	"runtime/debug"
	"unsafe"
)

var errTruncated = fmt.Errorf("data was truncated under its mapping: %w", io.ErrUnexpectedEOF)

// copyMapped copies the first bytes of mapping to p, which is no longer. The
// pages of a file that was truncated fault; that is an error, whereas a fault
// anywhere else stays a panic.
func copyMapped(p, mapping []byte) (n int, err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		v := recover()
		if v == nil {
			return
		}
		fault, ok := v.(interface{ Addr() uintptr })
		if !ok || !contains(mapping, fault.Addr()) {
			panic(v)
		}
		n, err = 0, errTruncated
	}()
	return copy(p, mapping), nil
}

func contains(mapping []byte, addr uintptr) bool {
	start := uintptr(unsafe.Pointer(unsafe.SliceData(mapping)))
	return addr >= start && addr-start < uintptr(len(mapping))
}
