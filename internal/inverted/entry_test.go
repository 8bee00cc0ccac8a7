package inverted

import (
	"context"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"math"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/filecoin-project/dagstore/internal/layer"
)

func exampleChange() *change {
	return &change{
		begin:    &beginning{secret{1, math.MaxUint64}, 7, 8, 9},
		shards:   []named{{1, ""}, {math.MaxUint32, "key"}},
		memory:   []*table{{addition: 3, raw: []layer.Record{{Fingerprint: layer.Fingerprint{Hi: 1, Lo: 2}, Shard: 3}}, records: 1}},
		added:    []*table{{number: 5, records: 6, size: 7, shares: []share{{1, 2}, {300, math.MaxUint32}}}},
		dropped:  []uint64{1, math.MaxUint64},
		gathered: 4,
		dead:     []uint32{0, 9},
	}
}

func TestEntriesAreReadAsTheyWereWritten(t *testing.T) {
	c := exampleChange()
	got, err := decode(c.encode())
	require.NoError(t, err)
	require.Equal(t, c, got)
}

func TestEntriesAreWhatTheFormatSays(t *testing.T) {
	c := exampleChange()
	require.Equal(t, slices.Concat(
		[]byte{1, 1, 1, 0, 0, 0, 0, 0, 0, 0, 255, 255, 255, 255, 255, 255, 255, 255, 7, 8, 9},
		[]byte{2, 1, 0, 2, 255, 255, 255, 255, 15, 3, 'k', 'e', 'y'},
		[]byte{3, 3, 1, 1, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0},
		[]byte{4, 5, 6, 7, 2, 1, 2, 0xab, 2, 255, 255, 255, 255, 15},
		[]byte{5, 1, 5, 255, 255, 255, 255, 255, 255, 255, 255, 255, 1},
		[]byte{6, 4, 7, 0, 7, 9},
	), c.encode())
}

func TestEntriesThatEndEarlyAreDamage(t *testing.T) {
	whole := exampleChange().encode()
	for n := range whole {
		c, err := decode(whole[:n])
		if err == nil {
			require.Equal(t, whole[:n], append([]byte{}, c.encode()...), "a part was cut and not missed")
			continue
		}
		require.ErrorIs(t, err, ErrDamaged)
	}
}

func TestEntriesOfAnotherVersionAreRefusedAsSuch(t *testing.T) {
	entry := exampleChange().encode()
	newer := slices.Clone(entry)
	newer[1] = 2
	for _, entry := range [][]byte{newer, append(entry, partDead+1, 0)} {
		_, err := decode(entry)
		require.ErrorIs(t, err, errors.ErrUnsupported)
		require.NotErrorIs(t, err, ErrDamaged)
	}
}

// A newer program may have written it, and the folder must stay as it is.
func TestAnIndexWithALayerOfAnotherVersionIsRefusedAsSuch(t *testing.T) {
	dir, _ := damageable(t)
	matches, err := filepath.Glob(filepath.Join(dir, layerPrefix+"*"))
	require.NoError(t, err)
	b, err := os.ReadFile(matches[0])
	require.NoError(t, err)
	footer := b[len(b)-32:]
	footer[20] = 2
	sum := crc32.Checksum(slices.Concat(footer[:16], footer[20:]), castagnoli)
	binary.LittleEndian.PutUint32(footer[16:], sum)
	require.NoError(t, os.WriteFile(matches[0], b, 0o666))
	before := filesIn(t, dir)
	for _, open := range []func(context.Context, string, Options) (*Index, error){Open, OpenReader} {
		_, err = open(t.Context(), dir, Options{})
		require.ErrorIs(t, err, errors.ErrUnsupported)
		require.NotErrorIs(t, err, ErrDamaged)
		require.Equal(t, before, filesIn(t, dir))
	}
}

func TestChangesThatContradictEachOtherAreDamage(t *testing.T) {
	begin := &change{begin: &beginning{nextShard: 1, nextLayer: 1}}
	shard := func(number uint32, key string) *change { return &change{shards: []named{{number, key}}} }
	added := func(number uint64) *change { return &change{added: []*table{{number: number}}} }
	for name, changes := range map[string][]*change{
		"no begin":             {shard(1, "a")},
		"two begins":           {begin, begin},
		"a key twice":          {begin, shard(1, "a"), shard(2, "a")},
		"a number twice":       {begin, shard(1, "a"), shard(1, "b")},
		"a layer twice":        {begin, added(1), added(1)},
		"a layer without name": {begin, added(0)},
		"drop of nothing":      {begin, {dropped: []uint64{1}}},
		"death of nobody":      {begin, {dead: []uint32{1}}},
		"death twice":          {begin, shard(1, "a"), {dead: []uint32{1}}, {dead: []uint32{1}}},
	} {
		m := newManifest()
		var err error
		for _, c := range changes {
			require.NoError(t, err, name)
			_, err = m.apply(c)
		}
		require.ErrorIs(t, err, ErrDamaged, name)
	}
}

func FuzzEntry(f *testing.F) {
	f.Add(exampleChange().encode())
	f.Add([]byte{partRecords, 0, 255, 255, 255, 255, 15})
	f.Add([]byte{partShard, 1, 255, 255, 255, 255, 255, 255, 255, 255, 255, 1})
	f.Fuzz(func(t *testing.T, entry []byte) {
		c, err := decode(entry)
		if err != nil {
			return
		}
		again, err := decode(c.encode())
		require.NoError(t, err)
		require.Equal(t, c, again)
		m := newManifest()
		m.begun = c.begin == nil
		if _, err := m.apply(c); err == nil {
			require.NoError(t, m.settle())
		}
	})
}

func FuzzCurrent(f *testing.F) {
	f.Add(current{7, "MARK"}.text())
	f.Fuzz(func(t *testing.T, text string) {
		if c, err := parseCurrent(text); err == nil {
			require.Equal(t, text, c.text())
		}
	})
}

func TestACurrentOfAnotherVersionIsRefusedAsSuch(t *testing.T) {
	text := "dagstore inverted index 2\njournal 7\nMARK\n"
	_, err := parseCurrent(text + "7c8c0bd8\n")
	require.ErrorIs(t, err, ErrDamaged)
	_, err = parseCurrent(text + checksumOf(text))
	require.ErrorIs(t, err, errors.ErrUnsupported)
}
