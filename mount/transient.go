package mount

import (
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"

	"github.com/filecoin-project/dagstore/internal/keyname"
)

// ErrFetching is the error for retiring a transient that is being fetched. Retry
// when that has ended.
var ErrFetching = errors.New("a fetch is under way")

const transientPrefix = "transient-"

// TransientNames returns the names, in the folder of transients, of the files
// of a key: the whole copy, and the one that is being downloaded.
func TransientNames(key string) (complete, partial string) {
	name := transientPrefix + keyname.File(key)
	return name + ".complete", name + ".partial"
}

// TransientPath returns the path of the local copy, "" if there is none; a mount
// that is passed through has none but the caller's. It looks into the file system only if nothing is
// known yet: a file that others have removed since is noticed by Fetch.
func (u *Upgrader) TransientPath() string {
	u.mu.Lock()
	given, own := u.given, u.own
	u.mu.Unlock()
	if given == unknown {
		given = u.lookUp(u.initial, &u.given)
	}
	if given >= present {
		return u.initial
	}
	if u.passthrough {
		return ""
	}
	if own == unknown {
		own = u.lookUp(u.ownPath(), &u.own)
	}
	if own >= present {
		return u.ownPath()
	}
	return ""
}

// RecordedPath returns the path by which another process is to find the copy
// again: the caller's, whether it is there now or not, unless it is not used any
// more; else our own, if that is known to be there. It looks at no file.
func (u *Upgrader) RecordedPath() string {
	u.mu.Lock()
	defer u.mu.Unlock()
	switch {
	case u.initial != "" && u.given != rejected:
		return u.initial
	case !u.passthrough && u.own >= present:
		return u.ownPath()
	default:
		return ""
	}
}

// AssumeTransient tells whether the file with the first of the [TransientNames]
// is in the folder, for callers who have listed it. It saves the looking, and
// changes nothing once something is known.
func (u *Upgrader) AssumeTransient(there bool) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.own != unknown {
		return
	}
	u.own = absent
	if there {
		u.own = present
	}
}

// RetireTransient takes the transient out of use: the next Fetch makes a new
// one. It costs one rename at most; remove then deletes the file, and may be
// called later and elsewhere. Open readers go on. Remove is nil when there is
// nothing to delete: no transient, or one that belongs to the caller of
// [Upgrade]. While a Fetch is waiting for a download, it is an error.
//
// A file that is never removed is named like a transient, ending in ".retired-"
// and a number.
func (u *Upgrader) RetireTransient() (remove func() error, err error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.flight != nil {
		return nil, fmt.Errorf("transient of %q: %w", u.key, ErrFetching)
	}
	if u.passthrough || u.own == absent {
		return nil, nil
	}
	if info, err := u.fsys.Lstat(u.ownPath()); err == nil && !info.Mode().IsRegular() {
		return nil, fmt.Errorf("retire transient: %s is not a regular file", u.ownPath())
	}
	aside := u.asidePath()
	if err := u.fsys.Rename(u.ownPath(), aside); errors.Is(err, fs.ErrNotExist) {
		u.own = absent
		return nil, nil
	} else if err != nil {
		return nil, fmt.Errorf("retire transient: %w", err)
	}
	u.own = absent
	return func() error { return u.remove(aside) }, nil
}

// DeleteTransient deletes the transient, if there is one; see
// [Upgrader.RetireTransient]. The copy of the caller of [Upgrade], if there is
// one, is kept and not used any more.
func (u *Upgrader) DeleteTransient() error {
	remove, err := u.RetireTransient()
	if err == nil {
		u.reject()
	}
	if err != nil || remove == nil {
		return err
	}
	return remove()
}

func (u *Upgrader) ownPath() string {
	complete, _ := TransientNames(u.key)
	return filepath.Join(u.rootdir, complete)
}

func (u *Upgrader) partialPath() string {
	_, partial := TransientNames(u.key)
	return filepath.Join(u.rootdir, partial)
}

// asidePath returns a path that no other file has. The key in it is for people
// and is cut so that the name is never too long.
func (u *Upgrader) asidePath() string {
	name := keyname.File(u.key)
	name = strings.ToValidUTF8(name[:min(len(name), keyname.MaxFile-20)], "")
	return filepath.Join(u.rootdir, fmt.Sprintf("%s%s.retired-%d", transientPrefix, name, rand.Uint64()))
}

// isOwn tells whether an absolute path is our own place, by whatever links it
// gets there.
func (u *Upgrader) isOwn(path string) bool {
	complete, _ := TransientNames(u.key)
	dir, base := filepath.Split(path)
	if base != complete {
		return false
	}
	if dir = filepath.Clean(dir); dir == u.rootdir {
		return true
	}
	its, err := u.fsys.Stat(dir)
	ours, ourErr := u.fsys.Stat(u.rootdir)
	return err == nil && ourErr == nil && os.SameFile(its, ours)
}

// lookUp looks whether there is a file at path and keeps the answer in known,
// unless something is known by now. An error is not an answer.
func (u *Upgrader) lookUp(path string, known *presence) presence {
	_, err := u.fsys.Stat(path)
	found := present
	if errors.Is(err, fs.ErrNotExist) {
		found = absent
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	if *known == unknown && (err == nil || found == absent) {
		*known = found
	}
	return *known
}

// reject ends the use of the caller's copy, if it is there.
func (u *Upgrader) reject() {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.given != absent {
		u.given = rejected
	}
}

// usesGiven reports whether the caller's copy is to be used, if it is there.
func (u *Upgrader) usesGiven() bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.initial != "" && u.given != rejected
}

// trustedCopy returns the path of a local copy that is known to be whole, "" if
// none is.
func (u *Upgrader) trustedCopy() string {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.given == trusted {
		return u.initial
	}
	if u.own == trusted {
		return u.ownPath()
	}
	return ""
}

// vanished forgets what was known of the file at path, which was not there. It
// may be there again by now.
func (u *Upgrader) vanished(path string) {
	if path == u.initial {
		u.know(&u.given, unknown)
	} else {
		u.know(&u.own, unknown)
	}
}

func (u *Upgrader) know(known *presence, p presence) {
	u.mu.Lock()
	defer u.mu.Unlock()
	*known = p
}

// remove deletes a file of ours. That it is gone already is no error.
func (u *Upgrader) remove(path string) error {
	if err := u.fsys.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}
