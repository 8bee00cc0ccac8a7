// Package carfile finds the blocks in CARv1 and CARv2 files and indexes them.
//
// It is strict where go-car is lenient, because what it reads comes from
// strangers: a section must lie in the payload, a CID in its section, and no
// length is believed before it is checked. A file that was cut is refused
// instead of indexed, and an index inside a CARv2 is never read.
//
// Readers may fail and even panic: both become errors.
package carfile

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"

	car "github.com/ipld/go-car/v2"
	"github.com/multiformats/go-varint"

	"github.com/filecoin-project/dagstore/internal/guard"
)

const (
	// MaxHeader is the greatest length in bytes of a CARv1 header. It is go-car's.
	MaxHeader = 32 << 20
	// MaxCid is the greatest length in bytes of a CID. A longer one, which can
	// only be an identity CID or nonsense, makes the CAR malformed.
	MaxCid = 2 << 10

	maxVarint    = varint.MaxLenUvarint63
	v2HeaderSize = 40
)

// v2Pragma is what every CARv2 starts with: a CARv1 header of version 2.
var v2Pragma = []byte("\x0a\xa1\x67version\x02")

// A Payload is where the CARv1 lies in a file.
type Payload struct {
	Offset int64 // of its first byte in the file
	Size   int64 // in bytes, with the header and any zero padding
	Header int64 // length of the CARv1 header with its varint: where sections begin
}

// Locate finds the CARv1 in a file of size bytes, which is a CARv1 or a CARv2,
// and checks its header. It reads nothing behind the header. Errors are an
// [*Error] or the reader's own.
func Locate(r io.ReaderAt, size int64) (p Payload, err error) {
	defer guard.Recover(&err)
	p = Payload{Size: size}
	if size >= int64(len(v2Pragma)) {
		pragma := make([]byte, len(v2Pragma))
		if err := readHeader(r, pragma, 0); err != nil {
			return Payload{}, err
		}
		if bytes.Equal(pragma, v2Pragma) {
			if p, err = locateV2(r, size); err != nil {
				return Payload{}, err
			}
		}
	}
	if p.Header, err = v1Header(r, p); err != nil {
		return Payload{}, err
	}
	return p, nil
}

// locateV2 reads the header of a CARv2. The index offset in it is nobody's business.
func locateV2(r io.ReaderAt, size int64) (Payload, error) {
	start := int64(len(v2Pragma))
	if size < start+v2HeaderSize {
		return Payload{}, headerError(ErrTruncated, start, "the file ends in the CARv2 header")
	}
	var h [v2HeaderSize]byte
	if err := readHeader(r, h[:], start); err != nil {
		return Payload{}, err
	}
	offset, length := binary.LittleEndian.Uint64(h[16:]), binary.LittleEndian.Uint64(h[24:])
	switch {
	case offset < uint64(start+v2HeaderSize):
		return Payload{}, headerError(ErrMalformed, start, "data offset %d lies in the CARv2 header", offset)
	case length == 0:
		return Payload{}, headerError(ErrMalformed, start, "no data")
	case offset > uint64(size) || length > uint64(size)-offset:
		return Payload{}, headerError(ErrTruncated, start,
			"%d bytes of data at offset %d do not fit into the file of %d bytes", length, offset, size)
	}
	return Payload{Offset: int64(offset), Size: int64(length)}, nil
}

// v1Header checks the header at the start of the payload and returns its
// length. The length is what the varint says: re-encoding the header, as
// go-car does, moves all sections when the encoding is not canonical.
func v1Header(r io.ReaderAt, p Payload) (int64, error) {
	head := make([]byte, max(0, min(maxVarint, p.Size)))
	if err := readHeader(r, head, p.Offset); err != nil {
		return 0, err
	}
	n, width, err := varint.FromUvarint(head)
	switch {
	case errors.Is(err, varint.ErrUnderflow):
		return 0, headerError(ErrTruncated, p.Offset, "no length")
	case err != nil:
		return 0, headerError(ErrMalformed, p.Offset, "length: %v", err)
	case n == 0 || n > MaxHeader:
		return 0, headerError(ErrMalformed, p.Offset, "%d bytes long, allowed are 1 to %d", n, MaxHeader)
	case int64(n) > p.Size-int64(width):
		return 0, headerError(ErrTruncated, p.Offset, "%d bytes long, only %d are left", n, p.Size-int64(width))
	}
	header := make([]byte, width+int(n))
	if err := readHeader(r, header, p.Offset); err != nil {
		return 0, err
	}
	version, err := car.ReadVersion(bytes.NewReader(header), car.MaxAllowedHeaderSize(MaxHeader))
	if err != nil {
		return 0, headerError(ErrMalformed, p.Offset, "%v", err)
	}
	if version != 1 {
		return 0, headerError(ErrMalformed, p.Offset, "version %d where 1 is expected", version)
	}
	return int64(len(header)), nil
}

func readHeader(r io.ReaderAt, buf []byte, offset int64) error {
	err := readFull(r, buf, offset)
	if errors.Is(err, errShort) {
		return headerError(ErrTruncated, offset, "%v", err)
	}
	return err
}
