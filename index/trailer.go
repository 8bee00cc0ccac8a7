package index

import (
	"encoding/binary"
	"errors"

	"github.com/filecoin-project/dagstore/internal/keyname"
	"github.com/filecoin-project/dagstore/shard"
)

// A file whose name does not tell its key has the key behind the index, where
// go-car ignores it: the bytes of the key, their number as a little-endian
// uint32, and trailerMagic.
const trailerMagic = "dagskey1"

const trailerEnd = 4 + len(trailerMagic)

var errNoTrailer = errors.New("no key behind the index")

// trailer returns what follows the index in the file of a key.
func trailer(key shard.Key) []byte {
	k := key.String()
	if !keyname.IsDigest(keyname.File(k)) {
		return nil
	}
	b := make([]byte, 0, len(k)+trailerEnd)
	b = append(b, k...)
	b = binary.LittleEndian.AppendUint32(b, uint32(len(k)))
	return append(b, trailerMagic...)
}

// trailingKey reads the key at the end of a file of the given size.
func (r *FSIndexRepo) trailingKey(path string, size int64) (key string, err error) {
	f, err := r.fs.Open(path)
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, f.Close()) }()

	var end [trailerEnd]byte
	if size < int64(len(end)) {
		return "", errNoTrailer
	}
	if _, err := f.ReadAt(end[:], size-int64(len(end))); err != nil {
		return "", err
	}
	n := int64(binary.LittleEndian.Uint32(end[:4]))
	if string(end[4:]) != trailerMagic || n > size-int64(len(end)) {
		return "", errNoTrailer
	}
	b := make([]byte, n)
	if _, err := f.ReadAt(b, size-int64(len(end))-n); err != nil {
		return "", err
	}
	return string(b), nil
}
