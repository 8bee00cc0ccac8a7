package mapped

import (
	"fmt"
	"io"
	"runtime/debug"
	"unsafe"
)

var errTruncated = fmt.Errorf("mapped data was truncated, or its disk fails: %w", io.ErrUnexpectedEOF)

// Faultless calls use and returns its error. The pages of a file that was
// truncated fault, and so do those that the disk does not give: if that happens
// inside one of the mappings, it is an error that wraps io.ErrUnexpectedEOF. A fault
// anywhere else, and any other panic, goes on. It allocates nothing, and keeps
// nothing.
func Faultless(use func() error, mappings ...[]byte) (err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		v := recover()
		if v == nil {
			return
		}
		fault, ok := v.(interface{ Addr() uintptr })
		if !ok || !contain(mappings, fault.Addr()) {
			panic(v)
		}
		err = errTruncated
	}()
	return use()
}

func contain(mappings [][]byte, addr uintptr) bool {
	for _, m := range mappings {
		start := uintptr(unsafe.Pointer(unsafe.SliceData(m)))
		if addr >= start && addr-start < uintptr(len(m)) {
			return true
		}
	}
	return false
}

// copyMapped copies the first bytes of mapping to p, which is no longer.
func copyMapped(p, mapping []byte) (n int, err error) {
	err = Faultless(func() error {
		n = copy(p, mapping)
		return nil
	}, mapping)
	if err != nil {
		n = 0
	}
	return n, err
}
