package inverted

import (
	"context"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/filecoin-project/dagstore/internal/files"
)

// A model is what an index should know: its shards in their order, with their
// multihashes.
type model struct {
	order []string
	holds map[string]map[int]bool
}

func newModel() *model { return &model{holds: map[string]map[int]bool{}} }

func (m *model) add(key string, from, to int) {
	if m.holds[key] == nil {
		m.order = append(m.order, key)
		m.holds[key] = map[int]bool{}
	}
	for i := from; i < to; i++ {
		m.holds[key][i] = true
	}
}

func (m *model) remove(key string) {
	delete(m.holds, key)
	m.order = slices.DeleteFunc(m.order, func(k string) bool { return k == key })
}

func (m *model) lookup(i int) (keys []string) {
	for _, key := range m.order {
		if m.holds[key][i] {
			keys = append(keys, key)
		}
	}
	return keys
}

// requireSame compares an index with the model, for all multihashes below n.
func (m *model) requireSame(t *testing.T, x *Index, n int) {
	t.Helper()
	shards, err := x.Shards()
	require.NoError(t, err)
	require.Equal(t, len(m.order), len(shards))
	if len(shards) > 0 {
		require.Equal(t, m.order, shards)
	}
	many := make([][]byte, n)
	for i := range n {
		many[i] = multihashOf(i)
		got, err := x.Lookup(many[i])
		require.NoError(t, err)
		if want := m.lookup(i); !slices.Equal(want, got) {
			require.Equal(t, want, got, "multihash %d", i)
		}
	}
	answers, err := x.LookupMany(many)
	require.NoError(t, err)
	for i, got := range answers {
		if want := m.lookup(i); !slices.Equal(want, got) {
			require.Equal(t, want, got, "multihash %d of many", i)
		}
	}
}

func TestAnswersAreThoseOfAMapWhateverIsDone(t *testing.T) {
	for name, open := range map[string]func(t *testing.T, dir string) (writer, reader *Index){
		"in memory": func(t *testing.T, _ string) (*Index, *Index) {
			return InMemory(Options{sizes: tiny}), nil
		},
		"mapped": func(t *testing.T, dir string) (*Index, *Index) {
			return mustOpen(t, dir, Options{sizes: tiny}), mustOpenReader(t, dir, Options{sizes: tiny})
		},
		"not mapped": func(t *testing.T, dir string) (*Index, *Index) {
			o := Options{FS: unmapped{unsynced{files.OS}}, sizes: tiny}
			return mustOpen(t, dir, o), mustOpenReader(t, dir, o)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for seed := range uint64(2) {
				dir := t.TempDir()
				walk(t, rand.New(rand.NewPCG(seed, 7)), func() (*Index, *Index) { return open(t, dir) }, name != "in memory")
			}
		})
	}
}

// walk does random things to an index and a model, and compares them.
func walk(t *testing.T, random *rand.Rand, open func() (*Index, *Index), canReopen bool) {
	const all = 300
	m := newModel()
	x, reader := open()
	for range 50 {
		key := shardName(random.IntN(20))
		switch from := random.IntN(all); random.IntN(12) {
		case 0, 1, 2, 3: // small
			to := min(from+random.IntN(8), all)
			mustAdd(t, x, key, span(from, to))
			m.add(key, from, to)
		case 4, 5, 6: // one layer or several
			to := min(from+random.IntN(200), all)
			mustAdd(t, x, key, span(from, to))
			m.add(key, from, to)
		case 7, 8, 9:
			require.NoError(t, x.Remove(t.Context(), key))
			m.remove(key)
		case 10:
			mustWait(t, x)
		case 11:
			if canReopen {
				require.NoError(t, x.Close())
				require.NoError(t, reader.Close())
				x, reader = open()
			}
		}
		if random.IntN(6) == 0 {
			m.requireSame(t, x, all)
			if reader != nil {
				m.requireSame(t, reader, all)
			}
		}
	}
	mustWait(t, x)
	m.requireSame(t, x, all)
	require.NoError(t, x.Verify(t.Context()))
	if reader != nil {
		m.requireSame(t, reader, all)
		require.NoError(t, reader.Verify(t.Context()))
		requireNoLeaks(t, x, x.folder.dir)
		require.NoError(t, reader.Close())
	}
	require.NoError(t, x.Close())
}

func TestHostileMultihashesAreToldApart(t *testing.T) {
	digest := make([]byte, 32)
	long := make([]byte, 128)
	mhs := map[string][]byte{
		"sha2-256":            append([]byte{0x12, 32}, digest...),
		"sha3-256":            append([]byte{0x16, 32}, digest...),
		"blake2b-256":         append([]byte{0xa0, 0xe4, 0x02, 32}, digest...),
		"no digest":           {0x12, 0},
		"no digest, identity": {0x00, 0},
		"128 bytes":           append([]byte{0x13, 0x80, 0x01}, long...),
		"identity, 128 bytes": append([]byte{0x00, 0x80, 0x01}, long...),
		"identity of another": append([]byte{0x00, 34}, append([]byte{0x12, 32}, digest...)...),
		"identity, a journal": append([]byte{0x00, 8}, "dagsjrnl"...),
		"empty":               {},
		"a megabyte":          make([]byte, 1<<20),
	}
	for _, x := range []*Index{InMemory(Options{}), mustOpen(t, t.TempDir(), Options{})} {
		for name, mh := range mhs {
			mustAdd(t, x, name, these(mh, mh))
		}
		for name, mh := range mhs {
			requireShards(t, x, mh, name)
		}
		requireShards(t, x, multihashOf(1))
		require.NoError(t, x.Close())
	}
}

func TestKeysMayBeAnyBytes(t *testing.T) {
	dir := t.TempDir()
	x := mustOpen(t, dir, Options{})
	keys := []string{"", "../../etc/passwd", "a\nb\x00", string(make([]byte, 2<<20))}
	for _, key := range keys {
		mustAdd(t, x, key, span(0, 1))
	}
	require.NoError(t, x.Close())
	x = mustOpen(t, dir, Options{})
	requireShards(t, x, multihashOf(0), keys...)
	require.NoError(t, x.Remove(context.Background(), ""))
	requireShards(t, x, multihashOf(0), keys[1:]...)
}

func TestTheLongestKeysAreInEveryJournal(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	x := mustOpen(t, dir, Options{sizes: sizes{small: 8, journal: 1}})
	keys := []string{strings.Repeat("a", maxKey), strings.Repeat("b", 1<<20-20), strings.Repeat("c", maxKey)}
	mustAdd(t, x, keys[0], span(0, 8))
	mustWait(t, x)
	mustAdd(t, x, keys[1], span(0, 8))
	mustAdd(t, x, keys[2], span(0, 9))
	mustWait(t, x)
	require.Equal(t, uint64(3), x.log.number, "another journal has all")
	require.Error(t, x.Add(t.Context(), keys[0]+"a", span(0, 1)))
	require.NoError(t, x.Close())
	x = mustOpen(t, dir, Options{})
	got, err := x.Lookup(multihashOf(0))
	require.NoError(t, err)
	require.True(t, slices.Equal(keys, got))
}
