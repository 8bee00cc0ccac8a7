package mount

import (
	"github.com/filecoin-project/dagstore/internal/files"
	"github.com/filecoin-project/dagstore/throttle"
)

// UpgradeOn is Upgrade on another file system.
func UpgradeOn(fsys files.FS, m Mount, t throttle.Throttler, rootdir, key, initial string) (*Upgrader, error) {
	return upgrade(m, t, fsys, rootdir, key, initial)
}
