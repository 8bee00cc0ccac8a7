//go:build unix && !solaris && !aix

package folderlock

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// Lock locks a folder against every other Lock, in this process and others,
// until unlock is called or the process ends.
func Lock(dir string) (unlock func() error, err error) {
	f, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	switch {
	case err == nil:
		return func() error {
			// A process that is being forked shares the open file for a moment, and so
			// would the lock be, if it ended with the file.
			return errors.Join(unix.Flock(int(f.Fd()), unix.LOCK_UN), f.Close())
		}, nil
	case errors.Is(err, unix.EWOULDBLOCK):
		err = fmt.Errorf("%s: %w", dir, ErrLocked)
	default:
		err = fmt.Errorf("lock %s: %w", dir, err)
	}
	return nil, errors.Join(err, f.Close())
}
