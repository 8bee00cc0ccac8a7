package index

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"sync"

	carindex "github.com/ipld/go-car/v2/index"

	"github.com/filecoin-project/dagstore/internal/guard"
	"github.com/filecoin-project/dagstore/shard"
)

// A MemIndexRepo is a Repo in memory. Make it with NewMemoryRepo. It keeps the
// very index that is added, of any type.
type MemIndexRepo struct {
	mu        sync.RWMutex
	indices   map[shard.Key]sizedIndex
	manifests map[ManifestKey]Manifest
}

type sizedIndex struct {
	index carindex.Index
	size  uint64
}

var _ Repo = (*MemIndexRepo)(nil)

// NewMemoryRepo returns an empty repo.
func NewMemoryRepo() *MemIndexRepo {
	return &MemIndexRepo{
		indices:   make(map[shard.Key]sizedIndex),
		manifests: make(map[ManifestKey]Manifest),
	}
}

// Len implements FullIndexRepo.
func (r *MemIndexRepo) Len() (int, error) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return len(r.indices), nil
}

// ForEach implements FullIndexRepo.
func (r *MemIndexRepo) ForEach(visit func(key shard.Key) (bool, error)) error {
	r.mu.RLock()
	keys := slices.Collect(maps.Keys(r.indices))
	r.mu.RUnlock()
	for _, key := range keys {
		if more, err := visit(key); err != nil || !more {
			return err
		}
	}
	return nil
}

// Size implements FullIndexRepo. The size of an index is that of its
// serialised form.
func (r *MemIndexRepo) Size() (uint64, error) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	var sum uint64
	for _, x := range r.indices {
		sum += x.size
	}
	return sum, nil
}

// GetFullIndex implements FullIndexRepo.
func (r *MemIndexRepo) GetFullIndex(key shard.Key) (carindex.Index, error) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	x, ok := r.indices[key]
	if !ok {
		return nil, indexNotFound(key)
	}
	return x.index, nil
}

// AddFullIndex implements FullIndexRepo. An index that cannot be serialised is
// refused.
func (r *MemIndexRepo) AddFullIndex(key shard.Key, index carindex.Index) error {
	var size byteCounter
	err := guard.Call(func() error {
		_, err := carindex.WriteTo(index, &size)
		return err
	})
	if err != nil {
		return fmt.Errorf("index of shard %q: %w", key, err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.indices[key] = sizedIndex{index: index, size: uint64(size)}
	return nil
}

// DropFullIndex implements FullIndexRepo.
func (r *MemIndexRepo) DropFullIndex(key shard.Key) (dropped bool, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	_, dropped = r.indices[key]
	delete(r.indices, key)
	return dropped, nil
}

// StatFullIndex implements FullIndexRepo.
func (r *MemIndexRepo) StatFullIndex(key shard.Key) (Stat, error) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	x, ok := r.indices[key]
	return Stat{Exists: ok, Size: x.size}, nil
}

// ListManifests implements ManifestRepo.
func (r *MemIndexRepo) ListManifests(key shard.Key) ([]ManifestKey, error) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	var keys []ManifestKey
	for k := range r.manifests {
		if k.Shard == key {
			keys = append(keys, k)
		}
	}
	sortByName(keys)
	return keys, nil
}

// GetManifest implements ManifestRepo.
func (r *MemIndexRepo) GetManifest(key ManifestKey) (Manifest, error) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	m, ok := r.manifests[key]
	if !ok {
		return Manifest{}, manifestNotFound(key)
	}
	return clone(m), nil
}

// AddManifest implements ManifestRepo.
func (r *MemIndexRepo) AddManifest(manifest Manifest) error {
	if err := checked(manifest); err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.manifests[manifest.Key] = clone(manifest)
	return nil
}

// DropManifest implements ManifestRepo.
func (r *MemIndexRepo) DropManifest(key ManifestKey) (bool, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	_, dropped := r.manifests[key]
	delete(r.manifests, key)
	return dropped, nil
}

// DropManifests implements ManifestRepo.
func (r *MemIndexRepo) DropManifests(key shard.Key) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	before := len(r.manifests)
	maps.DeleteFunc(r.manifests, func(k ManifestKey, _ Manifest) bool { return k.Shard == key })
	return before - len(r.manifests), nil
}

// A byteCounter counts what is written to it.
type byteCounter uint64

var _ io.Writer = (*byteCounter)(nil)

func (c *byteCounter) Write(p []byte) (int, error) {
	*c += byteCounter(len(p))
	return len(p), nil
}
