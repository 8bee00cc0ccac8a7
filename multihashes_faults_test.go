package dagstore

import (
	"context"
	"errors"
	"io/fs"
	"iter"
	"math/rand/v2"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"testing"

	carindex "github.com/ipld/go-car/v2/index"
	mh "github.com/multiformats/go-multihash"
	"github.com/stretchr/testify/require"

	"github.com/filecoin-project/dagstore/index"
	"github.com/filecoin-project/dagstore/internal/cartest"
	"github.com/filecoin-project/dagstore/internal/guard"
	"github.com/filecoin-project/dagstore/shard"
)

// requireNoIndexOpen checks that nobody has the index of a shard open any more:
// after that was dropped, its file is mapped only as long as it is in use.
func requireNoIndexOpen(t *testing.T, r *rig, k string) {
	t.Helper()
	require.NoError(t, r.destroy(k))
	if runtime.GOOS != "linux" {
		return
	}
	require.NotContains(t, string(readFile(t, "/proc/self/maps")), filepath.Dir(r.config.TransientsDir), "the folder of this test")
}

func TestNothingStaysOpenHoweverTheIterationEnds(t *testing.T) {
	defer debug.SetGCPercent(debug.SetGCPercent(-1)) // which would release what was forgotten
	for name, use := range map[string]func(*testing.T, *rig){
		"to its end": func(t *testing.T, r *rig) {
			_, err := kept(r.ShardMultihashes(t.Context(), key("a"), everything))
			require.NoError(t, err)
		},
		"break": func(t *testing.T, r *rig) {
			for range r.ShardMultihashes(t.Context(), key("a"), everything) {
				break
			}
			for range r.AllMultihashes(t.Context(), everything, ShardMultihash{}) {
				break
			}
		},
		"panic of the caller": func(t *testing.T, r *rig) {
			require.PanicsWithValue(t, "caller", func() {
				for range r.ShardMultihashes(t.Context(), key("a"), everything) {
					panic("caller")
				}
			})
			require.PanicsWithValue(t, "caller", func() {
				for range r.AllMultihashes(t.Context(), everything, ShardMultihash{}) {
					panic("caller")
				}
			})
		},
		"end of the goroutine": func(t *testing.T, r *rig) {
			done := make(chan struct{})
			go func() {
				defer close(done)
				for range r.ShardMultihashes(t.Context(), key("a"), everything) {
					runtime.Goexit()
				}
			}()
			<-done
		},
		"pulled and stopped": func(t *testing.T, r *rig) {
			next, stop := iter.Pull2(r.AllMultihashes(t.Context(), everything, ShardMultihash{}))
			_, err, ok := next()
			require.True(t, ok)
			require.NoError(t, err)
			stop()
		},
		"context": func(t *testing.T, r *rig) {
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			for _, err := range r.ShardMultihashes(ctx, key("a"), everything) {
				cancel()
				if err != nil {
					require.ErrorIs(t, err, context.Canceled)
				}
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T) { // which fails if a goroutine is left
				r := newRig(t, inFolder(t))
				r.sources["a"].data = cartest.V1(nil, manyBlocks())
				require.NoError(t, r.register("a"))
				use(t, r)
				requireNoIndexOpen(t, r, "a")
			})
		})
	}
}

func TestAnOpenIterationDoesNotHoldUpTheStore(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		r := newRig(t, inFolder(t))
		r.sources["a"].data = cartest.V1(nil, manyBlocks())
		require.NoError(t, r.register("a"))
		var got []mh.Multihash
		for h, err := range r.ShardMultihashes(t.Context(), key("a"), everything) {
			require.NoError(t, err)
			if got = append(got, slices.Clone(h)); len(got) == 1000 {
				require.NoError(t, r.destroy("a"))
				require.NoError(t, r.register("a"))
				require.NoError(t, r.destroy("a"))
			}
		}
		require.Equal(t, sortedHashes(manyBlocks()), got, "the index that it began with")
	})
}

// A lyingRepo has indices whose ranges are what it wants.
type lyingRepo struct {
	index.FullIndexRepo
	ranges func(r index.MultihashRange, visit func(mh.Multihash, uint64) bool) error
}

type lyingIndex struct {
	carindex.IterableIndex
	ranges func(r index.MultihashRange, visit func(mh.Multihash, uint64) bool) error
}

func (r *lyingRepo) GetFullIndex(k shard.Key) (carindex.Index, error) {
	idx, err := r.FullIndexRepo.GetFullIndex(k)
	if err != nil {
		return nil, err
	}
	return lyingIndex{idx.(carindex.IterableIndex), r.ranges}, nil
}

func (l lyingIndex) ForEachInRange(r index.MultihashRange, visit func(mh.Multihash, uint64) bool) error {
	return l.ranges(r, visit)
}

func TestAForeignIndexThatMisbehavesIsAnErrorAndNoMore(t *testing.T) {
	hashes := sortedHashes(manyBlocks())
	for name, c := range map[string]struct {
		ranges func(index.MultihashRange, func(mh.Multihash, uint64) bool) error
		want   func(error) bool
	}{
		"panics": {
			func(index.MultihashRange, func(mh.Multihash, uint64) bool) error { panic("foreign") },
			func(err error) bool { return errors.As(err, new(*guard.PanicError)) },
		},
		"begins anew for ever": {
			func(_ index.MultihashRange, visit func(mh.Multihash, uint64) bool) error {
				for _, h := range hashes {
					if !visit(h, 59) {
						return nil
					}
				}
				return nil
			},
			func(err error) bool { return errors.Is(err, errOutOfOrder) },
		},
		"does not stop": {
			func(r index.MultihashRange, visit func(mh.Multihash, uint64) bool) error {
				for _, h := range hashes {
					if len(r.After) == 0 || index.CompareMultihashes(h, r.After) > 0 {
						visit(h, 59)
					}
				}
				return nil
			},
			func(err error) bool { return err == nil },
		},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				r := newRig(t, func(cfg *Config) { cfg.IndexRepo = &lyingRepo{index.NewMemoryRepo(), c.ranges} })
				require.NoError(t, r.register("a"))
				got, err := kept(r.ShardMultihashes(t.Context(), key("a"), everything))
				require.True(t, c.want(err), "%v", err)
				if err == nil {
					require.Equal(t, hashes, got)
				}
			})
		})
	}
}

func TestIteratingBesideEverythingElse(t *testing.T) {
	for seed := range uint64(4) {
		inBubble(t, func(t *testing.T) {
			r := newRig(t, inFolder(t))
			var callers sync.WaitGroup
			for i := range uint64(3) {
				callers.Go(func() { r.callAtRandom(t, rand.New(rand.NewPCG(seed, i))) })
			}
			for range 3 {
				callers.Go(func() {
					for range 30 {
						last := ShardMultihash{}
						for m, err := range r.AllMultihashes(t.Context(), everything, last) {
							if err != nil {
								require.ErrorIs(t, err, fs.ErrNotExist) // being indexed again
								continue
							}
							order := strings.Compare(last.Shard.String(), m.Shard.String())
							require.True(t, order < 0 || order == 0 && index.CompareMultihashes(last.Multihash, m.Multihash) < 0)
							last = ShardMultihash{m.Shard, slices.Clone(m.Multihash)}
						}
					}
				})
			}
			callers.Wait()
			require.NoError(t, r.Close())
		})
	}
}

func TestIteratingAllocatesNothingForEachMultihash(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		r := newRig(t, inFolder(t))
		r.sources["a"].data = cartest.V1(nil, manyBlocks())
		require.NoError(t, r.register("a"))
		n := 0
		allocs := testing.AllocsPerRun(10, func() {
			n = 0
			for range r.ShardMultihashes(t.Context(), key("a"), everything) {
				n++
			}
		})
		require.Equal(t, 4000, n)
		require.Less(t, allocs, 150.0)
	})
}
