package blockview

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"

	"github.com/filecoin-project/dagstore/internal/cartest"
	"github.com/filecoin-project/dagstore/internal/mapped"
)

// bothWays runs the test over mapped data, and over data that is only read.
func bothWays(t *testing.T, car []byte, test func(t *testing.T, b *Blocks, data *mapped.Data)) {
	for name, mapIt := range map[string]bool{"mapped": true, "read": false} {
		t.Run(name, func(t *testing.T) {
			b, data := view(t, car)
			if mapIt {
				require.NoError(t, data.Map())
			}
			test(t, b, data)
		})
	}
}

func TestAViewReturnsTheErrorOfItsUserAsItIs(t *testing.T) {
	made := cartest.Blocks(1, 100, 1)
	bothWays(t, cartest.V1(nil, made), func(t *testing.T, b *Blocks, data *mapped.Data) {
		for _, want := range []error{errors.New("mine"), fs.ErrClosed, io.ErrUnexpectedEOF} {
			require.Equal(t, want, b.View(t.Context(), made[0].Cid, func([]byte) error { return want }))
		}
	})
}

func TestAViewThatPanicsLeavesNothingHeld(t *testing.T) {
	made := cartest.Blocks(1, 100, 1)
	bothWays(t, cartest.V1(nil, made), func(t *testing.T, b *Blocks, data *mapped.Data) {
		require.PanicsWithValue(t, "mine", func() {
			_ = b.View(t.Context(), made[0].Cid, func([]byte) error { panic("mine") })
		})
		require.Panics(t, func() {
			_ = b.View(t.Context(), made[0].Cid, func([]byte) error { return (*os.PathError)(nil).Err })
		}, "a fault elsewhere is the user's own")
		requireBlock(t, b, made[0])
		require.NoError(t, data.Close())
	})
}

func TestBlocksCanBeReadInAView(t *testing.T) {
	made := append(cartest.Blocks(5, 100, 1), cartest.Blocks(5, 9000, 2)...)
	bothWays(t, cartest.V1(nil, made), func(t *testing.T, b *Blocks, data *mapped.Data) {
		for i, outer := range made {
			require.NoError(t, b.View(t.Context(), outer.Cid, func(got []byte) error {
				inner := made[(i+1)%len(made)]
				requireBlock(t, b, inner)
				require.NotEmpty(t, keys(t, b))
				require.True(t, bytes.Equal(outer.Data, got), "the bytes of a view changed during it")
				return nil
			}))
		}
	})
}

func TestCloseWaitsForAView(t *testing.T) {
	made := cartest.Blocks(2, 9000, 1)
	car := cartest.V1(nil, made)
	for name, mapIt := range map[string]bool{"mapped": true, "read": false} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b, data := view(t, car)
				if mapIt {
					require.NoError(t, data.Map())
				}
				closed := false
				err := b.View(context.Background(), made[0].Cid, func(got []byte) error {
					go func() {
						if err := data.Close(); err != nil {
							t.Error(err)
						}
						closed = true
					}()
					<-data.Done()
					synctest.Wait()
					require.False(t, closed)
					require.True(t, bytes.Equal(made[0].Data, got))
					_, err := b.Get(context.Background(), made[1].Cid)
					require.Equal(t, fs.ErrClosed, err)
					require.Equal(t, fs.ErrClosed, b.View(context.Background(), made[1].Cid, notCalled(t)))
					return nil
				})
				require.NoError(t, err, "a view that had begun before Close")
				synctest.Wait()
				require.True(t, closed)
			})
		})
	}
}

func TestAFileCutDuringAViewIsAnError(t *testing.T) {
	made := cartest.Blocks(3, 100_000, 1)
	data, file := open(t, cartest.V1(nil, made))
	require.NoError(t, data.Map())
	b := newBlocks(t, data, index(t, data))
	err := b.View(t.Context(), made[2].Cid, func(got []byte) error {
		require.NoError(t, file.Truncate(0))
		_, err := b.Get(t.Context(), made[0].Cid)
		require.ErrorIs(t, err, io.ErrUnexpectedEOF)
		_ = bytes.Clone(got)
		t.Error("bytes that are gone were read")
		return nil
	})
	require.ErrorIs(t, err, io.ErrUnexpectedEOF)
}

func TestAViewCannotBeAppendedTo(t *testing.T) {
	made := cartest.Blocks(2, 100, 1)
	bothWays(t, cartest.V1(nil, made), func(t *testing.T, b *Blocks, data *mapped.Data) {
		require.NoError(t, b.View(t.Context(), made[0].Cid, func(got []byte) error {
			_ = append(got, "behind the block"...)
			return nil
		}))
		requireBlock(t, b, made[1])
	})
}

func TestABlockTooLargeForAKeptBufferIsViewed(t *testing.T) {
	made := []cartest.Block{cartest.Raw(bytes.Repeat([]byte("much"), keptSize/4+1)), cartest.Raw(bytes.Repeat([]byte("kept"), keptSize/4))}
	bothWays(t, cartest.V1(nil, made), func(t *testing.T, b *Blocks, data *mapped.Data) {
		for _, want := range made {
			requireBlock(t, b, want)
		}
	})
}
