// Package folderlock lets one store at a time own a folder, without putting a
// file into it.
package folderlock

import "errors"

// ErrLocked is the error for a folder that somebody else has locked.
var ErrLocked = errors.New("folder is in use by another running store")
