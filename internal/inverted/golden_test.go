package inverted

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/multiformats/go-multihash"
	"github.com/stretchr/testify/require"

	"github.com/filecoin-project/dagstore/internal/files"
	"github.com/filecoin-project/dagstore/internal/journal"
)

// goldenOdd is the key of a shard with odd multihashes.
const goldenOdd = "odd/../\xff\x00"

// A golden is an index that was made by version 1 and is described in the README.md
// beside its folder.
type golden struct {
	name   string
	shards []goldenShard     // in their order
	extra  map[string]string // other multihashes, and the keys of their shards
	gone   map[string]int    // keys of removed shards, each with how many multihashes of its own it had
}

type goldenShard struct {
	key string
	own int
}

var goldens = []golden{
	{
		name: "index",
		shards: []goldenShard{
			{"large", 420}, {"merged", 39}, {"merged too", 44}, {"gathered", 6}, {"gathered too", 5},
			{goldenOdd, 0}, {"small", 3}, {"empty", 0}, {"last", 2},
		},
		extra: map[string]string{"later": "large"},
		gone:  map[string]int{"dead": 9, "small and dead": 2},
	},
	{
		name: "replaced",
		shards: []goldenShard{
			{"one", 20}, {"two", 16}, {"gathered", 5}, {"gathered too", 5},
			{"small", 1}, {strings.Repeat("k", 200), 1}, {"later", 1}, {"layered", 8},
		},
		extra: map[string]string{"more": "one"},
		gone:  map[string]int{"dead": 10, "small and dead": 0, "three": 15},
	},
}

func (g golden) dir() string { return filepath.Join("..", "..", "testdata", "toplevel-v1", g.name) }

// copied returns a folder that is one's own.
func (g golden) copied(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	require.NoError(t, os.CopyFS(dir, os.DirFS(g.dir())))
	return dir
}

// textMultihash returns the sha2-256 multihash of a text.
func textMultihash(t *testing.T, text string) []byte {
	t.Helper()
	mh, err := multihash.Sum([]byte(text), multihash.SHA2_256, -1)
	require.NoError(t, err)
	return mh
}

func (g golden) requireSame(t *testing.T, x *Index) {
	t.Helper()
	var all, common []string
	for _, s := range g.shards {
		all = append(all, s.key)
		for i := range s.own {
			requireShards(t, x, textMultihash(t, fmt.Sprintf("%s %d", s.key, i)), s.key)
		}
		requireShards(t, x, textMultihash(t, fmt.Sprintf("%s %d", s.key, s.own)))
		if s.key != "empty" {
			common = append(common, s.key)
		}
		if s.key == goldenOdd {
			requireOdd(t, x)
		}
	}
	requireShards(t, x, textMultihash(t, "common"), common...)
	for text, key := range g.extra {
		requireShards(t, x, textMultihash(t, text), key)
	}
	for key, own := range g.gone {
		for i := range own {
			requireShards(t, x, textMultihash(t, fmt.Sprintf("%s %d", key, i)))
		}
	}
	shards, err := x.Shards()
	require.NoError(t, err)
	require.Equal(t, all, shards)
	require.NoError(t, x.Verify(t.Context()))
}

func requireOdd(t *testing.T, x *Index) {
	t.Helper()
	digest := sha256.Sum256([]byte("common"))
	requireShards(t, x, []byte("\x00\x05hello"), goldenOdd)
	requireShards(t, x, []byte{multihash.SHA2_256, 0}, goldenOdd)
	requireShards(t, x, append([]byte{multihash.SHA3_256, 32}, digest[:]...), goldenOdd)
}

func TestAnIndexOfVersion1IsReadForEver(t *testing.T) {
	for _, g := range goldens {
		t.Run(g.name, func(t *testing.T) {
			dir := g.copied(t)
			x := mustOpenReader(t, dir, Options{})
			g.requireSame(t, x)
			require.NoError(t, x.Close())
			before, err := os.ReadDir(g.dir())
			require.NoError(t, err)
			after, err := os.ReadDir(dir)
			require.NoError(t, err)
			require.Len(t, after, len(before))
			for _, e := range before {
				want, err := os.ReadFile(filepath.Join(g.dir(), e.Name()))
				require.NoError(t, err)
				got, err := os.ReadFile(filepath.Join(dir, e.Name()))
				require.NoError(t, err)
				require.Equal(t, want, got, "a reader changes nothing in %s", e.Name())
			}
		})
	}
}

func TestAnIndexOfVersion1IsWrittenForEver(t *testing.T) {
	for _, g := range goldens {
		for name, o := range map[string]Options{"as always": {}, "merging all": {sizes: tiny}} {
			t.Run(g.name+" "+name, func(t *testing.T) {
				dir := g.copied(t)
				x := mustOpen(t, dir, o)
				g.requireSame(t, x)
				mustAdd(t, x, "new", span(0, 500))
				mustAdd(t, x, "newer", span(0, 5))
				require.NoError(t, x.Remove(t.Context(), "new"))
				mustWait(t, x)
				require.NoError(t, x.Close())
				x = mustOpen(t, dir, o)
				requireShards(t, x, multihashOf(0), "newer")
				require.NoError(t, x.Remove(t.Context(), "newer"))
				g.requireSame(t, x)
				mustWait(t, x)
				requireNoLeaks(t, x, dir)
			})
		}
	}
}

// kinds are what there is in a folder, beside what every folder has.
type kinds map[string]bool

func (k kinds) note(kind string, is bool) {
	if is {
		k[kind] = true
	}
}

func (k kinds) noteEntry(c *change) {
	k.note("begin after additions", c.begin != nil && c.begin.additions > 0)
	k.note("several shards", len(c.shards) > 1)
	for _, s := range c.shards {
		k.note("long key", len(s.key) > 127)
	}
	for _, a := range c.memory {
		k.note("records", a.addition == 0)
		k.note("records with their number", a.addition > 0)
	}
	k.note("several layers", len(c.added) > 1)
	for _, l := range c.added {
		k.note("layer with shares", len(l.shares) > 0)
		k.note("layer without shares", len(l.shares) == 0)
	}
	k.note("drop", len(c.dropped) > 0)
	k.note("gathered", c.gathered > 0)
	k.note("dead", len(c.dead) > 0)
}

// noteLayer notes what the directory at the end of a layer says.
func (k kinds) noteLayer(b []byte) {
	footer := len(b) - 32
	partitions := int(binary.LittleEndian.Uint32(b[footer+8:]))
	k.note("several partitions", partitions > 1)
	for i := range partitions {
		segment := binary.LittleEndian.Uint32(b[footer-48*(i+1)+32:])
		k.note("filter", segment > 0)
		k.note("no filter", segment == 0)
	}
}

func TestTheIndicesOfVersion1HaveTheseKindsOfEntriesAndLayers(t *testing.T) {
	got := kinds{}
	for _, g := range goldens {
		f := folder{files.OS, g.dir()}
		current, err := f.readCurrent()
		require.NoError(t, err)
		_, err = journal.Read(f.fsys, f.journal(current.journal), journal.Position{}, func(entry []byte) error {
			c, err := decode(entry)
			require.NoError(t, err)
			got.noteEntry(c)
			return nil
		})
		require.NoError(t, err)
		found, err := f.list()
		require.NoError(t, err)
		for _, number := range found.layers {
			b, err := os.ReadFile(f.layer(number))
			require.NoError(t, err)
			got.noteLayer(b)
		}
	}
	require.ElementsMatch(t, []string{
		"begin after additions", "several shards", "long key", "records", "records with their number",
		"several layers", "layer with shares", "layer without shares", "drop", "gathered", "dead",
		"several partitions", "filter", "no filter",
	}, slices.Collect(maps.Keys(got)))
}
