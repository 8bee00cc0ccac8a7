package dagstore

import (
	"context"
	"errors"
	"io/fs"
	"iter"
	"math/rand/v2"
	"os"
	"slices"
	"testing"
	"testing/synctest"

	carindex "github.com/ipld/go-car/v2/index"
	"github.com/multiformats/go-multicodec"
	mh "github.com/multiformats/go-multihash"
	"github.com/stretchr/testify/require"

	"github.com/filecoin-project/dagstore/index"
	"github.com/filecoin-project/dagstore/internal/cartest"
	"github.com/filecoin-project/dagstore/shard"
)

// everything is the range that has all multihashes.
var everything index.MultihashRange

// sortedHashes returns the multihashes of blocks, sorted, each once.
func sortedHashes(blocks []cartest.Block) []mh.Multihash {
	var hashes []mh.Multihash
	for _, b := range blocks {
		hashes = append(hashes, b.Cid.Hash())
	}
	slices.SortFunc(hashes, index.CompareMultihashes)
	return slices.CompactFunc(hashes, func(a, b mh.Multihash) bool { return index.CompareMultihashes(a, b) == 0 })
}

// kept returns copies of what is yielded up to the first error, and that.
func kept(all iter.Seq2[mh.Multihash, error]) (hashes []mh.Multihash, err error) {
	for h, err := range all {
		if err != nil {
			return hashes, err
		}
		hashes = append(hashes, slices.Clone(h))
	}
	return hashes, nil
}

// keptOfAll is kept for all shards. It goes on after errors.
func keptOfAll(all iter.Seq2[ShardMultihash, error]) (hashes []ShardMultihash, errs []error) {
	for m, err := range all {
		if err != nil {
			errs = append(errs, err)
			continue
		}
		hashes = append(hashes, ShardMultihash{m.Shard, slices.Clone(m.Multihash)})
	}
	return hashes, errs
}

// ofShards returns the multihashes of the shards of a rig with these keys.
func ofShards(keys ...string) (all []ShardMultihash) {
	for _, k := range keys {
		for _, h := range sortedHashes(blocksOf(int(k[0] - 'a'))) {
			all = append(all, ShardMultihash{key(k), h})
		}
	}
	return all
}

// repositories are kinds of repositories of full indices.
var repositories = map[string]func(*testing.T) func(*Config){
	"memory": func(*testing.T) func(*Config) { return func(*Config) {} },
	"folder": inFolder,
	"foreign": func(*testing.T) func(*Config) {
		return func(c *Config) { c.IndexRepo = reversingRepo{index.NewMemoryRepo()} }
	},
}

// A reversingRepo is one whose indices only iterate, and backwards.
type reversingRepo struct{ index.FullIndexRepo }

type reversed struct{ carindex.IterableIndex }

func (r reversingRepo) GetFullIndex(k shard.Key) (carindex.Index, error) {
	idx, err := r.FullIndexRepo.GetFullIndex(k)
	if err != nil {
		return nil, err
	}
	return reversed{idx.(carindex.IterableIndex)}, nil
}

func (r reversed) ForEach(visit func(mh.Multihash, uint64) error) error {
	var visits []func() error
	err := r.IterableIndex.ForEach(func(h mh.Multihash, offset uint64) error {
		visits = append(visits, func() error { return visit(h, offset) })
		return nil
	})
	for _, v := range slices.Backward(visits) {
		if err := v(); err != nil {
			return err
		}
	}
	return err
}

func TestEveryMultihashOfAShardIsYieldedOnceAndInOrder(t *testing.T) {
	blocks := manyBlocks()
	blocks = append(blocks, blocks[:50]...)
	blocks = append(blocks, cartest.Identity(nil), cartest.Identity([]byte("x")), cartest.Hashed([]byte("y"), mh.SHA2_512, -1))
	for range 6000 { // more than are taken at once
		blocks = append(blocks, blocks[0])
	}
	for name, repository := range repositories {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				r := newRig(t, repository(t))
				r.sources["a"].data = cartest.V1(nil, blocks)
				require.NoError(t, r.register("a"))
				want := sortedHashes(blocks)
				require.Len(t, want, 4003)
				got, err := kept(r.ShardMultihashes(t.Context(), key("a"), everything))
				require.NoError(t, err)
				require.Equal(t, want, got)
				for _, from := range []int{0, 1, 254, 255, 256, 257, 3999, 4002} {
					to := min(from+300, len(want)-1)
					got, err := kept(r.ShardMultihashes(t.Context(), key("a"), index.MultihashRange{After: want[from], Through: want[to]}))
					require.NoError(t, err)
					require.Equal(t, want[from+1:to+1], append([]mh.Multihash{}, got...))
				}
			})
		})
	}
}

func TestWhoGoesOnAfterTheLastMultihashMissesNone(t *testing.T) {
	for name, repository := range repositories {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				r := newRig(t, repository(t))
				for _, k := range []string{"d", "b", "e", "a"} { // in no order
					require.NoError(t, r.register(k))
				}
				want := ofShards("a", "b", "d", "e")
				for i := range want {
					got, errs := keptOfAll(r.AllMultihashes(t.Context(), everything, want[i]))
					require.Empty(t, errs)
					require.Equal(t, want[i+1:], append([]ShardMultihash{}, got...))
				}
				got, errs := keptOfAll(r.AllMultihashes(t.Context(), everything, ShardMultihash{}))
				require.Empty(t, errs)
				require.Equal(t, want, got)
				got, _ = keptOfAll(r.AllMultihashes(t.Context(), everything, ShardMultihash{Shard: key("c")}))
				require.Equal(t, ofShards("d", "e"), got, "a shard that is gone")
				got, _ = keptOfAll(r.AllMultihashes(t.Context(), everything, ShardMultihash{Shard: key("d")}))
				require.Equal(t, ofShards("d", "e"), got, "the beginning of a shard")
			})
		})
	}
}

func TestARangeOfAllShardsIsThatRangeOfEach(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		r := newRig(t)
		for _, k := range []string{"a", "b", "c"} {
			require.NoError(t, r.register(k))
		}
		all := ofShards("a", "b", "c")
		rnd := rand.New(rand.NewPCG(1, 2))
		for range 50 {
			after, through, from := all[rnd.IntN(len(all))].Multihash, all[rnd.IntN(len(all))].Multihash, all[rnd.IntN(len(all))]
			var want []ShardMultihash
			for i, m := range all {
				behind := slices.IndexFunc(all, func(o ShardMultihash) bool {
					return o.Shard == from.Shard && string(o.Multihash) == string(from.Multihash)
				})
				if i > behind && index.CompareMultihashes(m.Multihash, after) > 0 && index.CompareMultihashes(m.Multihash, through) <= 0 {
					want = append(want, m)
				}
			}
			got, errs := keptOfAll(r.AllMultihashes(t.Context(), index.MultihashRange{After: after, Through: through}, from))
			require.Empty(t, errs)
			require.Equal(t, want, got)
		}
	})
}

func TestOnlyAvailableShardsAreAnnounced(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		r := newRig(t)
		require.NoError(t, r.register("a"))
		require.NoError(t, r.register("b", RegisterOpts{LazyInitialization: true}))
		r.sources["c"].set(func(s *source) { s.err = errors.New("offline") })
		require.Error(t, r.register("c"))
		require.NoError(t, r.register("d"))
		a := r.mustAcquire("d") // serving
		got, errs := keptOfAll(r.AllMultihashes(t.Context(), everything, ShardMultihash{}))
		require.Empty(t, errs)
		require.Equal(t, ofShards("a", "d"), got)
		require.NoError(t, a.Close())
	})
}

func TestMultihashesOfWhatIsNotThereAreAnError(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		r := newRig(t)
		require.NoError(t, r.register("a"))
		untold, err := carindex.New(multicodec.CarIndexSorted)
		require.NoError(t, err)
		require.NoError(t, untold.Load([]carindex.Record{{Cid: blocksOf(0)[0].Cid, Offset: 59}}))
		require.NoError(t, r.config.IndexRepo.AddFullIndex(key("untold"), untold))
		for _, k := range []string{"unknown", "untold"} {
			_, want := r.GetIterableIndex(key(k))
			got, err := kept(r.ShardMultihashes(t.Context(), key(k), everything))
			require.Empty(t, got)
			require.EqualError(t, err, want.Error())
			require.Equal(t, k == "unknown", errors.Is(err, index.ErrNotFound) && errors.Is(err, fs.ErrNotExist))
			require.Equal(t, k == "untold", errors.Is(err, errNotIterable))
		}
		_, err = kept(r.ShardMultihashes(t.Context(), key("a"), index.MultihashRange{After: []byte("a CID?")}))
		require.ErrorContains(t, err, "not a multihash")
		_, err = kept(r.ShardMultihashes(nil, key("a"), everything)) //nolint:staticcheck // that is what is tested
		require.ErrorIs(t, err, errNilContext)
		_, errs := keptOfAll(r.AllMultihashes(nil, everything, ShardMultihash{})) //nolint:staticcheck // that is what is tested
		require.Len(t, errs, 1)
	})
}

func TestAnEndedContextOrStoreEndsTheIterationAtOnce(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		for _, closing := range []bool{false, true} {
			r := newRig(t)
			for _, k := range []string{"a", "b"} {
				require.NoError(t, r.register(k))
			}
			ctx, cancel := context.WithCancel(t.Context())
			end, want := cancel, context.Canceled
			if closing {
				end, want = func() { require.NoError(t, r.Close()) }, ErrClosed
			}
			var hashes []ShardMultihash
			var errs []error
			var at ShardMultihash
			for m, err := range r.AllMultihashes(ctx, everything, ShardMultihash{}) {
				if err != nil {
					at, errs = m, append(errs, err)
					continue
				}
				if hashes = append(hashes, m); len(hashes) == 2 {
					end()
					synctest.Wait()
				}
			}
			require.Len(t, hashes, 2)
			require.Len(t, errs, 1)
			require.ErrorIs(t, errs[0], want)
			require.Equal(t, ofShards("a")[1], at, "where it goes on")

			_, err := kept(r.ShardMultihashes(ctx, key("a"), everything))
			require.ErrorIs(t, err, want)
			_, errs = keptOfAll(r.AllMultihashes(ctx, index.MultihashRange{Through: []byte{0, 0}}, ShardMultihash{}))
			require.Len(t, errs, 1, "also where there is nothing")
			require.ErrorIs(t, errs[0], want)
			cancel()
		}
	})
}

func TestShardWhoseIndexIsDamagedIsNamedAndMendedAndTheOthersGoOn(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		r, path := withManyBlocks(t)
		sound := damageIndex(t, path)
		r.restart(reopen(t, path))
		require.NoError(t, r.register("b"))
		got, errs := keptOfAll(r.AllMultihashes(t.Context(), everything, ShardMultihash{}))
		require.Equal(t, ofShards("b"), got)
		require.Len(t, errs, 1)
		require.ErrorIs(t, errs[0], index.ErrDamaged)
		require.ErrorContains(t, errs[0], `"a"`)
		synctest.Wait()
		require.Equal(t, sound, readFile(t, path))
		hashes, err := kept(r.ShardMultihashes(t.Context(), key("a"), everything))
		require.NoError(t, err)
		require.Equal(t, sortedHashes(manyBlocks()), hashes)
	})
}

func TestDamageThatComesDuringTheIterationIsMended(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		r := newRig(t, inFolder(t))
		r.sources["a"].data = cartest.V1(nil, manyBlocks())
		require.NoError(t, r.register("a"))
		path := indexFile(t, r)
		sound := readFile(t, path)
		var yielded []mh.Multihash
		var at mh.Multihash
		var failure error
		for h, err := range r.ShardMultihashes(t.Context(), key("a"), everything) {
			if err != nil {
				at, failure = slices.Clone(h), err
				continue
			}
			if yielded = append(yielded, slices.Clone(h)); len(yielded) == 100 {
				require.NoError(t, os.Truncate(path, int64(len(sound)/2))) // as a bad sector
			}
		}
		require.ErrorIs(t, failure, index.ErrDamaged)
		require.Less(t, len(yielded), 2500)
		require.Equal(t, yielded[len(yielded)-1], at)
		synctest.Wait()
		require.Equal(t, sound, readFile(t, path))
		rest, err := kept(r.ShardMultihashes(t.Context(), key("a"), index.MultihashRange{After: at}))
		require.NoError(t, err)
		require.Equal(t, sortedHashes(manyBlocks()), append(yielded, rest...))
	})
}

func TestShardsThatComeAndGoMeanwhileAreNoError(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		r := newRig(t, inFolder(t))
		for _, k := range []string{"a", "b", "c"} {
			require.NoError(t, r.register(k))
		}
		var got []ShardMultihash
		for m, err := range r.AllMultihashes(t.Context(), everything, ShardMultihash{}) {
			require.NoError(t, err)
			if got = append(got, ShardMultihash{m.Shard, slices.Clone(m.Multihash)}); len(got) == 1 {
				require.NoError(t, r.destroy("a"))
				require.NoError(t, r.destroy("b"))
				require.NoError(t, r.register("d"))
			}
		}
		require.Equal(t, ofShards("a", "c"), got)
	})
}
