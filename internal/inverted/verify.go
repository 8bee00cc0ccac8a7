package inverted

import (
	"context"
	"errors"
	"fmt"
	"io/fs"

	"github.com/filecoin-project/dagstore/internal/journal"
)

// Verify reads and checks all files. Look-ups and changes go on beside it; a layer
// that is merged away is left out for the one that it is merged into. The errors are
// those of Lookup, and that of ctx.
func (x *Index) Verify(ctx context.Context) error {
	bound, end, err := x.begin(ctx)
	if err != nil {
		return err
	}
	defer end()
	if err := x.verify(bound); err != nil {
		return fmt.Errorf("verify the inverted index: %w", outcome(bound, err))
	}
	return nil
}

func (x *Index) verify(ctx context.Context) error {
	if x.folder.fsys != nil {
		if err := x.verifyJournal(ctx); err != nil {
			return err
		}
	}
	done := map[*table]bool{}
	for v := (*view)(nil); v != x.view.Load(); {
		v = x.view.Load()
		for _, t := range v.tables {
			if done[t] {
				continue
			}
			done[t] = true
			if err := t.layer.Verify(ctx); err != nil && !errors.Is(err, fs.ErrClosed) {
				return err
			}
		}
	}
	return ctx.Err()
}

// verifyJournal reads the journal in use, which may be replaced meanwhile.
func (x *Index) verifyJournal(ctx context.Context) error {
	for {
		read, err := x.folder.readCurrent()
		if err != nil {
			return err
		}
		size := x.log.sizeOf(read.journal)
		to, err := journal.Read(x.folder.fsys, x.folder.journal(read.journal), journal.Position{}, newManifest().reading(ctx))
		if err == nil && to.Offset < size {
			err = damaged("the journal ends at byte %d, and %d bytes were written", to.Offset, size)
		}
		if current, currentErr := x.folder.readCurrent(); currentErr != nil || current == read {
			return errors.Join(err, currentErr)
		}
	}
}
