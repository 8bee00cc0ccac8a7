package blockview

import (
	"bytes"
	"context"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"testing"

	blocks "github.com/ipfs/go-block-format"
	"github.com/ipfs/go-cid"
	"github.com/multiformats/go-multicodec"
	"github.com/stretchr/testify/require"

	"github.com/filecoin-project/dagstore/internal/cartest"
	"github.com/filecoin-project/dagstore/internal/fullindex"
	"github.com/filecoin-project/dagstore/internal/mapped"
)

// users are what runs beside Close until it gives fs.ErrClosed.
func users(made []cartest.Block) map[string]func(b *Blocks, i int) error {
	ctx := context.Background()
	var cids []cid.Cid
	for _, m := range made {
		cids = append(cids, m.Cid)
	}
	check := func(want cartest.Block, got []byte) {
		if !bytes.Equal(want.Data, got) {
			panic("wrong bytes beside Close")
		}
	}
	return map[string]func(b *Blocks, i int) error{
		"Get": func(b *Blocks, i int) error {
			got, err := b.Get(ctx, made[i].Cid)
			if err == nil {
				check(made[i], got.RawData())
			}
			return err
		},
		"View": func(b *Blocks, i int) error {
			return b.View(ctx, made[i].Cid, func(got []byte) error {
				check(made[i], got)
				if _, err := b.GetSize(ctx, made[i].Cid); err != nil {
					return err
				}
				check(made[i], got)
				return nil
			})
		},
		"GetMany": func(b *Blocks, _ int) error {
			return b.GetMany(ctx, cids, func(i int, got blocks.Block, err error) error {
				if err == nil {
					check(made[i], got.RawData())
				}
				return err
			})
		},
		"Has": func(b *Blocks, i int) error {
			_, err := b.Has(ctx, made[i].Cid)
			return err
		},
		"AllKeysChan": func(b *Blocks, _ int) error {
			all, err := b.AllKeysChan(ctx)
			if err != nil {
				return err
			}
			for range all {
			}
			return nil
		},
	}
}

// Defect 14b: SIGSEGV killed the process.
func TestReadingBesideCloseDoesNotKillTheProcess(t *testing.T) {
	made := append(cartest.Blocks(10, 1000, 1), cartest.Blocks(10, 9000, 2)...)
	car := cartest.V1(nil, made)
	whole, _ := open(t, car)
	folder := t.TempDir()
	carPath, indexPath := filepath.Join(folder, "car"), filepath.Join(folder, "index")
	require.NoError(t, os.WriteFile(carPath, car, 0o600))
	require.NoError(t, os.WriteFile(indexPath, encoded(t, goCars(t, multicodec.CarMultihashIndexSorted, records(t, whole))), 0o600))
	for round := range 40 {
		data := reopen(t, carPath)
		if round%2 == 0 {
			require.NoError(t, data.Map())
		}
		full, err := fullindex.FromData(reopen(t, indexPath))
		require.NoError(t, err)
		b := newBlocks(t, data, full.CarIndex())
		b.HashOnRead(round%3 == 0)

		var running sync.WaitGroup
		all := users(made)
		begun := make(chan struct{}, len(all))
		for name, use := range all {
			running.Go(func() {
				for i := 0; ; i++ {
					err := use(b, i%len(made))
					if i == 0 {
						begun <- struct{}{}
					}
					if err == fs.ErrClosed { //nolint:errorlint // the bare value is promised
						return
					}
					if err != nil {
						t.Errorf("%s beside Close: %v", name, err)
						return
					}
				}
			})
		}
		<-begun
		require.NoError(t, data.Close())
		require.NoError(t, full.Close()) // as the store does: the data first
		running.Wait()
	}
}

func reopen(t *testing.T, path string) *mapped.Data {
	t.Helper()
	file, err := os.Open(path)
	require.NoError(t, err)
	data, err := mapped.Open(file)
	require.NoError(t, err)
	return data
}

func TestReadingBesideTruncationDoesNotKillTheProcess(t *testing.T) {
	made := cartest.Blocks(20, 9000, 1)
	for range 20 {
		data, file := open(t, cartest.V1(nil, made))
		require.NoError(t, data.Map())
		b := newBlocks(t, data, index(t, data))
		var running sync.WaitGroup
		begun := make(chan struct{}, 4)
		for range cap(begun) {
			running.Go(func() {
				begun <- struct{}{}
				for i := 0; ; i = (i + 1) % len(made) {
					got, err := b.Get(context.Background(), made[i].Cid)
					if err != nil {
						return
					}
					if !bytes.Equal(made[i].Data, got.RawData()) {
						t.Error("wrong bytes of a truncated file")
						return
					}
				}
			})
		}
		<-begun
		require.NoError(t, file.Truncate(50_000))
		running.Wait()
	}
}
