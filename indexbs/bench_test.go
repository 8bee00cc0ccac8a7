//go:build unix

package indexbs_test

import (
	"fmt"
	"testing"
	"time"

	blocks "github.com/ipfs/go-block-format"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/filecoin-project/dagstore"
	"github.com/filecoin-project/dagstore/index"
	"github.com/filecoin-project/dagstore/indexbs"
	"github.com/filecoin-project/dagstore/internal/cartest"
	"github.com/filecoin-project/dagstore/mount"
)

// BenchmarkReads reads the blocks of 20 shards, shard by shard, in several ways:
// a block costs cpu-ns/block.
func BenchmarkReads(b *testing.B) {
	d, err := dagstore.NewDAGStore(dagstore.Config{TransientsDir: b.TempDir(), IndexRepo: index.NewMemoryRepo()})
	require.NoError(b, err)
	require.NoError(b, d.Start(b.Context()))
	defer d.Close()
	var all []cartest.Block
	for i := range 20 {
		bs := cartest.Blocks(1000, 256, uint64(i))
		m := &mount.BytesMount{Bytes: cartest.V1(nil, bs)}
		require.NoError(b, dagstore.Register(b.Context(), d, key(fmt.Sprint(i)), m, dagstore.RegisterOpts{}))
		all = append(all, bs...)
	}
	store, err := indexbs.NewIndexBackedBlockstore(b.Context(), d, nil, 20, time.Minute)
	require.NoError(b, err)
	defer store.Close()
	s := store.NewSession(b.Context())
	defer s.Close()
	cids := cidsOf(all)
	ways := map[string]func() error{
		"Get":         func() error { return getEach(b, store, all) },
		"session-Get": func() error { return getEach(b, s, all) },
		"session-View": func() error {
			for _, want := range all {
				if err := s.View(b.Context(), want.Cid, func([]byte) error { return nil }); err != nil {
					return err
				}
			}
			return nil
		},
		"GetMany": func() error {
			return store.GetMany(b.Context(), cids, func(_ int, _ blocks.Block, err error) error { return err })
		},
		"session-GetMany": func() error {
			return s.GetMany(b.Context(), cids, func(_ int, _ blocks.Block, err error) error { return err })
		},
	}
	for name, read := range ways {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			begin := cpuTime(b)
			for b.Loop() {
				require.NoError(b, read())
			}
			b.ReportMetric(0, "ns/op")
			b.ReportMetric(float64(cpuTime(b)-begin)/float64(b.N*len(all)), "cpu-ns/block")
		})
	}
}

func cpuTime(b *testing.B) time.Duration {
	var usage unix.Rusage
	require.NoError(b, unix.Getrusage(unix.RUSAGE_SELF, &usage))
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}

func getEach(b *testing.B, g getter, all []cartest.Block) error {
	for _, want := range all {
		if _, err := g.Get(b.Context(), want.Cid); err != nil {
			return err
		}
	}
	return nil
}
