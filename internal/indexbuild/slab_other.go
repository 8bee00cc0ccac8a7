//go:build !linux

package indexbuild

// There are no huge pages to be had.
func mapMemory(int) []byte { return nil }

func unmapMemory([]byte) bool { return false }
