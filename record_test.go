package dagstore

import (
	"context"
	"encoding/json"
	"errors"
	"testing"

	mh "github.com/multiformats/go-multihash"
	"github.com/stretchr/testify/require"

	"github.com/filecoin-project/dagstore/index"
	"github.com/filecoin-project/dagstore/internal/catalogue"
	"github.com/filecoin-project/dagstore/mount"
	"github.com/filecoin-project/dagstore/shard"
)

// FuzzRecord reads arbitrary bytes as a record: what is accepted is written
// again with the same meaning.
func FuzzRecord(f *testing.F) {
	registry := mount.NewRegistry()
	require.NoError(f, registry.Register("bytes", &mount.BytesMount{}))
	d, err := NewDAGStore(Config{TransientsDir: f.TempDir(), MountRegistry: registry})
	require.NoError(f, err)
	f.Cleanup(func() { _ = d.Close() })
	f.Add("k", []byte(`{"k":"k","u":"bytes://aGVsbG8=","t":"","s":2,"l":true,"e":""}`))
	f.Add("k", []byte(`{"k":"k","u":"bytes:aGVsbG8","t":"/x/y","s":240,"l":false,"e":"it broke"}`))
	f.Add("%a%2Fb", []byte(`{"k":"a/b","u":"bytes://","s":255}`))
	f.Add("", []byte(`{"s":7}`))
	f.Fuzz(func(t *testing.T, name string, value []byte) {
		e := catalogue.Entry{Name: name, Value: value}
		require.NotEmpty(t, unreadable(e, nil).spared)
		sh, err := d.revived(e)
		if err != nil {
			return
		}
		require.NotEmpty(t, sh.key.String())
		b, err := sh.MarshalJSON()
		require.NoError(t, err)
		var p PersistedShard
		require.NoError(t, json.Unmarshal(b, &p))
		again := &Shard{store: d}
		p.Key = sh.key.String() // the name tells it, where JSON cannot
		require.NoError(t, again.restore(p))
		require.Equal(t, sh.state, again.state)
		require.Equal(t, sh.lazy, again.lazy)
		require.Equal(t, sh.url, again.url)
	})
}

type failingInverted struct{ index.Inverted }

var errInverted = errors.New("the index is away")

func (failingInverted) GetShardsForMultihash(context.Context, mh.Multihash) ([]shard.Key, error) {
	return nil, errInverted
}

func TestErrorOfACustomIndexKeepsItsIdentity(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		r := newRig(t, func(c *Config) { c.TopLevelIndex = failingInverted{c.TopLevelIndex} })
		_, err := r.ShardsContainingMultihash(t.Context(), blocksOf(0)[0].Cid.Hash())
		require.ErrorIs(t, err, errInverted)
	})
}

func TestErrorOfAShardIsStillTheSameAfterARestart(t *testing.T) {
	require.ErrorIs(t, restoredError("shard initialization failed: x: truncated car: unexpected EOF"), ErrShardInitializationFailed)
	require.NotErrorIs(t, restoredError("shard initialization failed: x"), context.Canceled)
	require.EqualError(t, restoredError(""), "the shard was recorded as errored, without a reason")
}
