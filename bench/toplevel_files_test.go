package bench

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/filecoin-project/dagstore/internal/files"
	"github.com/filecoin-project/dagstore/internal/journal"
)

// filesIn returns the names of the files in a folder, in order.
func filesIn(tb testing.TB, dir string) []string {
	tb.Helper()
	entries, err := os.ReadDir(dir)
	require.NoError(tb, err)
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

// namedFiles returns the names of the files that a top-level index says it has, in
// order. It reads them by their description, without the code of the index.
func namedFiles(tb testing.TB, dir string) []string {
	tb.Helper()
	current, err := os.ReadFile(filepath.Join(dir, "CURRENT"))
	require.NoError(tb, err)
	var number uint64
	_, err = fmt.Sscanf(string(current), "dagstore inverted index 1\njournal %d\n", &number)
	require.NoError(tb, err)
	name := fmt.Sprintf("journal-%d", number)
	layers := map[string]bool{}
	_, err = journal.Read(files.OS, filepath.Join(dir, name), journal.Position{}, func(entry []byte) error {
		return readLayers(entry, layers)
	})
	require.NoError(tb, err)
	return append([]string{"CURRENT", name}, slices.Sorted(maps.Keys(layers))...)
}

// readLayers reads an entry of the journal: the layers that it adds and drops.
func readLayers(entry []byte, layers map[string]bool) error {
	r := bytes.NewReader(entry)
	numbers := func(n uint64) (last uint64) {
		for range n {
			last, _ = binary.ReadUvarint(r)
		}
		return last
	}
	skip := func(n uint64) { _, _ = r.Seek(int64(n), io.SeekCurrent) }
	for r.Len() > 0 {
		switch kind := numbers(1); kind {
		case 1: // begin: version, secret, three numbers
			numbers(1)
			skip(16)
			numbers(3)
		case 2: // shard: number, key
			skip(numbers(2))
		case 3: // records: addition, 20 bytes each
			skip(20 * numbers(2))
		case 4: // layer: number, records, bytes, two numbers for each shard
			layers[fmt.Sprintf("layer-%d", numbers(1))] = true
			numbers(2)
			numbers(2 * numbers(1))
		case 5: // drop
			name := fmt.Sprintf("layer-%d", numbers(1))
			if !layers[name] {
				return errors.New(name + " is dropped and was never there")
			}
			delete(layers, name)
		case 6, 7: // gathered, dead
			numbers(1)
		default:
			return fmt.Errorf("part of kind %d in an entry", kind)
		}
	}
	return nil
}
