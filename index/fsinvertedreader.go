package index

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"github.com/filecoin-project/dagstore/internal/inverted"
)

// freshness is how old what a reader knows of GENERATION can be.
const freshness = 5 * time.Millisecond

// A sighting is what a reader has found in GENERATION.
type sighting struct {
	at         time.Time
	incomplete bool
}

func (x *FSInverted) openToRead(ctx context.Context) error {
	found, err := x.folder.current()
	if err == nil && found.number == 0 {
		err = fs.ErrNotExist
	}
	if err != nil {
		return err
	}
	return x.read(ctx, found)
}

// read opens a generation, in the place of the one that is open.
func (x *FSInverted) read(ctx context.Context, found generation) error {
	engine, err := inverted.OpenReader(ctx, x.folder.folder(found.number), inverted.Options{FS: x.folder.fsys})
	if err != nil {
		return asDamaged(err)
	}
	old := x.engine.Swap(engine)
	x.current = found
	x.seen.Store(&sighting{time.Now(), found.incomplete})
	if old != nil {
		_ = old.Close() // of a reader, whose files are gone
	}
	return nil
}

// follow has a reader use the generation that the writer uses by now.
func (x *FSInverted) follow() error {
	if !x.readOnly {
		return nil
	}
	seen := x.seen.Load()
	if time.Since(seen.at) >= freshness {
		if err := x.look(seen); err != nil {
			return err
		}
		seen = x.seen.Load()
	}
	if seen.incomplete {
		return ErrIncomplete
	}
	return nil
}

// notThere makes the error of a folder that is gone, because a damaged index is being
// made anew, ErrIncomplete.
func notThere(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%w: %w", ErrIncomplete, err)
	}
	return err
}

// look looks at GENERATION, unless somebody has done that since.
func (x *FSInverted) look(seen *sighting) error {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.closed {
		return fs.ErrClosed
	}
	if x.seen.Load() != seen {
		return nil
	}
	found, err := x.folder.current()
	if err == nil && found.number != x.current.number {
		err = x.read(context.Background(), found)
	}
	if err == nil {
		x.seen.Store(&sighting{time.Now(), found.incomplete})
	}
	return notThere(err)
}
