package indexbs

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/filecoin-project/dagstore"
	"github.com/filecoin-project/dagstore/internal/cartest"
	"github.com/filecoin-project/dagstore/mount"
	"github.com/filecoin-project/dagstore/shard"
)

func TestLateReaderOfABrokenShardDoesNotCloseTheOneThatWasOpenedAnew(t *testing.T) {
	m, key := &moody{asked: 1}, shard.KeyFromString("k")
	c, err := newCache(t.Context(), m, 1, 0)
	require.NoError(t, err)
	broken, err := c.lease(t.Context(), key)
	require.NoError(t, err)
	for range 2 {
		c.extend(broken)
	}
	c.giveBack(broken, failed)
	fresh, err := c.lease(t.Context(), key)
	require.NoError(t, err)
	require.False(t, broken == fresh)
	c.giveBack(broken, failed)
	_, err = broken.accessor.Reader().Read(make([]byte, 1))
	require.NoError(t, err, "the shard was pulled from under its last reader")
	c.giveBack(broken, served)
	_, err = broken.accessor.Reader().Read(make([]byte, 1))
	require.ErrorIs(t, err, fs.ErrClosed)
	again, err := c.lease(t.Context(), key)
	require.NoError(t, err)
	require.True(t, fresh == again, "the shard was opened a third time")
	c.release(fresh)
	c.release(again)
	c.close()
	require.Equal(t, 3, m.asked)
}

// A moody store has one shard, which cannot be opened the first time.
type moody struct {
	IdxBstoreDagstore
	asked int
}

func (m *moody) AcquireShard(
	ctx context.Context, k shard.Key, out chan dagstore.ShardResult, _ dagstore.AcquireOpts,
) error {
	if m.asked++; m.asked == 1 {
		return errors.New("sector sealed")
	}
	r := bytes.NewReader(cartest.V1(nil, cartest.Blocks(1, 10, 1)))
	a, err := dagstore.NewShardAccessor(&mount.NopCloser{Reader: r, ReaderAt: r, Seeker: r}, nil, nil)
	if err != nil {
		return err
	}
	select {
	case out <- dagstore.ShardResult{Key: k, Accessor: a}:
	case <-ctx.Done():
	}
	return nil
}

func TestLateEndOfAFailedLeaseDoesNotHideTheShardThatIsOpenByThen(t *testing.T) {
	m, key := &moody{}, shard.KeyFromString("k")
	c, err := newCache(t.Context(), m, 1, 0)
	require.NoError(t, err)
	sealed, _, err := c.join(key)
	require.NoError(t, err)
	<-sealed.opened
	require.Error(t, sealed.err)
	open, err := c.lease(t.Context(), key)
	require.NoError(t, err)
	c.release(sealed)
	again, err := c.lease(t.Context(), key)
	require.NoError(t, err)
	require.True(t, open == again, "the shard was opened twice")
	c.release(open)
	c.release(again)
	c.close()
	require.Equal(t, 2, m.asked)
}
