//go:build !unix

package mapped

import "os"

func mapFile(*os.File, int64) []byte { return nil }

func unmap([]byte) {}

// Random does nothing here.
func Random([]byte) {}

// Sequential does nothing here.
func Sequential([]byte) {}

// WillNeed does nothing here.
func WillNeed([]byte) {}
