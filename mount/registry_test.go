package mount_test

import (
	"context"
	"errors"
	"io/fs"
	"net/url"
	"sync"
	"sync/atomic"
	"testing"
	"testing/fstest"

	"github.com/stretchr/testify/require"

	"github.com/filecoin-project/dagstore/mount"
)

func TestRegisterRefusesWhatCouldNotBeToldApart(t *testing.T) {
	reg := mount.NewRegistry()
	require.NoError(t, reg.Register("file", &mount.FileMount{}))
	require.ErrorContains(t, reg.Register("", &mount.BytesMount{}), "empty scheme")
	require.ErrorContains(t, reg.Register("x", nil), "nil template")
	require.ErrorContains(t, reg.Register("x", (*mount.BytesMount)(nil)), "nil template")
	require.ErrorContains(t, reg.Register("file", &mount.BytesMount{}), "registered already")
	require.ErrorContains(t, reg.Register("File", &mount.BytesMount{}), "registered already")
	require.ErrorContains(t, reg.Register("x", &mount.FileMount{}), "registered already")
}

func TestUnknownSchemesAndTypesAreTold(t *testing.T) {
	reg := mount.NewRegistry()
	_, err := reg.Instantiate(&url.URL{Scheme: "x"})
	require.ErrorIs(t, err, mount.ErrUnrecognizedScheme)
	_, err = reg.Instantiate(nil)
	require.Error(t, err)
	_, err = reg.Represent(&mount.FileMount{})
	require.ErrorIs(t, err, mount.ErrUnrecognizedType)
	_, err = reg.Represent(nil)
	require.ErrorIs(t, err, mount.ErrUnrecognizedType)
	_, err = reg.Represent((*mount.Upgrader)(nil))
	require.ErrorIs(t, err, mount.ErrUnrecognizedType)
}

// url.Parse lowers the scheme, so that a mount under "Lotus" would not come back.
func TestSchemesWithCapitalsSurviveARestart(t *testing.T) {
	reg := mount.NewRegistry()
	require.NoError(t, reg.Register("Lotus", &mount.FileMount{}))
	require.Equal(t, &mount.FileMount{Path: "/a"}, throughText(t, mustRegister(t, "Lotus", &mount.FileMount{}), &mount.FileMount{Path: "/a"}))
	u, err := reg.Represent(&mount.FileMount{Path: "/a"})
	require.NoError(t, err)
	require.Equal(t, "Lotus", u.Scheme)
}

func mustRegister(t *testing.T, scheme string, template mount.Mount) *mount.Registry {
	t.Helper()
	reg := mount.NewRegistry()
	require.NoError(t, reg.Register(scheme, template))
	return reg
}

// wrapper is a mount of a service: it embeds one of ours, wraps another, and has
// a client, a lock, and fields that are not exported.
type wrapper struct {
	*mount.FileMount
	Inner  mount.Mount
	Shared fs.FS

	mu      sync.Mutex
	calls   atomic.Int32
	client  *string
	inner   mount.Mount
	several []mount.Mount
	pair    [2]mount.Mount
	nested  struct{ *mount.FileMount }
	none    mount.Mount
	absent  []mount.Mount
}

func (w *wrapper) Fetch(context.Context) (mount.Reader, error) { return nil, errors.New("own fetch") }

// Defect 22l: all wrapper mounts ended up as the one restored last.
func TestRestoredMountsDoNotShareTheMountsTheyWrap(t *testing.T) {
	reg := mustRegister(t, "counting", &mount.Counting{Mount: &mount.Counting{Mount: &mount.FileMount{}}})
	_, err := reg.Represent(&mount.FileMount{})
	require.ErrorIs(t, err, mount.ErrUnrecognizedType)
	a, err := reg.Instantiate(&url.URL{Scheme: "counting", Path: "/a"})
	require.NoError(t, err)
	b, err := reg.Instantiate(&url.URL{Scheme: "counting", Path: "/b"})
	require.NoError(t, err)
	require.Equal(t, "/a", a.Serialize().Path)
	require.Equal(t, "/b", b.Serialize().Path)
}

// Unexported fields of a template were dropped, and a mount came back without
// its client.
func TestClonesHaveWhatTheTemplateHas(t *testing.T) {
	client, file := "client", &mount.FileMount{Path: "x"}
	template := &wrapper{
		FileMount: &mount.FileMount{}, Inner: file, Shared: fstest.MapFS{}, client: &client, inner: file,
		several: []mount.Mount{file, nil}, pair: [2]mount.Mount{file, (*mount.FileMount)(nil)},
	}
	template.nested.FileMount = file
	template.mu.Lock()
	template.calls.Store(7)
	m, err := mustRegister(t, "w", template).Instantiate(&url.URL{Scheme: "w", Path: "/a"})
	require.NoError(t, err)
	clone := m.(*wrapper)

	require.Equal(t, "/a", clone.Path)
	require.Empty(t, template.Path)
	require.Same(t, &client, clone.client)
	require.Equal(t, template.Shared, clone.Shared)
	require.True(t, clone.mu.TryLock(), "the lock of a template is not that of its clones")
	require.Zero(t, clone.calls.Load())
	for _, held := range []mount.Mount{clone.Inner, clone.inner, clone.several[0], clone.pair[0], clone.nested.FileMount} {
		require.Equal(t, file, held)
		require.NotSame(t, file, held)
	}
	require.Nil(t, clone.none)
	require.Nil(t, clone.absent)
	_, err = m.Fetch(t.Context())
	require.ErrorContains(t, err, "own fetch")
}

// cloner clones itself.
type cloner struct {
	mount.FileMount
	clone func() mount.Mount
}

func (c *cloner) Clone() mount.Mount { return c.clone() }

func TestMountsMayCloneThemselves(t *testing.T) {
	template := &cloner{}
	reg := mustRegister(t, "c", template)
	template.clone = func() mount.Mount { return &cloner{} }
	m, err := reg.Instantiate(&url.URL{Scheme: "c", Path: "/a"})
	require.NoError(t, err)
	require.Equal(t, &cloner{FileMount: mount.FileMount{Path: "/a"}}, m)

	for _, clone := range []func() mount.Mount{
		func() mount.Mount { return nil },
		func() mount.Mount { return (*cloner)(nil) },
		func() mount.Mount { return &mount.FileMount{} },
		func() mount.Mount { panic("boom") },
	} {
		template.clone = clone
		_, err := reg.Instantiate(&url.URL{Scheme: "c", Path: "/a"})
		require.Error(t, err)
	}
	_, err = mustRegister(t, "w", &mount.Counting{Mount: template}).Instantiate(&url.URL{Scheme: "w"})
	require.ErrorContains(t, err, "boom")
	_, err = mustRegister(t, "w", &wrapper{several: []mount.Mount{template}}).Instantiate(&url.URL{Scheme: "w"})
	require.ErrorContains(t, err, "boom")
}

func TestTemplateThatHoldsItselfIsAnError(t *testing.T) {
	template := &mount.Counting{}
	template.Mount = template
	_, err := mustRegister(t, "c", template).Instantiate(&url.URL{Scheme: "c"})
	require.ErrorContains(t, err, "nested too deeply")
}

// plainValue is a mount that is no pointer; what it refers to is shared.
type plainValue struct{ to *string }

func (p plainValue) Fetch(context.Context) (mount.Reader, error) { return nil, errors.New("no data") }
func (p plainValue) Info() mount.Info                            { return mount.Info{} }
func (p plainValue) Stat(context.Context) (mount.Stat, error)    { return mount.Stat{}, nil }
func (p plainValue) Serialize() *url.URL                         { return &url.URL{Host: *p.to} }
func (p plainValue) Deserialize(u *url.URL) error                { *p.to = u.Host; return nil }
func (p plainValue) Close() error                                { return nil }

// Defects, last paragraph: mounts that are not pointers ended the process.
func TestMountsNeedNotBePointers(t *testing.T) {
	host := "a"
	reg := mustRegister(t, "plain", plainValue{&host})
	restored := throughText(t, reg, plainValue{&host})
	require.Equal(t, plainValue{&host}, restored)
}

// Defect 21: a nil URL, or any panic, ended the process.
func TestPanicsOfMountsAreErrors(t *testing.T) {
	reg := mustRegister(t, "c", &mount.Counting{}) // wraps nothing: every call panics
	_, err := reg.Represent(&mount.Counting{})
	require.ErrorContains(t, err, "panic")
	_, err = reg.Instantiate(&url.URL{Scheme: "c"})
	require.ErrorContains(t, err, "panic")
	_, err = mustRegister(t, "n", &noURL{}).Represent(&noURL{})
	require.ErrorContains(t, err, "no URL")
	_, err = mustRegister(t, "file", &mount.FileMount{}).Instantiate(&url.URL{Scheme: "file"})
	require.ErrorContains(t, err, "no path")
}

type noURL struct{ mount.FileMount }

func (*noURL) Serialize() *url.URL { return nil }

// ownURL returns the same URL again and again.
type ownURL struct {
	mount.FileMount
	url *url.URL
}

func (o *ownURL) Serialize() *url.URL { return o.url }

func TestRegistryDoesNotChangeTheMountsURL(t *testing.T) {
	m := &ownURL{url: &url.URL{Path: "/a"}}
	_, err := mustRegister(t, "own", &ownURL{}).Represent(m)
	require.NoError(t, err)
	require.Empty(t, m.url.Scheme)
}

func TestUpgraderIsRepresentedByItsMount(t *testing.T) {
	reg := mustRegister(t, "file", &mount.FileMount{})
	u, err := mount.Upgrade(&mount.FileMount{Path: "/a"}, nil, t.TempDir(), "key", "")
	require.NoError(t, err)
	require.Equal(t, &mount.FileMount{Path: "/a"}, throughText(t, reg, u))
}

func TestRegistryIsSafeForConcurrentUse(t *testing.T) {
	reg := newRegistry(t)
	require.NoError(t, reg.Register("counting", &mount.Counting{Mount: &mount.FileMount{}}))
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			m, err := reg.Instantiate(&url.URL{Scheme: "counting", Path: "/a"})
			if err == nil {
				_, err = reg.Represent(m)
			}
			if err != nil {
				t.Error(err)
			}
			_ = reg.Register("x", &noURL{})
		})
	}
	wg.Wait()
}
