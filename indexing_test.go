package dagstore

import (
	"bytes"
	"context"
	"encoding/binary"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	ipld "github.com/ipfs/go-ipld-format"
	carindex "github.com/ipld/go-car/v2/index"
	"github.com/multiformats/go-multicodec"
	"github.com/multiformats/go-multihash"
	"github.com/stretchr/testify/require"

	"github.com/filecoin-project/dagstore/index"
	"github.com/filecoin-project/dagstore/internal/cartest"
	"github.com/filecoin-project/dagstore/mount"
	"github.com/filecoin-project/dagstore/shard"
)

// inFolder keeps full indices in a folder of the test, as services do.
func inFolder(t *testing.T) func(*Config) {
	return func(c *Config) {
		repo, err := index.NewFSRepo(t.TempDir())
		require.NoError(t, err)
		c.IndexRepo = repo
	}
}

// A tricklingMount delivers its data, then waits, then goes on with the rest.
type tricklingMount struct {
	fakeMount
	first, rest []byte
	wait        chan struct{}
}

func (m *tricklingMount) Fetch(ctx context.Context) (mount.Reader, error) {
	m.source().set(func(s *source) { s.fetch++ })
	return &mount.NopCloser{Reader: io.MultiReader(bytes.NewReader(m.first), &waiting{ctx, m.wait}, bytes.NewReader(m.rest))}, nil
}

func (m *tricklingMount) Stat(context.Context) (mount.Stat, error) {
	return mount.Stat{Exists: true, Ready: true}, nil
}

// waiting is an empty reader that takes its time.
type waiting struct {
	ctx  context.Context
	wait chan struct{}
}

func (w *waiting) Read([]byte) (int, error) {
	select {
	case <-w.wait:
		return 0, io.EOF
	case <-w.ctx.Done():
		return 0, w.ctx.Err()
	}
}

func TestRemoteCARIsIndexedWhileItArrives(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		var mu sync.Mutex
		var last IndexProgress
		r := newRig(t, withoutDatastore, func(c *Config) {
			c.OnIndexProgress = func(k shard.Key, p IndexProgress) {
				mu.Lock()
				defer mu.Unlock()
				require.Equal(t, key("a"), k)
				last = p
			}
		})
		blocks := cartest.Blocks(400, 10_000, 1)
		car := cartest.V1(nil, blocks)
		m := &tricklingMount{fakeMount: *r.mount("a"), first: car[:len(car)-5000], rest: car[len(car)-5000:], wait: make(chan struct{})}
		out := make(chan ShardResult, 1)
		require.NoError(t, r.RegisterShard(t.Context(), key("a"), m, out, RegisterOpts{}))
		synctest.Wait()
		require.Empty(t, out)
		require.Greater(t, last.Blocks, int64(200), "most blocks are found before the last has arrived")
		close(m.wait)
		require.NoError(t, resultOn(out).Error)
		require.EqualValues(t, 400, last.Blocks)
		require.Equal(t, 1, r.sources["a"].fetched())
		got, err := GetBlock(t.Context(), r, blocks[399].Cid)
		require.NoError(t, err)
		require.Equal(t, blocks[399].Data, got.RawData())
	})
}

func TestGarbageIsNotDownloadedToItsEnd(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		r := newRig(t, withoutDatastore)
		m := &tricklingMount{fakeMount: *r.mount("a"), first: make([]byte, 1<<20), wait: make(chan struct{})}
		err := r.result(func(out chan ShardResult) error {
			return r.RegisterShard(t.Context(), key("a"), m, out, RegisterOpts{})
		}).Error
		require.ErrorIs(t, err, ErrMalformedCAR)
		require.Empty(t, r.transients(), "and nothing of it is kept")
	})
}

func TestRemoteCARThatEndsTooEarlyIsNotRegistered(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		r := newRig(t, withoutDatastore)
		car := r.sources["a"].data
		m := &tricklingMount{fakeMount: *r.mount("a"), first: car[:len(car)-1], wait: make(chan struct{})}
		close(m.wait)
		err := r.result(func(out chan ShardResult) error {
			return r.RegisterShard(t.Context(), key("a"), m, out, RegisterOpts{})
		}).Error
		require.ErrorIs(t, err, ErrTruncatedCAR)
	})
}

// manyBlocks are so many that their index is not verified when it is opened.
func manyBlocks() []cartest.Block { return cartest.Blocks(4000, 10, 99) }

// withManyBlocks returns a rig whose source "a" has manyBlocks, registered, and
// the path of its full index; the store is closed.
func withManyBlocks(t *testing.T) (*rig, string) {
	r := newRig(t, inFolder(t))
	r.sources["a"].data = cartest.V1(nil, manyBlocks())
	require.NoError(t, r.register("a"))
	require.NoError(t, r.Close())
	return r, indexFile(t, r)
}

// indexFile returns the path of the one index.
func indexFile(t *testing.T, r *rig) string {
	t.Helper()
	var found []string
	require.NoError(t, filepath.WalkDir(filepath.Dir(r.config.TransientsDir), func(path string, _ os.DirEntry, err error) error {
		if strings.HasSuffix(path, "a.full.idx") {
			found = append(found, path)
		}
		return err
	}))
	require.Len(t, found, 1)
	return found[0]
}

func readFile(t *testing.T, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	require.NoError(t, err)
	return b
}

// Record 1 of an index of sha2-256 blocks, which the check of samples passes over.
const recordOne = 30 + 40

func TestDamagedIndexIsMadeAgainBesideServing(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		r, path := withManyBlocks(t)
		sound := readFile(t, path)
		damaged := bytes.Clone(sound)
		damaged[recordOne+20] ^= 1
		require.NoError(t, os.WriteFile(path, damaged, 0o600))
		reopened, err := index.NewFSRepo(filepath.Dir(path))
		require.NoError(t, err)
		r.restart(func(c *Config) { c.IndexRepo = reopened })
		a := r.mustAcquire("a")
		synctest.Wait()
		require.Equal(t, sound, readFile(t, path))
		require.Equal(t, ShardStateServing, r.state("a"))
		require.NoError(t, a.Close())
		requireAllBlocks(t, r, "a", manyBlocks())
		require.Equal(t, 1, r.sources["a"].fetched(), "the local copy serves")
	})
}

func requireAllBlocks(t *testing.T, r *rig, k string, blocks []cartest.Block) {
	t.Helper()
	a := r.mustAcquire(k)
	bs, err := a.Blockstore()
	require.NoError(t, err)
	bs.HashOnRead(true)
	for _, b := range blocks {
		got, err := bs.Get(t.Context(), b.Cid)
		require.NoError(t, err)
		require.Equal(t, b.Data, got.RawData())
	}
	require.NoError(t, a.Close())
}

// An index of v0.7 has no checksum: that an offset is wrong shows when its block
// is looked up.
func TestBlockThatAnOldIndexMisplacedIsFoundAfterTheFirstTry(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		r, path := withManyBlocks(t)
		sound := readFile(t, path)
		old := bytes.Clone(sound[:30+40*4000])
		record := old[recordOne : recordOne+40]
		binary.LittleEndian.PutUint64(record[32:], binary.LittleEndian.Uint64(record[32:])+1)
		require.NoError(t, os.WriteFile(path, old, 0o600))
		reopened, err := index.NewFSRepo(filepath.Dir(path))
		require.NoError(t, err)
		r.restart(func(c *Config) { c.IndexRepo = reopened })
		var misplaced cartest.Block
		for _, b := range manyBlocks() {
			if bytes.Equal(b.Cid.Hash()[2:], record[:32]) {
				misplaced = b
			}
		}
		a := r.mustAcquire("a")
		synctest.Wait()
		require.Equal(t, old, readFile(t, path), "it looks well")
		bs, err := a.Blockstore()
		require.NoError(t, err)
		_, err = bs.Get(t.Context(), misplaced.Cid)
		require.Error(t, err)
		require.False(t, ipld.IsNotFound(err))
		require.NoError(t, a.Close())
		synctest.Wait()
		require.Equal(t, sound, readFile(t, path))
		requireAllBlocks(t, r, "a", manyBlocks())
	})
}

func TestFlippedBitIsFoundWhenTheShardIsRegistered(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		r := newRig(t, func(c *Config) { c.VerifyBlocks = true })
		require.NoError(t, r.register("a"))
		car := r.sources["b"].data
		car[len(car)-1] ^= 1
		require.ErrorIs(t, r.register("b"), ErrHashMismatch)
		car[len(car)-1] ^= 1
		require.NoError(t, r.recover("b"))
		r.use("b")
	})
}

func TestIndexThatDoesNotFitIntoItsMemoryIsWholeAndLeavesNothing(t *testing.T) {
	blocks := cartest.Blocks(60_000, 4, 5)
	inBubble(t, func(t *testing.T) {
		r := newRig(t, inFolder(t), func(c *Config) { c.IndexMemory = 1 })
		r.sources["a"].data = cartest.V1(nil, blocks)
		require.NoError(t, r.register("a"))
		idx, err := r.GetIterableIndex(key("a"))
		require.NoError(t, err)
		var previous []byte
		n := 0
		require.NoError(t, idx.ForEach(func(h multihash.Multihash, _ uint64) error {
			require.Less(t, bytes.Compare(previous, h), 1)
			previous = h
			n++
			return nil
		}))
		require.Equal(t, len(blocks), n)
		entries, err := os.ReadDir(r.config.TransientsDir)
		require.NoError(t, err)
		require.Len(t, entries, 1, "the transient alone")
		requireAllBlocks(t, r, "a", blocks[:100])
	})
}

func TestAnyIndexOfAnIndexerIsKeptAndServed(t *testing.T) {
	for name, makeIndex := range map[string]func([]carindex.Record) carindex.Index{
		"sorted":       func(records []carindex.Record) carindex.Index { return loaded(t, 0x0400, records) },
		"by multihash": func(records []carindex.Record) carindex.Index { return loaded(t, 0x0401, records) },
		"of another codec": func(records []carindex.Record) carindex.Index {
			return foreignIndex{loaded(t, 0x0401, records).(carindex.IterableIndex)}
		},
		"not iterable, of another codec": func(records []carindex.Record) carindex.Index {
			return struct{ carindex.Index }{foreignIndex{loaded(t, 0x0401, records).(carindex.IterableIndex)}}
		},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRigWithIndexer(t, makeIndex)
			require.NoError(t, Register(t.Context(), r, key("a"), r.mount("a"), RegisterOpts{}))
			for _, b := range blocksOf(0) {
				got, err := GetBlock(t.Context(), r, b.Cid)
				require.NoError(t, err)
				require.Equal(t, b.Data, got.RawData())
			}
			_, err := r.GetIterableIndex(key("a"))
			require.NoError(t, err)
		})
	}
}

func newRigWithIndexer(t *testing.T, makeIndex func([]carindex.Record) carindex.Index) *rig {
	return newRig(t, inFolder(t), func(c *Config) {
		c.ShardIndexer = func(context.Context, shard.Key, mount.Reader) (carindex.Index, error) {
			var records []carindex.Record
			offset := uint64(len(cartest.Header(1, blocksOf(0)[0].Cid)))
			for _, b := range blocksOf(0) {
				records = append(records, carindex.Record{Cid: b.Cid, Offset: offset})
				offset += uint64(len(cartest.Section(b)))
			}
			return makeIndex(records), nil
		}
	})
}

func loaded(t *testing.T, codec multicodec.Code, records []carindex.Record) carindex.Index {
	idx, err := carindex.New(codec)
	require.NoError(t, err)
	require.NoError(t, idx.Load(records))
	return idx
}

// A foreignIndex is of a codec that go-car cannot read again.
type foreignIndex struct{ carindex.IterableIndex }

func (foreignIndex) Codec() multicodec.Code { return 0x300003 }
