package index

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"hash/crc32"
	"io"

	"github.com/filecoin-project/dagstore/internal/keyname"
	"github.com/filecoin-project/dagstore/shard"
)

// The file of an index goes on behind the index, where go-car ignores it:
//
//	key of the shard, only if the name of the file does not tell it
//	length of that key, little-endian uint32; 0 if it is not there
//	CRC-32C of all bytes before, little-endian uint32
//	trailerMagic
//
// Files of v0.7 have no trailer.
const trailerMagic = "dagsidx1"

// trailerEnd is the size of a trailer without its key.
const trailerEnd = 4 + 4 + len(trailerMagic)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

var errNoTrailer = errors.New("no key behind the index")

// trailingName returns the key as it stands in the trailer of its file.
func trailingName(key shard.Key) string {
	if keyname.IsDigest(keyname.File(key.String())) {
		return key.String()
	}
	return ""
}

// A sumWriter writes a file and sums up what it writes.
type sumWriter struct {
	w   io.Writer
	sum hash.Hash32
}

func newSumWriter(w io.Writer) *sumWriter { return &sumWriter{w, crc32.New(castagnoli)} }

func (s *sumWriter) Write(p []byte) (int, error) {
	n, err := s.w.Write(p)
	_, _ = s.sum.Write(p[:max(0, min(n, len(p)))])
	return n, err
}

// writeTrailer ends the file of a key.
func (s *sumWriter) writeTrailer(key shard.Key) error {
	name := trailingName(key)
	head := binary.LittleEndian.AppendUint32([]byte(name), uint32(len(name)))
	if _, err := s.Write(head); err != nil {
		return err
	}
	end := binary.LittleEndian.AppendUint32(nil, s.sum.Sum32())
	_, err := s.w.Write(append(end, trailerMagic...))
	return err
}

// checkTrailer checks what follows the index of a key in its file, and returns
// the sum that it tells. There is none in a file of v0.7.
func checkTrailer(key shard.Key, rest []byte) (sum uint32, summed bool, err error) {
	name := trailingName(key)
	if len(rest) == 0 && name == "" {
		return 0, false, nil
	}
	head := binary.LittleEndian.AppendUint32([]byte(name), uint32(len(name)))
	if len(rest) != len(name)+trailerEnd || string(rest[:len(head)]) != string(head) || string(rest[len(head)+4:]) != trailerMagic {
		return 0, false, fmt.Errorf("%w: %d bytes behind the index", ErrDamaged, len(rest))
	}
	return binary.LittleEndian.Uint32(rest[len(head):]), true, nil
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
	if string(end[8:]) != trailerMagic || n > size-int64(len(end)) {
		return "", errNoTrailer
	}
	b := make([]byte, n)
	if _, err := f.ReadAt(b, size-int64(len(end))-n); err != nil {
		return "", err
	}
	return string(b), nil
}
