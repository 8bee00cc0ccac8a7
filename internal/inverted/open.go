package inverted

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"

	"github.com/filecoin-project/dagstore/internal/folderlock"
	"github.com/filecoin-project/dagstore/internal/journal"
)

// openWriter locks the folder and opens or makes the index in it. Nothing is removed
// before all is open.
func openWriter(ctx context.Context, f folder, o Options) (*Index, error) {
	if err := f.make(); err != nil {
		return nil, err
	}
	unlock, err := folderlock.Lock(f.dir)
	if err != nil {
		return nil, err
	}
	x, err := openLocked(ctx, f, o)
	if err != nil {
		return nil, errors.Join(err, unlock())
	}
	x.log.unlock = unlock
	return x, nil
}

func openLocked(ctx context.Context, f folder, o Options) (*Index, error) {
	found, err := f.list()
	if err != nil {
		return nil, err
	}
	isNew, err := f.isNew(found)
	if err != nil {
		return nil, err
	}
	l := &log{folder: f}
	for _, number := range found.journals {
		l.last = max(l.last, number)
	}
	m := newManifest()
	if isNew {
		err = l.create(m)
	} else {
		err = l.open(ctx, m)
	}
	if err != nil {
		return nil, err
	}
	x := newIndex(o, m)
	x.folder, x.log = f, l
	for _, number := range found.layers {
		x.nextLayer = max(x.nextLayer, number+1) // readers may know what it was
	}
	l.sweep(orphans(found, l, m)...)
	return x, nil
}

// create makes the first journal. If the last step fails it may be in use already, so
// it stays; if it is not, the folder counts as new.
func (l *log) create(m *manifest) error {
	m.secret = newSecret()
	m.begun = true
	changes, err := m.snapshot()
	if err != nil {
		return err
	}
	l.last++
	l.number = l.last
	if l.journal, err = journal.Create(l.folder.fsys, l.folder.journal(l.number), [][]byte{changes[0].encode()}); err != nil {
		return err
	}
	if err := l.folder.writeCurrent(l.number); err != nil {
		return errors.Join(err, l.journal.Close())
	}
	l.begun = l.journal.Size()
	return nil
}

// open reads the journal in use into m, and opens its layers.
func (l *log) open(ctx context.Context, m *manifest) error {
	current, err := l.folder.readCurrent()
	if err != nil {
		return err
	}
	l.number = current.journal
	l.last = max(l.last, l.number)
	l.journal, err = journal.Open(l.folder.fsys, l.folder.journal(l.number), m.reading(ctx))
	if err == nil {
		if err = l.folder.openTables(m); err == nil {
			return nil
		}
		err = errors.Join(err, l.journal.Close())
	}
	return asMissing(err)
}

// asMissing makes it damage that a file is missing which another one names.
func asMissing(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%w: a file is missing: %w", ErrDamaged, err)
	}
	return err
}

// reading returns a function that applies one entry after the other.
func (m *manifest) reading(ctx context.Context) func(entry []byte) error {
	return func(entry []byte) error {
		if err := ctx.Err(); err != nil {
			return err
		}
		c, err := decode(entry)
		if err != nil {
			return err
		}
		_, err = m.apply(c)
		return err
	}
}

// openTables opens the layers of a manifest that was read. After an error none is
// open.
func (f folder) openTables(m *manifest) error {
	if !m.begun {
		return damaged("the journal is empty")
	}
	var opened []*table
	for _, t := range m.tables {
		if inMemory(t) || t.layer != nil {
			continue
		}
		if err := openTable(f.fsys, f.layer(t.number), t); err != nil {
			return errors.Join(err, closeTables(opened))
		}
		opened = append(opened, t)
	}
	if err := m.settle(); err != nil {
		return errors.Join(err, closeTables(opened))
	}
	return nil
}

// orphans returns the files in a folder that nothing names.
func orphans(found listing, l *log, m *manifest) []string {
	paths := found.temporary
	for _, number := range found.journals {
		if number != l.number {
			paths = append(paths, l.folder.journal(number))
		}
	}
	for _, number := range found.layers {
		if !slices.ContainsFunc(m.tables, func(t *table) bool { return t.number == number }) {
			paths = append(paths, l.folder.layer(number))
		}
	}
	return paths
}
