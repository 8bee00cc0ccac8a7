package indexbuild_test

import (
	"context"
	"io"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/filecoin-project/dagstore/internal/files"
	"github.com/filecoin-project/dagstore/internal/indexbuild"
)

// countdown is a context that is cancelled when it has been asked so often.
type countdown struct {
	context.Context
	left atomic.Int64
}

func cancelled(after int) *countdown {
	c := &countdown{Context: context.Background()}
	c.left.Store(int64(after))
	return c
}

func (c *countdown) Err() error {
	if c.left.Add(-1) < 0 {
		return context.Canceled
	}
	return nil
}

func TestCancelledWriteCanBeRepeated(t *testing.T) {
	records := usual(400)
	want := goCar(t, records)
	for _, memory := range []int64{0, 1} {
		n := 0
		for ; ; n++ {
			b := indexbuild.NewLimited(files.OS, t.TempDir(), indexbuild.NewBudget(memory), small)
			build(t, b, records)
			err := b.WriteTo(cancelled(n), io.Discard)
			if err != nil {
				require.ErrorIs(t, err, context.Canceled)
			}
			require.Equal(t, want, written(t, b))
			require.NoError(t, b.Close())
			if err == nil {
				break
			}
		}
		require.GreaterOrEqual(t, n, 5)
	}
}

func TestCancelledAddLosesNoRecord(t *testing.T) {
	records := usual(1500)
	b := indexbuild.NewLimited(files.OS, t.TempDir(), indexbuild.NewBudget(1), small)
	defer b.Close()
	refused := 0
	for i, r := range records {
		for n := 0; ; n++ {
			b.Bind(cancelled(n))
			err := b.Add(r.code, r.digest, r.offset)
			if err == nil {
				break
			}
			require.ErrorIs(t, err, context.Canceled)
			require.EqualValues(t, i, b.Len())
			refused++
		}
	}
	require.Greater(t, refused, 20)
	require.Equal(t, goCar(t, records), written(t, b))
}

// A writer that cancels.
type canceller struct {
	cancel context.CancelFunc
	writes int
}

func (w *canceller) Write(p []byte) (int, error) {
	w.cancel()
	w.writes++
	return len(p), nil
}

func TestNothingIsWrittenAfterCancellation(t *testing.T) {
	for _, memory := range []int64{0, 1} {
		b := indexbuild.New(files.OS, t.TempDir(), indexbuild.NewBudget(memory))
		defer b.Close()
		build(t, b, usual(60_000))
		ctx, cancel := context.WithCancel(t.Context())
		w := &canceller{cancel: cancel}
		require.ErrorIs(t, b.WriteTo(ctx, w), context.Canceled)
		require.Equal(t, 1, w.writes)
	}
}
