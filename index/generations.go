package index

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/filecoin-project/dagstore/internal/files"
	"github.com/filecoin-project/dagstore/internal/inverted"
)

// The index itself is in a folder of its generation, so that another can be made
// beside it, and be put into its place by replacing one small file that names it.
const (
	generationFile   = "GENERATION"
	generationTitle  = "dagstore top-level index "
	generationFormat = 1

	generationPrefix = "generation-"
	damagedPrefix    = "damaged-" // of a generation that is not to be opened again
)

// generations is the folder that they are in.
type generations struct {
	fsys files.FS
	dir  string
}

// A generation is what GENERATION says. The zero value is that there is none.
type generation struct {
	number     int
	incomplete bool // shards are still to be added that readers would miss
}

var errNoGeneration = fmt.Errorf("%w: %s is missing", ErrDamaged, generationFile)

func (g generation) text() string {
	state := "complete"
	if g.incomplete {
		state = "incomplete"
	}
	return files.Seal(fmt.Sprintf("%s%d\n%s%d\n%s\n", generationTitle, generationFormat, generationPrefix, g.number, state))
}

func parseGeneration(text string) (generation, error) {
	lines, ok := files.Unseal(text)
	if !ok || len(lines) != 3 {
		return generation{}, fmt.Errorf("%w: %s is not what was written", ErrDamaged, generationFile)
	}
	name, _ := strings.CutPrefix(lines[1], generationPrefix)
	number, _ := strconv.Atoi(name)
	g := generation{number, lines[2] == "incomplete"}
	if number > 0 && g.text() == text {
		return g, nil
	}
	if strings.HasPrefix(text, generationTitle) {
		return generation{}, fmt.Errorf("%q: this program knows version %d: %w", lines[0], generationFormat, errors.ErrUnsupported)
	}
	return generation{}, fmt.Errorf("%w: %s names no generation", ErrDamaged, generationFile)
}

func (g generations) file() string { return filepath.Join(g.dir, generationFile) }

func (g generations) folder(number int) string {
	return filepath.Join(g.dir, generationPrefix+strconv.Itoa(number))
}

// current returns the generation in use. There is none in a folder that is new.
func (g generations) current() (generation, error) {
	text, err := files.ReadText(g.fsys, g.file())
	if errors.Is(err, fs.ErrNotExist) {
		newest, err := g.newest()
		if err == nil && newest > 0 {
			err = errNoGeneration
		}
		return generation{}, err
	}
	if err != nil {
		return generation{}, err
	}
	return parseGeneration(text)
}

// open opens the index of a generation, or makes an empty one.
func (g generations) open(ctx context.Context, number int) (*inverted.Index, error) {
	engine, err := inverted.Open(ctx, g.folder(number), inverted.Options{FS: g.fsys})
	return engine, asDamaged(err)
}

// begin makes an empty index, and makes it the current one. What is not current any
// more is left to be swept. If begin fails nothing is left of it.
func (g generations) begin(ctx context.Context, next generation) (*inverted.Index, error) {
	engine, err := g.open(ctx, next.number)
	if err == nil {
		err = g.switchTo(next)
	}
	if err == nil {
		return engine, nil
	}
	if engine != nil {
		err = errors.Join(err, engine.Close())
	}
	if now, _ := g.current(); now.number != next.number { // a switch that has failed may be done
		err = errors.Join(err, g.remove(g.folder(next.number)))
	}
	return nil, err
}

// unused tells whether a crash came before GENERATION was first written.
func (g generations) unused(ctx context.Context) bool {
	newest, err := g.newest()
	if err != nil {
		return false
	}
	engine, err := g.open(ctx, newest)
	if err != nil {
		return false
	}
	shards, err := engine.Shards()
	return errors.Join(err, engine.Close()) == nil && len(shards) == 0
}

// newest returns the highest number of a generation that there is anything of, 0 if
// there is nothing.
func (g generations) newest() (newest int, err error) {
	entries, err := g.fsys.ReadDir(g.dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return 0, err
	}
	for _, e := range entries {
		if number, _, ok := numberOf(e.Name()); ok {
			newest = max(newest, number)
		}
	}
	return newest, nil
}

// numberOf returns the number in the name of a folder of a generation.
func numberOf(name string) (number int, isDamaged, ok bool) {
	digits, isSound := strings.CutPrefix(name, generationPrefix)
	if !isSound {
		if digits, isDamaged = strings.CutPrefix(name, damagedPrefix); !isDamaged {
			return 0, false, false
		}
	}
	number, err := strconv.Atoi(digits)
	return number, isDamaged, err == nil && number > 0 && strconv.Itoa(number) == digits
}

// switchTo makes a generation the current one, durably.
func (g generations) switchTo(next generation) error {
	return files.ReplaceText(g.fsys, g.file(), next.text())
}

// spoil makes sure that a generation is not opened again. It needs no room on the
// disk.
func (g generations) spoil(number int) error {
	err := g.fsys.Rename(g.folder(number), filepath.Join(g.dir, damagedPrefix+strconv.Itoa(number)))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return g.fsys.SyncDir(g.dir)
}

// sweep removes all generations but the current one, and what crashes have left of
// files.
func (g generations) sweep(current int) {
	entries, _ := g.fsys.ReadDir(g.dir)
	for _, e := range entries {
		path := filepath.Join(g.dir, e.Name())
		var err error
		switch number, isDamaged, ok := numberOf(e.Name()); {
		case ok && (isDamaged || number != current):
			err = g.remove(path)
		case strings.HasPrefix(e.Name(), files.TempPrefix):
			err = g.fsys.Remove(path)
		}
		if err != nil {
			logger.Warnw("old top-level index not removed", "path", path, "err", err)
		}
	}
}

// remove removes a folder of a generation and the files in it.
func (g generations) remove(folder string) error {
	entries, err := g.fsys.ReadDir(folder)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	errs := []error{err}
	for _, e := range entries {
		errs = append(errs, g.fsys.Remove(filepath.Join(folder, e.Name())))
	}
	return errors.Join(append(errs, g.fsys.Remove(folder))...)
}
