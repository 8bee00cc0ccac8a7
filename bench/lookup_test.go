package bench

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/ipfs/go-cid"
	carindex "github.com/ipld/go-car/v2/index"
	"github.com/multiformats/go-multihash"
	"github.com/stretchr/testify/require"

	"github.com/filecoin-project/dagstore/index"
	"github.com/filecoin-project/dagstore/internal/cartest"
	"github.com/filecoin-project/dagstore/internal/files"
	"github.com/filecoin-project/dagstore/internal/fullindex"
	"github.com/filecoin-project/dagstore/internal/indexbuild"
)

// recordWidth is the size of a record in an index of sha2-256 digests.
const recordWidth = 32 + fullindex.OffsetSize

// A storedIndex is the index of one shard in a folder.
type storedIndex struct {
	dir     string
	records int
	known   deal[cid.Cid] // some of what is in it, in no order
}

// makeIndex makes an index of random digests, that is there as long as tb.
func makeIndex(tb testing.TB, records int) *storedIndex {
	tb.Helper()
	const known = 1_000_000
	s := &storedIndex{dir: tb.TempDir(), records: records}
	x := indexbuild.New(files.OS, s.dir, indexbuild.NewBudget(0))
	defer x.Close()
	random := rand.NewChaCha8([32]byte{})
	digest := make([]byte, 32)
	for i := range records {
		_, _ = random.Read(digest)
		require.NoError(tb, x.Add(multihash.SHA2_256, digest, uint64(59+69*i)))
		if i%(records/known) == 0 {
			s.known.all = append(s.known.all, cartest.Cid(multihash.SHA2_256, digest))
		}
	}
	err := s.repo(tb).WriteFullIndex(numbered(0), func(w io.Writer) error { return x.WriteTo(context.Background(), w) })
	require.NoError(tb, err)
	return s
}

func (s *storedIndex) repo(tb testing.TB) *index.FSIndexRepo {
	tb.Helper()
	r, err := index.NewFSRepo(s.dir)
	require.NoError(tb, err)
	return r
}

func (s *storedIndex) open(tb testing.TB) carindex.Index {
	tb.Helper()
	idx, err := s.repo(tb).GetFullIndex(numbered(0))
	require.NoError(tb, err)
	tb.Cleanup(func() { closeIndex(tb, idx) })
	return idx
}

// path returns where the index is.
func (s *storedIndex) path(tb testing.TB) string {
	tb.Helper()
	found, err := filepath.Glob(filepath.Join(s.dir, "*.idx"))
	require.NoError(tb, err)
	require.Len(tb, found, 1)
	return found[0]
}

// writeTiny adds the index of another shard, with one block.
func (s *storedIndex) writeTiny(tb testing.TB) {
	tb.Helper()
	x := indexbuild.New(files.OS, s.dir, indexbuild.NewBudget(0))
	defer x.Close()
	require.NoError(tb, x.Add(multihash.SHA2_256, make([]byte, 32), 59))
	err := s.repo(tb).WriteFullIndex(numbered(1), func(w io.Writer) error { return x.WriteTo(context.Background(), w) })
	require.NoError(tb, err)
}

// closeIndex closes the file behind an index, which its repo, of which there is
// no other user, would keep open.
func closeIndex(tb testing.TB, idx carindex.Index) {
	tb.Helper()
	full, ok := fullindex.Of(idx)
	require.True(tb, ok)
	require.NoError(tb, full.Close())
}

// BenchmarkOpenIndex opens the index of a shard with 10M blocks, which its repo
// has not opened before, but another one. Bars: 100 µs of CPU and 1 KiB of heap. Floor: opening,
// mapping and closing the file, and touching its first page.
func BenchmarkOpenIndex(b *testing.B) {
	const opens = 50 // of a round
	s := makeIndex(b, 10_000_000)
	path := s.path(b)
	s.writeTiny(b)
	var c contest
	floor := c.add(func() error { return mapAndTouch(path, opens) })
	repos := make([]*index.FSIndexRepo, opens)
	opened := make([]carindex.Index, 0, opens)
	ours := c.add(func() error {
		for _, r := range repos {
			idx, err := r.GetFullIndex(numbered(0))
			if err != nil {
				return err
			}
			opened = append(opened, idx)
		}
		return nil
	})
	ours.prepare = func() {
		for _, idx := range opened {
			closeIndex(b, idx)
		}
		clear(opened) // lest what was held counts as held before
		opened = opened[:0]
		for i := range repos {
			repos[i] = s.repo(b)
			tiny, err := repos[i].GetFullIndex(numbered(1))
			require.NoError(b, err)
			tiny.(index.Releaser).Release()
		}
	}
	c.hold(b)
	ours.prepare()
	before := liveHeap()
	require.NoError(b, ours.run())
	held := liveHeap() - before
	ours.prepare()
	b.ReportMetric(ours.nanos(opens)/1e3, "cpu-µs/op")
	b.ReportMetric(floor.nanos(opens)/1e3, "floor-cpu-µs/op")
	b.ReportMetric(float64(held)/opens, "held-B/op")
	b.ReportMetric(ours.bytes(opens), "allocated-B/op")
	b.ReportMetric(ours.allocs(opens), "mallocs/op")
}

// mapAndTouch does the least that opens a file n times.
func mapAndTouch(path string, n int) error {
	for range n {
		f, err := os.Open(path)
		if err != nil {
			return err
		}
		info, err := f.Stat()
		if err != nil {
			return errors.Join(err, f.Close())
		}
		mapping, err := syscall.Mmap(int(f.Fd()), 0, int(info.Size()), syscall.PROT_READ, syscall.MAP_SHARED)
		if err := errors.Join(err, f.Close()); err != nil {
			return err
		}
		touched += uint64(mapping[0])
		if err := syscall.Munmap(mapping); err != nil {
			return err
		}
	}
	return nil
}

// touched is what floors add up, so that reading is not optimised away.
var touched uint64

// BenchmarkLookUp finds random multihashes that are in the index. Bars: 1/2 of
// go-car's CPU among 1M, 1/3 among 10M, no allocation. Floor: touching the records
// in the mapping.
func BenchmarkLookUp(b *testing.B) {
	b.Run("1M", func(b *testing.B) { benchmarkLookUp(b, 1_000_000) })
	b.Run("10M", func(b *testing.B) { benchmarkLookUp(b, 10_000_000) })
}

func benchmarkLookUp(b *testing.B, records int) {
	const each = 100_000 // look-ups of a round
	s := makeIndex(b, records)
	ours, theirs := s.open(b), goCarIndex(b, s.path(b))
	full, ok := fullindex.Of(ours)
	require.True(b, ok)
	var c contest
	lookUps := func(lookUp func(cid.Cid) bool) *contender {
		return c.add(func() error {
			for _, k := range s.known.next(each) {
				if !lookUp(k) {
					return carindex.ErrNotFound
				}
			}
			return nil
		})
	}
	floor := lookUps(touchRandomly(full))
	find := lookUps(func(k cid.Cid) bool {
		code, digest, _, ok := fullindex.MultihashOf(k)
		m := full.Find(code, digest)
		_, found := m.Next()
		return ok && found
	})
	getAll := lookUps(getAny(ours))
	goCar := lookUps(getAny(theirs))
	c.hold(b)
	b.ReportMetric(find.over(goCar), "find-x-gocar")
	b.ReportMetric(getAll.over(goCar), "getall-x-gocar")
	b.ReportMetric(find.over(floor), "find-x-touch")
	b.ReportMetric(find.nanos(each), "find-cpu-ns")
	b.ReportMetric(getAll.nanos(each), "getall-cpu-ns")
	b.ReportMetric(goCar.nanos(each), "gocar-cpu-ns")
	b.ReportMetric(floor.nanos(each), "floor-cpu-ns")
	b.ReportMetric(find.allocs(each), "find-allocs")
	b.ReportMetric(getAll.allocs(each), "getall-allocs")
}

// getAny finds through the interface of all indices.
func getAny(idx carindex.Index) func(cid.Cid) bool {
	found := false
	visit := func(uint64) bool {
		found = true
		return false
	}
	return func(k cid.Cid) bool {
		found = false
		return idx.GetAll(k, visit) == nil && found
	}
}

// touchRandomly touches a random record for each key.
func touchRandomly(full *fullindex.Index) func(cid.Cid) bool {
	records := recordsOf(full)
	n := uint64(len(records) / recordWidth)
	random := rand.New(rand.NewPCG(3, 4))
	return func(k cid.Cid) bool {
		at := random.Uint64N(n) * recordWidth
		touched += binary.LittleEndian.Uint64(records[at:]) + binary.LittleEndian.Uint64(records[at+recordWidth-8:])
		return k.Defined()
	}
}

// recordsOf returns the records of an index that has one bucket, in its mapping.
func recordsOf(full *fullindex.Index) []byte {
	m := full.Mapping()[:full.Size()]
	return m[int64(len(m))-recordWidth*full.Len():]
}

// BenchmarkIterate visits the records of an index of 10M. Bar: 5 ns a record.
// Floor: touching each record in the mapping.
func BenchmarkIterate(b *testing.B) {
	s := makeIndex(b, 10_000_000)
	ours := s.open(b)
	full, ok := fullindex.Of(ours)
	require.True(b, ok)
	records := recordsOf(full)
	var c contest
	floor := c.add(func() error {
		for at := 0; at < len(records); at += recordWidth {
			touched += binary.LittleEndian.Uint64(records[at:]) + binary.LittleEndian.Uint64(records[at+recordWidth-8:])
		}
		return nil
	})
	iterate := c.add(func() error {
		return ours.(index.RecordIterator).ForEachRecord(func(code uint64, digest []byte, offset uint64) error {
			touched += code + uint64(digest[0]) + offset
			return nil
		})
	})
	c.hold(b)
	b.ReportMetric(iterate.nanos(s.records), "cpu-ns/record")
	b.ReportMetric(floor.nanos(s.records), "floor-cpu-ns/record")
	b.ReportMetric(iterate.allocs(1), "allocs")
}
