package mount

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"sync"

	logging "github.com/ipfs/go-log/v2"

	"github.com/filecoin-project/dagstore/internal/files"
	"github.com/filecoin-project/dagstore/internal/guard"
	"github.com/filecoin-project/dagstore/throttle"
)

var log = logging.Logger("dagstore/mount")

// An Upgrader is a mount whose readers always have sequential, seek and random
// access. If the underlying mount has all three, the Upgrader passes it through
// (and never makes a file). If not, it downloads the data into a local file, the
// transient, when it is first fetched, and serves readers from there.
//
// All concurrent fetches share one download. It runs for as long as any of them
// wants it: it survives the cancellation of the fetch that started it, and is
// cancelled when the last one is. A failed download leaves nothing behind, and
// the next Fetch tries anew.
//
// A transient appears under its name only when it is whole and synced to disk.
// One that is found there, from an earlier process, is used if its size is
// the one that the underlying mount's Stat tells, or if Stat tells none;
// otherwise it is fetched anew. A file of the caller's (see [Upgrade]) is read
// where it lies, as it is, whatever its size, and is never changed or deleted.
//
// An Upgrader is safe for concurrent use.
type Upgrader struct {
	underlying  Mount
	throttler   throttle.Throttler
	fsys        files.FS
	rootdir     string // absolute
	key         string
	initial     string // the caller's copy, absolute; "" if none
	passthrough bool

	// mu guards what follows, for all who fetch. Files are renamed under it, but
	// nothing that takes longer is done.
	mu      sync.Mutex
	own     presence // of the file at our own place
	given   presence // of initial
	fetches int32
	flight  *flight // nil when no download is under way
}

// A presence is what is known of a local copy.
type presence byte

const (
	unknown presence = iota
	absent
	rejected // whether there or not, it is not used any more
	present  // somebody made it: its size is still to be checked
	trusted
)

var _ Mount = (*Upgrader)(nil)

// Upgrade returns an Upgrader of a mount. The transient is a file in rootdir,
// named after the key (see [TransientNames]). That folder defaults to
// [os.TempDir] and is made when needed; no two Upgraders may use one key in it
// at a time. Downloads of mounts that are ready (see [Stat]) go through the
// throttler; nil means that they do not.
//
// A non-empty initial is the path of a copy that is there already; whether it
// is, is looked up at first use, and a missing one is as none. If it is where
// the transient of this key would be, the file belongs to the Upgrader, else to
// the caller.
func Upgrade(underlying Mount, throttler throttle.Throttler, rootdir, key string, initial string) (*Upgrader, error) {
	return upgrade(underlying, throttler, files.OS, rootdir, key, initial)
}

func upgrade(
	underlying Mount, throttler throttle.Throttler, fsys files.FS, rootdir, key, initial string,
) (_ *Upgrader, err error) {
	if isNil(underlying) {
		return nil, errors.New("upgrade mount: nil mount")
	}
	defer guard.Recover(&err) // of Info
	if throttler == nil {
		throttler = throttle.Noop()
	}
	if rootdir == "" {
		rootdir = os.TempDir()
	}
	if rootdir, err = filepath.Abs(rootdir); err != nil {
		return nil, fmt.Errorf("upgrade mount: transients folder: %w", err)
	}
	u := &Upgrader{underlying: underlying, throttler: throttler, fsys: fsys, rootdir: rootdir, key: key, given: absent}
	info := underlying.Info()
	u.passthrough = info.AccessSequential && info.AccessSeek && info.AccessRandom
	if initial == "" {
		return u, nil
	}
	if initial, err = filepath.Abs(initial); err != nil {
		return nil, fmt.Errorf("upgrade mount: existing transient: %w", err)
	}
	if !u.isOwn(initial) {
		u.initial, u.given = initial, unknown
	}
	return u, nil
}

// Fetch returns a reader of the local copy, which it makes first if there is
// none; of a mount that is passed through, its own reader, unless the caller of
// [Upgrade] gave a copy that is there. Readers are
// independent of each other and of ctx, which bounds only the waiting.
//
// When ctx ends, Fetch returns its error: at once if others wait for the same
// download, and otherwise when the download, cancelled, has ended.
func (u *Upgrader) Fetch(ctx context.Context) (Reader, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if u.passthrough {
		return u.fetchThrough(ctx)
	}
	return u.fetchCopy(ctx, &tap{})
}

// fetchCopy returns a reader of the local copy. A download that it starts to make
// one is seen by the tap.
func (u *Upgrader) fetchCopy(ctx context.Context, t *tap) (Reader, error) {
	// A copy may be removed between its making and its opening; not for ever.
	for range 6 {
		path := u.trustedCopy()
		if path == "" {
			if err := u.join(ctx, t); err != nil {
				return nil, err
			}
			continue
		}
		file, err := u.fsys.Open(path)
		if err == nil {
			return file, nil
		}
		if !errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("open local copy: %w", err)
		}
		u.vanished(path)
		t.complete = false // what it has seen is not what will be there
	}
	return nil, fmt.Errorf("local copy in %s is removed again and again by somebody else", u.rootdir)
}

// fetchThrough prefers the caller's copy while that is there: it was given to be
// read, and the mount's own data may not be there at all.
func (u *Upgrader) fetchThrough(ctx context.Context) (Reader, error) {
	if path := u.TransientPath(); path != "" {
		file, err := u.fsys.Open(path)
		if err == nil {
			return file, nil
		}
		if !errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("open local copy: %w", err)
		}
	}
	return fetchFrom(ctx, u.underlying)
}

// Prepare makes sure that there is a local copy, as Fetch does, and opens
// nothing that stays open. If the mount is passed through it does nothing.
func (u *Upgrader) Prepare(ctx context.Context) error {
	_, err := u.PrepareTapped(ctx, nil)
	return err
}

// PrepareTapped is Prepare, and shows the data as it is downloaded: if this very
// call starts a download, every byte of it is written to tap before it is written
// to the file. Complete tells that tap got all of the data, from the first byte
// to the last, and that it is now the local copy. It is false, and tap got
// nothing, if a copy was there, if the download was under way already, and if
// the mount is passed through. If the download fails, tap got the start of it.
//
// The download goes at the pace of tap. An error of tap, or a panic, ends it for
// all who wait for it, with that error. When ctx ends while others wait, it goes
// on without tap, and an error that tap has then is ignored; PrepareTapped waits
// for a Write that is in progress. After its return, tap is not touched.
func (u *Upgrader) PrepareTapped(ctx context.Context, tap io.Writer) (complete bool, err error) {
	if u.passthrough {
		return false, nil
	}
	if err := ctx.Err(); err != nil {
		return false, err
	}
	t := newTap(ctx, tap)
	defer t.close()
	r, err := u.fetchCopy(ctx, t)
	if err != nil {
		return false, err
	}
	if err := r.Close(); err != nil {
		return false, err
	}
	return t.complete, nil
}

// Info claims everything. The kind is local, unless the mount is passed through
// and remote.
func (u *Upgrader) Info() Info {
	if u.passthrough {
		return u.underlying.Info()
	}
	return Info{Kind: KindLocal, AccessSequential: true, AccessSeek: true, AccessRandom: true}
}

// Stat tells about the local copy, or, if there is none, what the underlying
// mount tells.
func (u *Upgrader) Stat(ctx context.Context) (Stat, error) {
	if err := ctx.Err(); err != nil {
		return Stat{}, err
	}
	if path := u.TransientPath(); path != "" {
		info, err := u.fsys.Stat(path)
		if err == nil {
			return Stat{Exists: true, Size: info.Size(), Ready: true}, nil
		}
		if !errors.Is(err, fs.ErrNotExist) {
			return Stat{}, err
		}
		u.vanished(path)
	}
	return statOf(ctx, u.underlying)
}

// TimesFetched returns how often the underlying mount was fetched to make a
// local copy, failed fetches included. Fetches that are passed through do not
// count.
func (u *Upgrader) TimesFetched() int {
	u.mu.Lock()
	defer u.mu.Unlock()
	return int(u.fetches)
}

// Underlying returns the mount that was upgraded.
func (u *Upgrader) Underlying() Mount { return u.underlying }

// Serialize returns the URL of the underlying mount.
func (u *Upgrader) Serialize() *url.URL { return u.underlying.Serialize() }

// Deserialize sets the underlying mount.
func (u *Upgrader) Deserialize(from *url.URL) error { return u.underlying.Deserialize(from) }

// Close closes the underlying mount. The transient stays, and so do open
// readers of it.
func (u *Upgrader) Close() error { return guard.Call(u.underlying.Close) }

func fetchFrom(ctx context.Context, m Mount) (r Reader, err error) {
	defer guard.Recover(&err)
	r, err = m.Fetch(ctx)
	if err == nil && r == nil {
		err = fmt.Errorf("Fetch of %T returned no reader", m)
	}
	return r, err
}

func statOf(ctx context.Context, m Mount) (st Stat, err error) {
	defer guard.Recover(&err)
	return m.Stat(ctx)
}
