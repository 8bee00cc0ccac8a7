package index

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/url"
	"path/filepath"
	"strings"

	"github.com/multiformats/go-multihash"

	"github.com/filecoin-project/dagstore/internal/files"
	"github.com/filecoin-project/dagstore/shard"
)

const (
	manifestSuffix  = ".manifest"
	manifestVersion = 1
)

// manifestFile is the JSON of a manifest. Bytes are in base64, since neither
// keys nor names need be UTF-8.
type manifestFile struct {
	Version     int                   `json:"version"`
	Shard       []byte                `json:"shard"`
	Name        []byte                `json:"name"`
	Multihashes []multihash.Multihash `json:"multihashes"`
}

func (f manifestFile) key() ManifestKey {
	return ManifestKey{Shard: shard.KeyFromString(string(f.Shard)), Name: string(f.Name)}
}

// maxPart is the longest part of a manifest's file name, in bytes: two of them,
// a dot and the suffix fit in 255 bytes.
const maxPart = 118

const digestPart = "%sha256-"

// part returns a key or a name as a part of a file name, without a dot. It is
// injective: long ones become their digest, which no escaped one looks like.
func part(s string) string {
	var b strings.Builder
	for i := range len(s) {
		c := s[i]
		if c == '-' || c == '_' || '0' <= c && c <= '9' || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' {
			b.WriteByte(c)
			continue
		}
		fmt.Fprintf(&b, "%%%02X", c)
	}
	if b.Len() > maxPart {
		sum := sha256.Sum256([]byte(s))
		return digestPart + hex.EncodeToString(sum[:])
	}
	return b.String()
}

func (r *FSIndexRepo) manifestPath(key ManifestKey) string {
	return filepath.Join(r.dir, part(key.Shard.String())+"."+part(key.Name)+manifestSuffix)
}

// ListManifests implements ManifestRepo.
func (r *FSIndexRepo) ListManifests(key shard.Key) ([]ManifestKey, error) {
	entries, err := r.fs.ReadDir(r.dir)
	if err != nil {
		return nil, fmt.Errorf("index folder: %w", err)
	}
	var keys []ManifestKey
	for _, e := range entries {
		name, ok := strings.CutPrefix(e.Name(), part(key.String())+".")
		name, isManifest := strings.CutSuffix(name, manifestSuffix)
		if !ok || !isManifest || e.IsDir() {
			continue
		}
		k, err := r.manifestKey(key, name)
		if errors.Is(err, ErrDamaged) || errors.Is(err, fs.ErrNotExist) {
			logger.Warnw("file is not a manifest", "name", e.Name(), "err", err)
			continue
		}
		if err != nil {
			return nil, err
		}
		keys = append(keys, k)
	}
	sortByName(keys)
	return keys, nil
}

// manifestKey returns the key of the manifest of a shard whose file name has this
// part. A digest does not tell the name; then it is in the file.
func (r *FSIndexRepo) manifestKey(key shard.Key, name string) (ManifestKey, error) {
	k := ManifestKey{Shard: key}
	if strings.HasPrefix(name, digestPart) {
		f, err := r.readManifest(filepath.Join(r.dir, part(key.String())+"."+name+manifestSuffix))
		if err != nil {
			return ManifestKey{}, err
		}
		k = f.key()
	} else {
		var err error
		if k.Name, err = url.PathUnescape(name); err != nil {
			return ManifestKey{}, fmt.Errorf("%w: %w", ErrDamaged, err)
		}
	}
	if k.Shard != key || part(k.Name) != name {
		return ManifestKey{}, fmt.Errorf("%w: another manifest's name", ErrDamaged)
	}
	return k, nil
}

func (r *FSIndexRepo) readManifest(path string) (manifestFile, error) {
	b, err := r.readFile(path)
	if err != nil {
		return manifestFile{}, err
	}
	var f manifestFile
	if err := json.Unmarshal(b, &f); err != nil {
		return manifestFile{}, fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	if f.Version != manifestVersion {
		return manifestFile{}, fmt.Errorf("%w: version %d, want %d", ErrDamaged, f.Version, manifestVersion)
	}
	return f, nil
}

func (r *FSIndexRepo) readFile(path string) (b []byte, err error) {
	f, err := r.fs.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	return io.ReadAll(f)
}

// GetManifest implements ManifestRepo.
func (r *FSIndexRepo) GetManifest(key ManifestKey) (Manifest, error) {
	f, err := r.readManifest(r.manifestPath(key))
	if errors.Is(err, fs.ErrNotExist) {
		if err := r.folderThere(); err != nil {
			return Manifest{}, err
		}
		return Manifest{}, manifestNotFound(key)
	}
	if err == nil && f.key() != key {
		err = fmt.Errorf("%w: another manifest's file", ErrDamaged)
	}
	if err != nil {
		return Manifest{}, fmt.Errorf("manifest %q of shard %q: %w", key.Name, key.Shard, err)
	}
	m := Manifest{Key: key, Multihashes: f.Multihashes}
	if err := checked(m); err != nil {
		return Manifest{}, fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	return m, nil
}

// AddManifest implements ManifestRepo. It is durable when it returns nil.
func (r *FSIndexRepo) AddManifest(manifest Manifest) error {
	if err := checked(manifest); err != nil {
		return err
	}
	key := manifest.Key
	b, err := json.Marshal(manifestFile{
		Version:     manifestVersion,
		Shard:       []byte(key.Shard.String()),
		Name:        []byte(key.Name),
		Multihashes: manifest.Multihashes,
	})
	if err == nil {
		err = files.Replace(r.fs, r.manifestPath(key), func(w io.Writer) error {
			_, err := w.Write(b)
			return err
		})
	}
	if err != nil {
		return fmt.Errorf("manifest %q of shard %q: %w", key.Name, key.Shard, err)
	}
	return nil
}

// DropManifest implements ManifestRepo.
func (r *FSIndexRepo) DropManifest(key ManifestKey) (bool, error) {
	return r.drop(r.manifestPath(key))
}

// DropManifests implements ManifestRepo.
func (r *FSIndexRepo) DropManifests(key shard.Key) (int, error) {
	keys, err := r.ListManifests(key)
	if err != nil {
		return 0, err
	}
	n := 0
	for _, k := range keys {
		dropped, err := r.DropManifest(k)
		if err != nil {
			return n, err
		}
		if dropped {
			n++
		}
	}
	return n, nil
}
