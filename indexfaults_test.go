package dagstore

import (
	"bytes"
	"context"
	"io"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strings"
	"testing"

	"github.com/multiformats/go-multihash"
	"github.com/stretchr/testify/require"

	"github.com/filecoin-project/dagstore/internal/cartest"
	"github.com/filecoin-project/dagstore/mount"
	"github.com/filecoin-project/dagstore/shard"
)

// A vanishingMount removes the local copy that was made of its first fetch.
type vanishingMount struct {
	fakeMount
	dir string
	n   int
}

type vanishingReader struct {
	mount.NopCloser
	remove func()
}

func (v *vanishingReader) Close() error { v.remove(); return nil }

func (m *vanishingMount) Fetch(ctx context.Context) (mount.Reader, error) {
	m.n++
	n := m.n
	return &vanishingReader{mount.NopCloser{Reader: bytes.NewReader(m.source().data)}, func() {
		if n == 1 {
			_ = os.Remove(filepath.Join(m.dir, "transient-a.complete"))
		}
	}}, nil
}

func TestNoBlockIsIndexedTwiceWhenALocalCopyVanishes(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		r := newRig(t, withoutDatastore)
		m := &vanishingMount{fakeMount: *r.mount("a"), dir: r.config.TransientsDir}
		require.NoError(t, r.result(func(out chan ShardResult) error {
			return r.RegisterShard(t.Context(), key("a"), m, out, RegisterOpts{})
		}).Error)
		idx, err := r.GetIterableIndex(key("a"))
		require.NoError(t, err)
		n := 0
		require.NoError(t, idx.ForEach(func(multihash.Multihash, uint64) error { n++; return nil }))
		require.Equal(t, 4, n)
	})
}

func TestWhyACARWasRefusedIsKnownAfterARestart(t *testing.T) {
	for name, want := range map[string]error{"hash": ErrHashMismatch, "truncated": ErrTruncatedCAR, "malformed": ErrMalformedCAR, "unknown": ErrUnknownHash} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				r := newRig(t, func(c *Config) { c.VerifyBlocks = true })
				car := r.sources["b"].data
				switch name {
				case "hash":
					car[len(car)-1] ^= 1
				case "truncated":
					r.sources["b"].data = car[:len(car)-1]
				case "malformed":
					r.sources["b"].data = bytes.Repeat([]byte{0xff}, 100)
				case "unknown":
					r.sources["b"].data = cartest.V1(nil, []cartest.Block{{Cid: cartest.Cid(0x77777, make([]byte, 20)), Data: []byte("x")}})
				}
				require.ErrorIs(t, r.register("b"), want)
				r.restart()
				info, err := r.GetShardInfo(key("b"))
				require.NoError(t, err)
				require.ErrorIs(t, info.Error, want)
			})
		})
	}
}

func TestProgressThatPanicsFailsTheShardAlone(t *testing.T) {
	for _, remote := range []bool{true, false} {
		for _, verify := range []bool{true, false} {
			inBubble(t, func(t *testing.T) {
				r := newRig(t, func(c *Config) {
					c.OnIndexProgress = func(shard.Key, IndexProgress) { panic("progress") }
					c.VerifyBlocks = verify
				})
				r.sources["a"].remote = remote
				require.ErrorContains(t, r.register("a"), "progress")
				require.Equal(t, ShardStateErrored, r.state("a"))
			})
		}
	}
}

func TestProgressThatEndsTheGoroutineLeavesNothingOpen(t *testing.T) {
	defer debug.SetGCPercent(debug.SetGCPercent(-1)) // which would close what was forgotten
	inBubble(t, func(t *testing.T) {
		car := cartest.V1(nil, cartest.Blocks(60_000, 4, 5))
		ended := false
		r := newRig(t, func(c *Config) {
			c.IndexMemory = 1
			c.OnIndexProgress = func(_ shard.Key, p IndexProgress) {
				if p.Bytes == int64(len(car)) { // the last: the data was passed over, and records were put aside
					ended = true
					runtime.Goexit()
				}
			}
		})
		r.sources["a"].data = car
		require.ErrorIs(t, r.register("a"), errEnded)
		require.True(t, ended)
		if runtime.GOOS != "linux" {
			return
		}
		open, err := filepath.Glob("/proc/self/fd/*")
		require.NoError(t, err)
		for _, fd := range open {
			path, _ := os.Readlink(fd) // that of the list itself is gone
			require.False(t, strings.HasPrefix(path, r.config.TransientsDir+"/"), path)
		}
	})
}

// Who opens an index holds something for each hash function in it.
func TestCARWithAHashFunctionForEachBlockIsRefused(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		r := newRig(t)
		car := cartest.Header(1)
		for code := range uint64(70_000) {
			car = append(car, cartest.Section(cartest.Block{Cid: cartest.Cid(code, nil)})...)
		}
		r.sources["a"].data = car
		require.ErrorIs(t, r.register("a"), ErrMalformedCAR)
	})
}

// A CAR that lies in the middle of a larger file.
type windowReader struct {
	*os.File
	s *io.SectionReader
}

func (w windowReader) Read(p []byte) (int, error)              { return w.s.Read(p) }
func (w windowReader) ReadAt(p []byte, o int64) (int, error)   { return w.s.ReadAt(p, o) }
func (w windowReader) Seek(o int64, whence int) (int64, error) { return w.s.Seek(o, whence) }

type windowMount struct {
	path  string
	at, n int64
}

func (m *windowMount) Fetch(context.Context) (mount.Reader, error) {
	f, err := os.Open(m.path)
	if err != nil {
		return nil, err
	}
	return windowReader{f, io.NewSectionReader(f, m.at, m.n)}, nil
}
func (m *windowMount) Info() mount.Info {
	return mount.Info{Kind: mount.KindLocal, AccessSequential: true, AccessSeek: true, AccessRandom: true}
}
func (m *windowMount) Stat(context.Context) (mount.Stat, error) {
	return mount.Stat{Exists: true, Size: m.n, Ready: true}, nil
}
func (m *windowMount) Serialize() *url.URL        { return &url.URL{Host: "x"} }
func (m *windowMount) Deserialize(*url.URL) error { return nil }
func (m *windowMount) Close() error               { return nil }

func TestCARInsideALargerFileIsRegistered(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		r := newRig(t, withoutDatastore)
		car := cartest.V1(nil, blocksOf(0))
		path := filepath.Join(t.TempDir(), "big")
		require.NoError(t, os.WriteFile(path, append(append(bytes.Repeat([]byte{7}, 1000), car...), bytes.Repeat([]byte{9}, 1000)...), 0o600))
		m := &windowMount{path, 1000, int64(len(car))}
		require.NoError(t, r.result(func(out chan ShardResult) error {
			return r.RegisterShard(t.Context(), key("a"), m, out, RegisterOpts{})
		}).Error)
		a := r.mustAcquire("a")
		bs, err := a.Blockstore()
		require.NoError(t, err)
		for _, b := range blocksOf(0) {
			_, err := bs.Get(t.Context(), b.Cid)
			require.NoError(t, err)
		}
		require.NoError(t, a.Close())
	})
}
