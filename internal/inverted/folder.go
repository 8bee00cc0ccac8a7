package inverted

import (
	"crypto/rand"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/filecoin-project/dagstore/internal/files"
	"github.com/filecoin-project/dagstore/internal/layer"
)

const (
	currentName   = "CURRENT"
	journalPrefix = "journal-"
	layerPrefix   = "layer-"

	// freshJournal is how many bytes the first journal has before anything is added.
	freshJournal = 57
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// A folder is where an index has its files.
type folder struct {
	fsys files.FS
	dir  string
}

func (f folder) journal(number uint64) string {
	return filepath.Join(f.dir, journalPrefix+strconv.FormatUint(number, 10))
}

func (f folder) layer(number uint64) string {
	return filepath.Join(f.dir, layerPrefix+strconv.FormatUint(number, 10))
}

func (f folder) current() string { return filepath.Join(f.dir, currentName) }

// numbered returns the number in the name of a file that begins with prefix.
func numbered(name, prefix string) (uint64, bool) {
	digits, ok := strings.CutPrefix(name, prefix)
	if !ok {
		return 0, false
	}
	number, err := strconv.ParseUint(digits, 10, 63)
	return number, err == nil && strconv.FormatUint(number, 10) == digits
}

// A current is what CURRENT says.
type current struct {
	journal uint64 // the number of the one in use
	mark    string // random: two that were written differ, even if one folder takes the place of another
}

const currentTitle = "dagstore inverted index "

func (c current) text() string {
	return files.Seal(fmt.Sprintf("%s%d\njournal %d\n%s\n", currentTitle, formatVersion, c.journal, c.mark))
}

func parseCurrent(text string) (current, error) {
	lines, ok := files.Unseal(text)
	if !ok || len(lines) != 3 {
		return current{}, damaged("%s is not what was written", currentName)
	}
	number, _ := strings.CutPrefix(lines[1], "journal ")
	journal, _ := strconv.ParseUint(number, 10, 63)
	c := current{journal, lines[2]}
	if c.text() == text {
		return c, nil
	}
	if strings.HasPrefix(text, currentTitle) {
		return current{}, fmt.Errorf("%q: this program knows version %d: %w", lines[0], formatVersion, errors.ErrUnsupported)
	}
	return current{}, damaged("%s does not name a journal", currentName)
}

// readCurrent reads CURRENT. The error is fs.ErrNotExist if there is no such file.
func (f folder) readCurrent() (current, error) {
	text, err := files.ReadText(f.fsys, f.current())
	if err != nil {
		return current{}, err
	}
	return parseCurrent(text)
}

func (f folder) writeCurrent(journal uint64) error {
	return files.ReplaceText(f.fsys, f.current(), current{journal, rand.Text()}.text())
}

// writeLayer makes the file of a layer, durably, and returns its table. A layer
// without records has no file, and the table no layer. After an error there is no
// file, unless it cannot be removed.
func (f folder) writeLayer(number uint64, write func(*layer.Writer) error) (*table, error) {
	t := &table{number: number}
	path := f.layer(number)
	err := files.Replace(f.fsys, path, func(to io.Writer) error {
		w := layer.NewWriter(to)
		if err := write(w); err != nil {
			return err
		}
		var err error
		t.records, t.size, err = w.Finish()
		if err == nil && t.records == 0 {
			err = errEmpty
		}
		return err
	})
	if errors.Is(err, errEmpty) {
		return t, nil
	}
	if err == nil {
		err = openTable(f.fsys, path, t)
	}
	if err != nil {
		_ = f.fsys.Remove(path) // it may be there
		return nil, fmt.Errorf("write a layer: %w", err)
	}
	return t, nil
}

var errEmpty = errors.New("layer has no records")

// A listing is the files of an index in a folder.
type listing struct {
	journals  []uint64
	layers    []uint64
	temporary []string
}

func (f folder) list() (listing, error) {
	var l listing
	entries, err := f.fsys.ReadDir(f.dir)
	if err != nil {
		return l, err
	}
	for _, e := range entries {
		name := e.Name()
		if number, ok := numbered(name, journalPrefix); ok {
			l.journals = append(l.journals, number)
		} else if number, ok := numbered(name, layerPrefix); ok {
			l.layers = append(l.layers, number)
		} else if strings.HasPrefix(name, files.TempPrefix) {
			l.temporary = append(l.temporary, filepath.Join(f.dir, name))
		}
	}
	return l, nil
}

// isNew tells whether there is no index yet: no CURRENT, and nothing but what
// making an index leaves when it is interrupted.
func (f folder) isNew(l listing) (bool, error) {
	if _, err := f.fsys.Lstat(f.current()); !errors.Is(err, fs.ErrNotExist) {
		return false, err
	}
	if len(l.layers) > 0 {
		return false, damaged("%s is missing", f.current())
	}
	for _, number := range l.journals {
		info, err := f.fsys.Stat(f.journal(number))
		if err != nil {
			return false, err
		}
		if info.Size() > freshJournal {
			return false, damaged("%s is missing", f.current())
		}
	}
	return true, nil
}

// make makes the folder, durably.
func (f folder) make() error {
	if _, err := f.fsys.Stat(f.dir); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := f.fsys.MkdirAll(f.dir, 0o777); err != nil {
		return err
	}
	return f.fsys.SyncDir(filepath.Dir(filepath.Clean(f.dir)))
}

// remove removes files, and returns those that it could not.
func (f folder) remove(paths []string) (left []string) {
	for _, path := range paths {
		if err := f.fsys.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
			left = append(left, path)
		}
	}
	return left
}
