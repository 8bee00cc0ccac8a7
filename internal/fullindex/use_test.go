package fullindex_test

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"math/rand/v2"
	"sync"
	"testing"

	"github.com/ipfs/go-cid"
	"github.com/multiformats/go-multihash"
	"github.com/stretchr/testify/require"

	"github.com/filecoin-project/dagstore/internal/fullindex"
)

func TestLookingUpAndListingAllocateNothing(t *testing.T) {
	if raceDetector {
		t.Skip("the race detector allocates what the compiler does not")
	}
	b, cids := uniform(t, 20_000)
	found := 0
	visit := func(uint64) bool {
		found++
		return true
	}
	var sum uint64
	add := func(_ uint64, digest []byte, offset uint64) error {
		sum += offset + uint64(digest[0])
		return nil
	}
	for _, f := range open(t, b) {
		if f.name == "file" {
			continue // it has to read somewhere
		}
		i := 0
		next := func() cid.Cid {
			i++
			return cids[i*7919%len(cids)]
		}
		for range 1000 { // after which it has learnt where digests are
			require.NoError(t, f.index.GetAll(next(), visit))
		}
		for name, use := range map[string]func(){
			"MultihashOf": func() { _, _, _, _ = fullindex.MultihashOf(next()) },
			"Find and Next": func() {
				code, digest, _, _ := fullindex.MultihashOf(next())
				m := f.index.Find(code, digest)
				for _, ok := m.Next(); ok; _, ok = m.Next() {
					found++
				}
			},
			"Find of what is not there": func() {
				code, digest, _, _ := fullindex.MultihashOf(next())
				m := f.index.Find(code, digest[1:])
				_, _ = m.Next()
			},
			"GetAll":     func() { _ = f.index.GetAll(next(), visit) },
			"EachRecord": func() { _ = f.index.EachRecord(add) },
		} {
			require.Zero(t, testing.AllocsPerRun(20, use), "%s, %s", name, f.name)
		}
	}
	require.NotZero(t, found)
	require.NotZero(t, sum)
}

func TestAfterCloseEverythingIsClosed(t *testing.T) {
	b, cids := uniform(t, 100)
	for _, f := range open(t, b) {
		if f.name == "memory" {
			require.NoError(t, f.index.Close())
			require.NoError(t, f.index.Verify(t.Context()), "there is nothing to close")
			continue
		}
		require.NoError(t, f.index.Close())
		require.NoError(t, f.index.Close())
		for name, err := range uses(f.index, cids[0]) {
			require.ErrorIs(t, err, fs.ErrClosed, name)
			require.NotErrorIs(t, err, fullindex.ErrMalformed, name)
		}
		require.EqualValues(t, 100, f.index.Len())
		require.EqualValues(t, len(b), f.index.Size())
	}
}

// uses are the errors of all calls that need the bytes of an index.
func uses(x *fullindex.Index, c cid.Cid) map[string]error {
	errs := map[string]error{}
	_, errs["GetAll"] = offsets(x, c)
	_, errs["EachRecord"] = recordsOf(x)
	errs["Each"] = x.Each(func(multihash.Multihash, uint64) error { return nil })
	_, errs["EachInRange"] = inRange(x, span{after: c.Hash()})
	_, errs["Record"] = x.Record(5)
	_, errs["Multihashes"] = x.Multihashes(5, 20)
	_, errs["Marshal"] = x.Marshal(io.Discard)
	errs["Verify"] = x.Verify(context.Background())
	return errs
}

func TestClosingBesideUsesDoesNotKillTheProcess(t *testing.T) {
	b, cids := uniform(t, 3000)
	path := makeFile(t, b)
	for round := range 20 {
		x, err := openFile(t, path, round%4 != 0)
		require.NoError(t, err)
		var users, started sync.WaitGroup
		for seed := range uint64(3) {
			started.Add(1)
			users.Go(func() {
				r := rand.New(rand.NewPCG(uint64(round), seed))
				begun := sync.OnceFunc(started.Done)
				for {
					for name, err := range uses(x, cids[r.IntN(len(cids))]) {
						begun()
						if errors.Is(err, fs.ErrClosed) {
							return
						}
						if err != nil {
							t.Errorf("%s beside Close: %v", name, err)
							return
						}
					}
				}
			})
		}
		started.Wait()
		require.NoError(t, x.Close())
		users.Wait()
	}
}

func TestCloseDoesNotWaitForTheEndOfALargeIndex(t *testing.T) {
	requireCloseEnds(t, 80_000, func(x *fullindex.Index, visit func()) error { // three megabytes
		return x.EachRecord(func(uint64, []byte, uint64) error {
			visit()
			return nil
		})
	})
}

// requireCloseEnds requires that Close, which begins at the first visit, ends a walk
// through an index before the walk has come halfway.
func requireCloseEnds(t *testing.T, records int, walk func(x *fullindex.Index, visit func()) error) {
	t.Helper()
	b, _ := uniform(t, records)
	path := makeFile(t, b)
	for _, mapIt := range []bool{true, false} {
		x, err := openFile(t, path, mapIt)
		require.NoError(t, err)
		closed := make(chan error, 1)
		visits := 0
		err = walk(x, func() {
			if visits++; visits == 1 {
				go func() { closed <- x.Close() }()
				for { // until Close has begun
					if _, err := x.Record(0); err != nil {
						require.ErrorIs(t, err, fs.ErrClosed)
						break
					}
				}
			}
		})
		require.ErrorIs(t, err, fs.ErrClosed)
		require.Less(t, visits, records/2)
		require.NoError(t, <-closed)
	}
}
