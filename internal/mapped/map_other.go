//go:build !unix

package mapped

import "os"

func mapFile(*os.File, int64) []byte { return nil }

func unmap([]byte) {}

// Random does nothing here.
func Random([]byte) {}

// WillNeed does nothing here.
func WillNeed([]byte) {}
