package layer

import (
	"bytes"
	"context"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
)

// merged returns the records that Merge writes.
func merged(t *testing.T, from []*Layer, keep func(uint32) bool) []Record {
	t.Helper()
	var b bytes.Buffer
	w := NewWriter(&b)
	w.limit = 500
	require.NoError(t, Merge(context.Background(), w, from, keep, nil))
	_, _, err := w.Finish()
	require.NoError(t, err)
	l, err := FromBytes(b.Bytes())
	require.NoError(t, err)
	require.NoError(t, l.Verify(context.Background()))
	records, err := all(l)
	require.NoError(t, err)
	return records
}

func TestMergingKeepsEachRecordOnceAndDropsDeadShards(t *testing.T) {
	for n := range 7 {
		var from []*Layer
		var want []Record
		for i := range n {
			// Those of one seed have fingerprints in common, and some are empty.
			records := randomRecords(uint64(i/2), i*400, 5)
			from = append(from, open(t, small.write(t, records), i%2 == 0))
			want = append(want, records...)
		}
		slices.SortFunc(want, Record.Compare)
		want = slices.Compact(want)
		require.True(t, slices.Equal(want, merged(t, from, nil)))

		alive := func(shard uint32) bool { return shard != 2 }
		want = slices.DeleteFunc(want, func(r Record) bool { return !alive(r.Shard) })
		require.True(t, slices.Equal(want, merged(t, from, alive)))
		require.Empty(t, merged(t, from, func(uint32) bool { return false }))
	}
}

func TestMergingRestsAndEndsWithItsContext(t *testing.T) {
	const n = 3*restAfter + 10
	l, err := FromBytes(ordinary.write(t, randomRecords(1, n, 9)))
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	rests, kept := 0, 0
	keep := func(uint32) bool { kept++; return true }
	rest := func(records int) {
		require.Equal(t, restAfter, records)
		rests++
		if rests == 2 {
			cancel()
		}
	}
	require.ErrorIs(t, Merge(ctx, NewWriter(&bytes.Buffer{}), []*Layer{l}, keep, rest), context.Canceled)
	require.Equal(t, 2, rests)
	require.Equal(t, 2*restAfter, kept, "nothing is merged after the end")

	require.NoError(t, Merge(context.Background(), NewWriter(&bytes.Buffer{}), []*Layer{l}, nil, rest))
	require.Equal(t, 2+3, rests)
}

func TestMergingEndsWhenItCannotWrite(t *testing.T) {
	l, err := FromBytes(small.write(t, randomRecords(1, 100, 9)))
	require.NoError(t, err)
	w := NewWriter(&bytes.Buffer{})
	_, _, err = w.Finish()
	require.NoError(t, err)
	require.ErrorIs(t, Merge(context.Background(), w, []*Layer{l}, nil, nil), errFinished)
}
