//go:build unix

package blockview

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/ipfs/go-cid"
	"github.com/ipld/go-car/v2/blockstore"
	carindex "github.com/ipld/go-car/v2/index"
	"github.com/multiformats/go-multicodec"
	"github.com/multiformats/go-multihash"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/filecoin-project/dagstore/internal/cartest"
)

const (
	smallBlocks = 1_000_000
	smallSize   = 256
	sectionSize = 2 + 36 + smallSize
	readsAtOnce = 40_000 // of one contestant, before the next has its turn
	goroutines  = 8
)

// BenchmarkSmallBlocks reads random blocks of 256 bytes of a CAR with a million,
// all in memory. All take turns in one run; CPU time counts. Bars:
//
//	Get     1.9 times the floor, 0.6 times go-car's Get, and with 8 goroutines 15 % more
//	View    1.3 times the floor
//	verify  Get with HashOnRead: go-car's Get
//
// The floor is os.File.ReadAt of the known range into a new buffer. Go-car maps
// the CAR, too, and has its index in the heap.
func BenchmarkSmallBlocks(b *testing.B) {
	car := makeSmallBlocks(b)
	theirs, err := blockstore.OpenReadOnly(car.path)
	require.NoError(b, err)
	defer theirs.Close()
	data, file := openPath(b, car.path)
	require.NoError(b, data.Map())
	idx, _ := inFile(b, encoded(b, goCars(b, multicodec.CarMultihashIndexSorted, car.records)))
	ours, verifying := newBlocks(b, data, idx), newBlocks(b, data, idx)
	verifying.HashOnRead(true)
	readData := unmapped(b, car.path)
	read := newBlocks(b, readData, idx)
	absent := slices.Clone(car.records[:readsAtOnce])
	for i := range absent {
		absent[i].Cid = cartest.Raw(binary.LittleEndian.AppendUint64(nil, uint64(i))).Cid
	}

	ctx := context.Background()
	var sink []byte
	contestants := []contestant{
		{"floor", 1, func(r carindex.Record) error {
			sink = make([]byte, smallSize)
			_, err := file.ReadAt(sink, int64(r.Offset)+sectionSize-smallSize)
			return err
		}},
		{"go-car", 1, func(r carindex.Record) error { _, err := theirs.Get(ctx, r.Cid); return err }},
		{"Get", 1, func(r carindex.Record) error { _, err := ours.Get(ctx, r.Cid); return err }},
		{"Get-8", goroutines, func(r carindex.Record) error { _, err := ours.Get(ctx, r.Cid); return err }},
		{"View", 1, func(r carindex.Record) error { return ours.View(ctx, r.Cid, func([]byte) error { return nil }) }},
		{"GetSize", 1, func(r carindex.Record) error { _, err := ours.GetSize(ctx, r.Cid); return err }},
		{"Has", 1, func(r carindex.Record) error { _, err := ours.Has(ctx, r.Cid); return err }},
		{"absent", 1, func(r carindex.Record) error { _, err := ours.Has(ctx, absent[r.Offset%readsAtOnce].Cid); return err }},
		{"verify", 1, func(r carindex.Record) error { _, err := verifying.Get(ctx, r.Cid); return err }},
		{"unmapped", 1, func(r carindex.Record) error { _, err := read.Get(ctx, r.Cid); return err }},
	}
	times := make([][]float64, len(contestants))
	for b.Loop() {
		for i, c := range contestants {
			times[i] = append(times[i], c.run(b, pick(car.records, readsAtOnce)))
		}
	}
	b.ReportMetric(0, "ns/op")
	for i, c := range contestants {
		b.ReportMetric(median(times[i]), c.name+"-ns")
		b.ReportMetric(median(times[i])/median(times[0]), c.name+"/floor")
	}
	b.ReportMetric(median(times[2])/median(times[1]), "Get/go-car")
	b.ReportMetric(median(times[3])/median(times[2]), "Get-8/Get")
	b.ReportMetric(median(times[8])/median(times[1]), "verify/go-car")
}

// A contestant is one way to read a block.
type contestant struct {
	name       string
	goroutines int
	read       func(carindex.Record) error
}

// run returns the CPU time of reading one of the records in nanoseconds.
func (c contestant) run(b *testing.B, records []carindex.Record) float64 {
	var running sync.WaitGroup
	begin := cpuTime(b)
	for part := range slices.Chunk(records, len(records)/c.goroutines) {
		running.Go(func() {
			for _, r := range part {
				if err := c.read(r); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	running.Wait()
	return float64(cpuTime(b)-begin) / float64(len(records))
}

// pick returns random records, with CIDs of their own, as a caller has just
// made them.
func pick(records []carindex.Record, n int) []carindex.Record {
	picked := make([]carindex.Record, n)
	for i := range picked {
		r := records[rand.IntN(len(records))]
		picked[i] = carindex.Record{Cid: cid.MustParse(r.Bytes()), Offset: r.Offset}
	}
	return picked
}

func cpuTime(b *testing.B) time.Duration {
	var usage unix.Rusage
	require.NoError(b, unix.Getrusage(unix.RUSAGE_SELF, &usage))
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}

func median(values []float64) float64 {
	values = slices.Sorted(slices.Values(values))
	return values[len(values)/2]
}

// A carFile is a CAR and what its index holds.
type carFile struct {
	path    string
	records []carindex.Record
}

func makeSmallBlocks(b *testing.B) carFile {
	b.Helper()
	car := carFile{path: filepath.Join(b.TempDir(), "car")}
	file, err := os.Create(car.path)
	require.NoError(b, err)
	defer file.Close()
	w := bufio.NewWriterSize(file, 1<<20)
	header := cartest.Header(1, cartest.Raw(nil).Cid)
	_, err = w.Write(header)
	require.NoError(b, err)
	source := rand.NewChaCha8([32]byte{})
	block := make([]byte, smallSize)
	for i := range smallBlocks {
		_, _ = source.Read(block)
		sum := sha256.Sum256(block)
		c := cid.NewCidV1(cid.Raw, append(multihash.Multihash{multihash.SHA2_256, sha256.Size}, sum[:]...))
		car.records = append(car.records, carindex.Record{Cid: c, Offset: uint64(len(header) + i*sectionSize)})
		_, err := w.Write(cartest.Section(cartest.Block{Cid: c, Data: block}))
		require.NoError(b, err)
	}
	require.NoError(b, w.Flush())
	return car
}
