package inverted

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestLookupAllocatesOnlyItsResult(t *testing.T) {
	for name, x := range map[string]*Index{
		"memory": InMemory(Options{}),
		"folder": mustOpen(t, t.TempDir(), Options{}),
	} {
		mustAdd(t, x, "a", span(0, 20_000))
		mustAdd(t, x, "b", span(0, 5000))
		mustWait(t, x)
		hit, miss := multihashOf(7), multihashOf(30_000)
		require.Equal(t, 1.0, testing.AllocsPerRun(100, func() { _, _ = x.Lookup(hit) }), name)
		require.Zero(t, testing.AllocsPerRun(100, func() { _, _ = x.Lookup(miss) }), name)
		require.Zero(t, testing.AllocsPerRun(100, func() { _, _, _ = x.First(hit) }), name)
		require.NoError(t, x.Close())
	}
}

func TestLookingUpManyAllocatesTheirAnswersTogether(t *testing.T) {
	x := mustOpen(t, t.TempDir(), Options{})
	mustAdd(t, x, "a", span(0, 20_000))
	mustAdd(t, x, "b", span(20_000, 25_000))
	mustWait(t, x)
	var hits, misses [][]byte
	for i := range 1000 {
		hits, misses = append(hits, multihashOf(24*i)), append(misses, multihashOf(50_000+i))
	}
	require.Equal(t, 2.0, testing.AllocsPerRun(10, func() { _, _ = x.LookupMany(hits) }), "answers and keys")
	require.Equal(t, 1.0, testing.AllocsPerRun(10, func() { _, _ = x.LookupMany(misses) }))
}

func TestAMultihashThatManyShardsHaveIsFoundInAll(t *testing.T) {
	x := mustOpen(t, t.TempDir(), Options{sizes: tiny})
	var want []string
	for i := range 300 {
		want = append(want, shardName(i))
		mustAdd(t, x, shardName(i), span(0, 2))
	}
	requireShards(t, x, multihashOf(0), want...)
	mustWait(t, x)
	requireShards(t, x, multihashOf(1), want...)
	many, err := x.LookupMany([][]byte{multihashOf(1), multihashOf(5), multihashOf(1), {}})
	require.NoError(t, err)
	require.Equal(t, [][]string{want, nil, want, nil}, many)
	require.Len(t, append(many[0], "x"), 301)
	require.Equal(t, want, many[2], "answers share memory that can be written to")
}
