package index

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/multiformats/go-multihash"

	"github.com/filecoin-project/dagstore/shard"
)

// A ManifestKey names a manifest. Both parts can have any bytes.
type ManifestKey struct {
	Shard shard.Key
	Name  string
}

// A Manifest is a named selection of the multihashes of a shard.
type Manifest struct {
	Key         ManifestKey
	Multihashes []multihash.Multihash
}

// A ManifestRepo keeps manifests. It is safe for concurrent use.
type ManifestRepo interface {
	// ListManifests returns the keys of the manifests of a shard, sorted by
	// name. None is not an error.
	ListManifests(key shard.Key) ([]ManifestKey, error)

	// GetManifest returns a manifest, with the multihashes in the order in which
	// they were added. The caller owns it. The error wraps ErrNotFound and
	// fs.ErrNotExist if there is none, and ErrDamaged if it cannot be read.
	GetManifest(key ManifestKey) (Manifest, error)

	// AddManifest keeps a manifest, in the place of another one of the same key
	// if there is one. It refuses multihashes that are malformed.
	AddManifest(manifest Manifest) error

	// DropManifest removes a manifest and tells whether there was one.
	DropManifest(key ManifestKey) (bool, error)

	// DropManifests removes all manifests of a shard and returns how many
	// there were.
	DropManifests(key shard.Key) (int, error)
}

// checked returns an error if a multihash of m is malformed.
func checked(m Manifest) error {
	for i, mh := range m.Multihashes {
		if _, err := multihash.Cast(mh); err != nil {
			return fmt.Errorf("manifest %q of shard %q: multihash %d: %w", m.Key.Name, m.Key.Shard, i, err)
		}
	}
	return nil
}

// clone returns a copy that shares no bytes with m.
func clone(m Manifest) Manifest {
	mhs := make([]multihash.Multihash, len(m.Multihashes))
	for i, mh := range m.Multihashes {
		mhs[i] = slices.Clone(mh)
	}
	return Manifest{Key: m.Key, Multihashes: mhs}
}

func sortByName(keys []ManifestKey) {
	slices.SortFunc(keys, func(a, b ManifestKey) int { return cmp.Compare(a.Name, b.Name) })
}
