package index_test

import (
	"testing"

	ds "github.com/ipfs/go-datastore"
	dssync "github.com/ipfs/go-datastore/sync"
	"github.com/stretchr/testify/require"

	"github.com/filecoin-project/dagstore/index"
	"github.com/filecoin-project/dagstore/index/indextest"
	"github.com/filecoin-project/dagstore/internal/fault"
)

func TestMemIndexRepo(t *testing.T) {
	indextest.FullIndexRepo(t, indextest.Harness[index.FullIndexRepo]{
		New: func(*testing.T) index.FullIndexRepo { return index.NewMemoryRepo() },
	})
	indextest.ManifestRepo(t, indextest.Harness[index.ManifestRepo]{
		New: func(*testing.T) index.ManifestRepo { return index.NewMemoryRepo() },
	})
}

// folders remembers where a repo is, to open it again.
type folders map[any]string

func (f folders) open(t *testing.T, dir string) *index.FSIndexRepo {
	r, err := index.NewFSRepo(dir)
	require.NoError(t, err)
	f[r] = dir
	return r
}

func TestFSIndexRepo(t *testing.T) {
	f := folders{}
	indextest.FullIndexRepo(t, indextest.Harness[index.FullIndexRepo]{
		New:    func(t *testing.T) index.FullIndexRepo { return f.open(t, t.TempDir()) },
		Reopen: func(t *testing.T, r index.FullIndexRepo) index.FullIndexRepo { return f.open(t, f[r]) },
	})
	indextest.ManifestRepo(t, indextest.Harness[index.ManifestRepo]{
		New:    func(t *testing.T) index.ManifestRepo { return f.open(t, t.TempDir()) },
		Reopen: func(t *testing.T, r index.ManifestRepo) index.ManifestRepo { return f.open(t, f[r]) },
	})
}

func TestDatastoreInverted(t *testing.T) {
	for name, wrap := range map[string]func(ds.Batching) ds.Batching{
		"batching":  func(d ds.Batching) ds.Batching { return d },
		"unbatched": fault.Unbatched,
	} {
		t.Run(name, func(t *testing.T) {
			stores := map[index.Inverted]ds.Batching{}
			open := func(d ds.Batching) index.Inverted {
				x := index.NewInverted(d)
				stores[x] = d
				return x
			}
			indextest.Inverted(t, indextest.Harness[index.Inverted]{
				New: func(*testing.T) index.Inverted {
					return open(wrap(dssync.MutexWrap(ds.NewMapDatastore())))
				},
				Reopen: func(_ *testing.T, x index.Inverted) index.Inverted { return open(stores[x]) },
			})
		})
	}
}

func TestFSInverted(t *testing.T) {
	indextest.Inverted(t, indextest.Harness[index.Inverted]{
		New: func(t *testing.T) index.Inverted {
			x := index.NewMemoryInverted()
			t.Cleanup(func() { require.NoError(t, x.Close()) })
			return x
		},
	})
	dirs := map[index.Inverted]string{}
	open := func(t *testing.T, dir string) index.Inverted {
		x, err := index.OpenFSInverted(t.Context(), dir, index.FSInvertedOptions{})
		require.NoError(t, err)
		t.Cleanup(func() { require.NoError(t, x.Close()) })
		dirs[x] = dir
		return x
	}
	indextest.Inverted(t, indextest.Harness[index.Inverted]{
		New: func(t *testing.T) index.Inverted { return open(t, t.TempDir()) },
		Reopen: func(t *testing.T, x index.Inverted) index.Inverted {
			require.NoError(t, x.(*index.FSInverted).Close())
			return open(t, dirs[x])
		},
	})
}
