package dagstore

import (
	"bytes"
	"context"
	"io"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/ipfs/go-cid"
	ipld "github.com/ipfs/go-ipld-format"
	carindex "github.com/ipld/go-car/v2/index"
	"github.com/multiformats/go-multicodec"
	"github.com/stretchr/testify/require"

	"github.com/filecoin-project/dagstore/internal/cartest"
	"github.com/filecoin-project/dagstore/mount"
	"github.com/filecoin-project/dagstore/shard"
)

// Defect 22a.
func TestTruncatedCARIsNotRegisteredAsAvailable(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		r := newRig(t)
		whole := r.sources["a"].data
		for _, cut := range []int{1, 50, 99} {
			r.sources["a"].set(func(s *source) { s.data = whole[:len(whole)-cut] })
			require.ErrorIs(t, r.register("a"), ErrTruncatedCAR)
			require.ErrorIs(t, r.errorOf("a"), ErrTruncatedCAR)
			require.NoError(t, r.destroy("a"))
		}
	})
}

func (r *rig) errorOf(k string) error {
	info, err := r.GetShardInfo(key(k))
	require.NoError(r.t, err)
	return info.Error
}

// Defects 22g, 22h.
func TestIndexThatACARv2BringsAlongIsNotBelieved(t *testing.T) {
	lying, err := carindex.New(multicodec.CarMultihashIndexSorted)
	require.NoError(t, err)
	stranger := blocksOf(7)[0]
	require.NoError(t, lying.Load([]carindex.Record{{Cid: stranger.Cid, Offset: 60}}))
	sorted, err := carindex.New(multicodec.CarIndexSorted)
	require.NoError(t, err)
	require.NoError(t, sorted.Load([]carindex.Record{{Cid: blocksOf(0)[0].Cid, Offset: 60}}))
	for _, idx := range []carindex.Index{lying, sorted} {
		var embedded bytes.Buffer
		_, err := carindex.WriteTo(idx, &embedded)
		require.NoError(t, err)
		inBubble(t, func(t *testing.T) {
			r := newRig(t)
			r.sources["a"].data = cartest.V2(r.sources["a"].data, cartest.V2Options{Index: embedded.Bytes()})
			require.NoError(t, r.register("a"))
			require.Equal(t, "[]", r.shardsWith(stranger))
			for _, b := range blocksOf(0) {
				require.Equal(t, "[a]", r.shardsWith(b))
			}
			ii, err := r.GetIterableIndex(key("a"))
			require.NoError(t, err)
			require.NotNil(t, ii)
			r.use("a")
		})
	}
}

// Defect 22g: an indexer of a service may return an index that tells no multihashes.
func TestBlocksOfAnIndexWithoutMultihashesAreFound(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		r := newRig(t, func(c *Config) {
			c.ShardIndexer = func(_ context.Context, _ shard.Key, rd mount.Reader) (carindex.Index, error) {
				sorted, err := carindex.New(multicodec.CarIndexSorted)
				if err != nil {
					return nil, err
				}
				var records []carindex.Record
				offset := uint64(len(cartest.Header(1, blocksOf(0)[0].Cid)))
				for _, b := range blocksOf(0) {
					records = append(records, carindex.Record{Cid: b.Cid, Offset: offset})
					offset += uint64(len(cartest.Section(b)))
				}
				return sorted, sorted.Load(records)
			}
		})
		require.NoError(t, r.register("a"))
		require.Equal(t, "[a]", r.shardsWith(blocksOf(0)[3]))
		a := r.mustAcquire("a")
		bs, err := a.Blockstore()
		require.NoError(t, err)
		got, err := bs.Get(t.Context(), blocksOf(0)[3].Cid)
		require.NoError(t, err)
		require.Equal(t, blocksOf(0)[3].Data, got.RawData())
		require.NoError(t, a.Close())
	})
}

// Defect 14.
func TestClosedAccessorGivesErrors(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		r := newRig(t)
		require.NoError(t, r.register("a"))
		a := r.mustAcquire("a")
		require.Equal(t, key("a"), a.Shard())
		bs, err := a.Blockstore()
		require.NoError(t, err)
		again, err := a.Blockstore()
		require.NoError(t, err)
		block, absent := blocksOf(0)[1].Cid, blocksOf(5)[0].Cid
		_, err = again.Get(t.Context(), absent)
		require.True(t, ipld.IsNotFound(err))
		reader := a.Reader()
		require.Implements(t, (*io.ReaderAt)(nil), reader)
		require.Implements(t, (*io.Seeker)(nil), reader)
		require.Implements(t, (*io.WriterTo)(nil), reader)
		half := make([]byte, 50)
		_, err = io.ReadFull(reader, half)
		require.NoError(t, err)
		other, err := io.ReadAll(a.Reader())
		require.NoError(t, err)
		require.Equal(t, r.sources["a"].data, other, "readers are independent")

		require.NoError(t, a.Close())
		for _, use := range []func() error{
			func() error { _, err := bs.Get(t.Context(), block); return err },
			func() error { _, err := again.Has(t.Context(), block); return err },
			func() error { _, err := bs.GetSize(t.Context(), block); return err },
			func() error { _, err := bs.AllKeysChan(t.Context()); return err },
			func() error { _, err := a.Blockstore(); return err },
			func() error { _, err := reader.Read(half); return err },
			func() error { _, err := a.Reader().Read(half); return err },
			func() error { _, err := reader.(io.ReaderAt).ReadAt(half, 0); return err },
			func() error { _, err := reader.(io.Seeker).Seek(0, io.SeekStart); return err },
			func() error { _, err := reader.(io.WriterTo).WriteTo(io.Discard); return err },
		} {
			require.ErrorIs(t, use(), os.ErrClosed)
		}
	})
}

// Defect 14b.
func TestClosingBesideReadersEndsNoProcess(t *testing.T) {
	r := newRigOutside(t)
	for range 20 {
		a, err := r.acquireOutside("a")
		require.NoError(t, err)
		bs, err := a.Blockstore()
		require.NoError(t, err)
		var readers sync.WaitGroup
		for i := range 4 {
			readers.Go(func() {
				for {
					if _, err := bs.Get(context.Background(), blocksOf(0)[i].Cid); err != nil {
						require.ErrorIs(t, err, os.ErrClosed)
						return
					}
				}
			})
		}
		require.NoError(t, a.Close())
		readers.Wait()
	}
}

// Defect 14c.
func TestFileThatIsTruncatedUnderAnAccessorEndsNoProcess(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.car")
	blocks := cartest.Blocks(100, 4096, 1)
	require.NoError(t, os.WriteFile(path, cartest.V1(nil, blocks), 0o600))
	f, err := (&mount.FileMount{Path: path}).Fetch(t.Context())
	require.NoError(t, err)
	a, err := NewShardAccessor(f, nil, nil)
	require.NoError(t, err)
	bs, err := a.Blockstore()
	require.NoError(t, err)
	_, err = bs.Get(t.Context(), blocks[99].Cid)
	require.NoError(t, err)
	require.NoError(t, os.Truncate(path, 5000))
	for _, c := range []cid.Cid{blocks[50].Cid, blocks[99].Cid} {
		_, err = bs.Get(t.Context(), c)
		require.Error(t, err)
	}
	require.NoError(t, a.Close())
}

func newRigOutside(t *testing.T) *rig {
	t.Helper()
	r := newRig(t)
	out := make(chan ShardResult, 1)
	require.NoError(t, r.ask(t.Context(), "a", out))
	require.NoError(t, (<-out).Error)
	return r
}

func (r *rig) acquireOutside(k string) (*ShardAccessor, error) {
	out := make(chan ShardResult, 1)
	if err := r.AcquireShard(r.t.Context(), key(k), out, AcquireOpts{}); err != nil {
		return nil, err
	}
	res := <-out
	return res.Accessor, res.Error
}
