package index

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/filecoin-project/dagstore/internal/files"
)

// The index itself is in a folder of its generation, so that another can be made
// beside it, and be put into its place by replacing one small file that names it.
const (
	generationFile   = "GENERATION"
	generationPrefix = "generation-"
)

func generationFolder(dir string, generation int) string {
	return filepath.Join(dir, generationPrefix+strconv.Itoa(generation))
}

// currentGeneration returns the generation in use, 0 if there is none yet.
func currentGeneration(dir string) (int, error) {
	b, err := os.ReadFile(filepath.Join(dir, generationFile))
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	n, err := strconv.Atoi(strings.TrimSpace(string(b)))
	if err != nil || n < 1 {
		return 0, fmt.Errorf("%w: %s holds %q", ErrDamaged, generationFile, b)
	}
	return n, nil
}

// switchTo makes a generation the current one, durably.
func switchTo(dir string, generation int) error {
	err := files.Replace(files.OS, filepath.Join(dir, generationFile), func(w io.Writer) error {
		_, err := fmt.Fprintf(w, "%d\n", generation)
		return err
	})
	if err != nil {
		return fmt.Errorf("top-level index: %w", err)
	}
	return nil
}

// generations returns all generations that have folders.
func generations(dir string) (all []int) {
	entries, _ := os.ReadDir(dir)
	for _, e := range entries {
		name, ok := strings.CutPrefix(e.Name(), generationPrefix)
		if n, err := strconv.Atoi(name); ok && err == nil && e.IsDir() && strconv.Itoa(n) == name {
			all = append(all, n)
		}
	}
	return all
}

func newestGeneration(dir string) (newest int) {
	for _, n := range generations(dir) {
		newest = max(newest, n)
	}
	return newest
}

// sweepGenerations removes the generations before the current one, and what crashes
// have left of files. A newer one may be one that RebuildFSInverted is to finish.
func sweepGenerations(dir string, current int) {
	for _, n := range generations(dir) {
		if n >= current {
			continue
		}
		if err := os.RemoveAll(generationFolder(dir, n)); err != nil {
			logger.Warnw("old top-level index not removed", "folder", generationFolder(dir, n), "err", err)
		}
	}
	leftovers, _ := filepath.Glob(filepath.Join(dir, files.TempPrefix+"*"))
	for _, path := range leftovers {
		_ = os.Remove(path) // else the next time
	}
}
