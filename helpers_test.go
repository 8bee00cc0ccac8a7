package dagstore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	ds "github.com/ipfs/go-datastore"
	dssync "github.com/ipfs/go-datastore/sync"
	carindex "github.com/ipld/go-car/v2/index"
	"github.com/stretchr/testify/require"

	"github.com/filecoin-project/dagstore/index"
	"github.com/filecoin-project/dagstore/internal/cartest"
	"github.com/filecoin-project/dagstore/internal/indexer"
	"github.com/filecoin-project/dagstore/mount"
	"github.com/filecoin-project/dagstore/shard"
)

func init() { impossible = func(err error) { panic(err) } }

// A source is where a fake mount's data comes from.
type source struct {
	mu     sync.Mutex
	data   []byte
	remote bool          // to be read from start to end only
	err    error         // of Fetch
	panics any           // with which Fetch panics
	hold   chan struct{} // Fetch waits until it is closed; made in the bubble
	fetch  int           // calls of Fetch
	opened int
	closed int
}

func (s *source) set(f func(*source)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f(s)
}

func (s *source) fetched() (n int) {
	s.set(func(s *source) { n = s.fetch })
	return n
}

func (s *source) open() (n int) {
	s.set(func(s *source) { n = s.opened - s.closed })
	return n
}

// fakeMount is a mount of a source, which it finds again after a restart.
type fakeMount struct {
	id      string
	sources map[string]*source // read only
}

func (m *fakeMount) source() *source { return m.sources[m.id] }

func (m *fakeMount) Fetch(ctx context.Context) (mount.Reader, error) {
	s := m.source()
	var hold chan struct{}
	s.set(func(s *source) { s.fetch++; hold = s.hold })
	if hold != nil {
		select {
		case <-hold:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.panics != nil {
		panic(s.panics)
	}
	if s.err != nil {
		return nil, s.err
	}
	s.opened++
	r := bytes.NewReader(s.data)
	if s.remote {
		return &countedReader{NopCloser: mount.NopCloser{Reader: r}, source: s}, nil
	}
	return &countedReader{NopCloser: mount.NopCloser{Reader: r, ReaderAt: r, Seeker: r}, source: s}, nil
}

func (m *fakeMount) Info() mount.Info {
	s := m.source()
	if s.remote {
		return mount.Info{Kind: mount.KindRemote, AccessSequential: true}
	}
	return mount.Info{AccessSequential: true, AccessSeek: true, AccessRandom: true}
}

func (m *fakeMount) Stat(context.Context) (mount.Stat, error) {
	return mount.Stat{Exists: true, Size: int64(len(m.source().data)), Ready: true}, nil
}

func (m *fakeMount) Serialize() *url.URL          { return &url.URL{Host: m.id} }
func (m *fakeMount) Deserialize(u *url.URL) error { m.id = u.Host; return nil }
func (m *fakeMount) Close() error                 { return nil }

type countedReader struct {
	mount.NopCloser
	once   sync.Once
	source *source
}

func (r *countedReader) Close() error {
	r.once.Do(func() { r.source.set(func(s *source) { s.closed++ }) })
	return nil
}

// A rig is a store, and what outlives it.
type rig struct {
	*DAGStore
	t       *testing.T
	sources map[string]*source
	config  Config
	traceCh chan Trace
}

// newRig returns a started store with a source "a" to "e" each of other blocks.
func newRig(t *testing.T, tweaks ...func(*Config)) *rig {
	t.Helper()
	r := newStoppedRig(t, tweaks...)
	require.NoError(t, r.Start(t.Context()))
	return r
}

func newStoppedRig(t *testing.T, tweaks ...func(*Config)) *rig {
	t.Helper()
	r := &rig{t: t, sources: map[string]*source{}, traceCh: make(chan Trace, 10_000)}
	for i, id := range strings.Split("abcde", "") {
		r.sources[id] = &source{data: cartest.V1(nil, blocksOf(i)), remote: true}
	}
	registry := mount.NewRegistry()
	require.NoError(t, registry.Register("fake", &fakeMount{sources: r.sources}))
	r.config = Config{
		TransientsDir: t.TempDir(),
		IndexRepo:     &faultyRepo{FullIndexRepo: index.NewMemoryRepo()},
		TopLevelIndex: index.NewInverted(newDisk()),
		Datastore:     newDisk(),
		MountRegistry: registry,
		TraceCh:       r.traceCh,
	}
	for _, tweak := range tweaks {
		tweak(&r.config)
	}
	r.renew()
	t.Cleanup(func() { _ = r.Close() })
	return r
}

func (r *rig) renew() {
	r.t.Helper()
	var err error
	r.DAGStore, err = NewDAGStore(r.config)
	require.NoError(r.t, err)
}

// restart closes the store and starts another in its place.
func (r *rig) restart(tweaks ...func(*Config)) {
	r.t.Helper()
	require.NoError(r.t, r.Close())
	for _, tweak := range tweaks {
		tweak(&r.config)
	}
	r.drain()
	r.renew()
	require.NoError(r.t, r.Start(r.t.Context()))
	synctest.Wait()
}

func blocksOf(i int) []cartest.Block { return cartest.Blocks(4, 100, uint64(i+1)) }

func key(k string) shard.Key { return shard.KeyFromString(k) }

// mount returns a mount of the source named like the first letter of k.
func (r *rig) mount(k string) *fakeMount { return &fakeMount{id: k[:1], sources: r.sources} }

// errSilence is the error of a request that was never answered.
var errSilence = errors.New("not answered")

// resultOn returns the one result on out.
func resultOn(out <-chan ShardResult) ShardResult {
	select {
	case res := <-out:
		return res
	case <-time.After(time.Hour):
		return ShardResult{Error: errSilence}
	}
}

// result returns the one result of a request, also when it is refused.
func (r *rig) result(request func(out chan ShardResult) error) ShardResult {
	r.t.Helper()
	out := make(chan ShardResult, 2)
	if err := request(out); err != nil {
		return ShardResult{Error: err}
	}
	res := resultOn(out)
	synctest.Wait()
	require.Empty(r.t, out, "a second result")
	return res
}

func (r *rig) register(k string, opts ...RegisterOpts) error {
	r.t.Helper()
	return r.result(func(out chan ShardResult) error { return r.ask(context.Background(), k, out, opts...) }).Error
}

// ask registers a shard whose source is named like the first letter of k.
func (r *rig) ask(ctx context.Context, k string, out chan ShardResult, opts ...RegisterOpts) error {
	var o RegisterOpts
	if len(opts) > 0 {
		o = opts[0]
	}
	return r.RegisterShard(ctx, key(k), r.mount(k), out, o)
}

func (r *rig) acquire(k string) (*ShardAccessor, error) {
	r.t.Helper()
	res := r.result(func(out chan ShardResult) error {
		return r.AcquireShard(context.Background(), key(k), out, AcquireOpts{})
	})
	return res.Accessor, res.Error
}

func (r *rig) mustAcquire(k string) *ShardAccessor {
	r.t.Helper()
	a, err := r.acquire(k)
	require.NoError(r.t, err)
	return a
}

// use acquires the shard, reads it whole, and closes it.
func (r *rig) use(k string) {
	r.t.Helper()
	a := r.mustAcquire(k)
	got, err := io.ReadAll(a.Reader())
	require.NoError(r.t, err)
	require.Equal(r.t, r.sources[k[:1]].data, got)
	require.NoError(r.t, a.Close())
	synctest.Wait()
}

func (r *rig) recover(k string) error {
	r.t.Helper()
	return r.result(func(out chan ShardResult) error {
		return r.RecoverShard(context.Background(), key(k), out, RecoverOpts{})
	}).Error
}

func (r *rig) destroy(k string) error {
	r.t.Helper()
	return r.result(func(out chan ShardResult) error {
		return r.DestroyShard(context.Background(), key(k), out, DestroyOpts{})
	}).Error
}

func (r *rig) state(k string) ShardState {
	r.t.Helper()
	info, err := r.GetShardInfo(key(k))
	if err != nil {
		require.Equal(r.t, ErrShardUnknown, err)
		return ShardStateUnknown
	}
	return info.ShardState
}

// drain returns the traces since the last call, as "Op→State".
func (r *rig) drain() (traces []string) {
	synctest.Wait()
	for len(r.traceCh) > 0 {
		tr := <-r.traceCh
		op := strings.TrimPrefix(tr.Op.String(), "OpShard")
		if tr.Op != OpShardDestroy {
			op += "→" + strings.TrimPrefix(tr.After.String(), "ShardState")
		}
		traces = append(traces, op)
	}
	return traces
}

func (r *rig) expect(traces ...string) {
	r.t.Helper()
	require.Equal(r.t, traces, r.drain())
}

// transients returns the names of the files in the transients folder that are
// not hidden.
func (r *rig) transients() (names []string) {
	r.t.Helper()
	entries, err := os.ReadDir(r.config.TransientsDir)
	require.NoError(r.t, err)
	for _, e := range entries {
		if !strings.HasPrefix(e.Name(), ".") {
			names = append(names, e.Name())
		}
	}
	return names
}

func (r *rig) shardsWith(b cartest.Block) string {
	r.t.Helper()
	keys, err := r.ShardsContainingMultihash(context.Background(), b.Cid.Hash())
	if err != nil {
		require.ErrorIs(r.t, err, ds.ErrNotFound)
	}
	return fmt.Sprint(keys)
}

// newDisk returns an empty datastore.
func newDisk() ds.Batching { return dssync.MutexWrap(ds.NewMapDatastore()) }

// inBubble runs f in a synctest bubble.
func inBubble(t *testing.T, f func(t *testing.T)) { t.Helper(); synctest.Test(t, f) }

// indexSections is a ShardIndexer that does what the store does without one.
func indexSections(ctx context.Context, _ shard.Key, r mount.Reader) (carindex.Index, error) {
	size, err := r.Seek(0, io.SeekEnd)
	if err != nil {
		return nil, err
	}
	idx, err := indexer.Memory(ctx, r, size)
	if err != nil {
		return nil, err
	}
	return idx.CarIndex(), nil
}
