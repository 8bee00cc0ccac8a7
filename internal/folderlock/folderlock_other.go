//go:build !unix || solaris || aix

package folderlock

import (
	"fmt"
	"path/filepath"
	"sync"
)

var (
	mu     sync.Mutex // guards locked
	locked = map[string]bool{}
)

// Lock locks a folder against every other Lock in this process. This platform
// offers no lock on a folder that other processes would see.
func Lock(dir string) (unlock func() error, err error) {
	dir, err = filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	mu.Lock()
	defer mu.Unlock()
	if locked[dir] {
		return nil, fmt.Errorf("%s: %w", dir, ErrLocked)
	}
	locked[dir] = true
	return func() error {
		mu.Lock()
		defer mu.Unlock()
		delete(locked, dir)
		return nil
	}, nil
}
