// Package carfile finds the blocks in CARv1 and CARv2 files.
//
// It is strict where go-car is lenient, because what it reads comes from
// strangers: a section must lie in the payload, a CID in its section, and no
// length is believed before it is checked. A file that was cut is refused
// instead of indexed, and an index inside a CARv2 is never read. limits.go lists
// all that is refused.
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

// A Payload is where the CARv1 lies in a file.
type Payload struct {
	Offset int64 // of its first byte in the file
	Size   int64 // in bytes, with the header and any zero padding
	Header int64 // length of the CARv1 header with its varint: where sections begin
}

const (
	v2HeaderSize = 40
	v2Start      = 11 + v2HeaderSize // of the pragma and the header of a CARv2
)

// v2Pragma is what every CARv2 starts with: a CARv1 header of version 2.
var v2Pragma = []byte("\x0a\xa1\x67version\x02")

// Locate finds the CARv1 in a file of size bytes, which is a CARv1 or a CARv2,
// and checks its header. It reads nothing behind the header. Errors are an
// [*Error] or the reader's own.
func Locate(r io.ReaderAt, size int64) (p Payload, err error) {
	defer guard.Recover(&err)
	p, err = find(r, size)
	if err != nil {
		return Payload{}, err
	}
	header := make([]byte, p.Header)
	if err := readHeader(r, header, p.Offset); err != nil {
		return Payload{}, err
	}
	if err := checkHeader(header, p.Offset); err != nil {
		return Payload{}, err
	}
	return p, nil
}

// Find is Locate for a file that passed it before: the header of the CARv1 is
// neither read nor checked, but for its length. It reads twice at most, some
// dozens of bytes.
func Find(r io.ReaderAt, size int64) (p Payload, err error) {
	defer guard.Recover(&err)
	return find(r, size)
}

func find(r io.ReaderAt, size int64) (Payload, error) {
	var buf [v2Start + maxVarint]byte
	start := buf[:max(0, min(int64(len(buf)), size))]
	if err := readHeader(r, start, 0); err != nil {
		return Payload{}, err
	}
	p := Payload{Size: size}
	length := start[:min(maxVarint, len(start))]
	if bytes.HasPrefix(start, v2Pragma) {
		var err error
		if p, err = parseV2(start, size); err != nil {
			return Payload{}, err
		}
		length = buf[:min(maxVarint, p.Size)]
		if err := readHeader(r, length, p.Offset); err != nil {
			return Payload{}, err
		}
	}
	var err error
	if p.Header, err = parseHeaderSize(length, p); err != nil {
		return Payload{}, err
	}
	return p, nil
}

// parseV2 returns the payload of a CARv2 of size bytes that begins with start:
// v2Start bytes or all that there are. The index offset is nobody's business.
func parseV2(start []byte, size int64) (Payload, error) {
	at := int64(len(v2Pragma))
	if len(start) < v2Start {
		return Payload{}, headerError(ErrTruncated, at, "the file ends in the CARv2 header")
	}
	h := start[at:]
	offset, length := binary.LittleEndian.Uint64(h[16:]), binary.LittleEndian.Uint64(h[24:])
	switch {
	case offset < v2Start:
		return Payload{}, headerError(ErrMalformed, at, "data offset %d lies in the CARv2 header", offset)
	case length == 0:
		return Payload{}, headerError(ErrMalformed, at, "no data")
	case offset > uint64(size) || length > uint64(size)-offset:
		return Payload{}, truncatedData(offset, length, size)
	}
	return Payload{Offset: int64(offset), Size: int64(length)}, nil
}

// truncatedData returns the error of a CARv2 of size bytes that has not all the
// data of which its header tells.
func truncatedData(offset, length uint64, size int64) error {
	return headerError(ErrTruncated, int64(len(v2Pragma)),
		"%d bytes of data at offset %d do not fit into the file of %d bytes", length, offset, size)
}

// parseHeaderSize returns the length of the CARv1 header, varint included, whose
// first bytes are head. It is what the varint says: re-encoding the header, as
// go-car does, moves all sections when the encoding is not canonical.
func parseHeaderSize(head []byte, p Payload) (int64, error) {
	n, width, err := varint.FromUvarint(head)
	left := p.Size - int64(width)
	switch {
	case errors.Is(err, varint.ErrUnderflow):
		return 0, headerError(ErrTruncated, p.Offset, "no length")
	case err != nil:
		return 0, headerError(ErrMalformed, p.Offset, "length: %v", err)
	case n == 0 || n > MaxHeader:
		return 0, headerError(ErrMalformed, p.Offset, "%d bytes long, allowed are 1 to %d", n, MaxHeader)
	case int64(n) > left:
		return 0, headerError(ErrTruncated, p.Offset, "%d bytes long, only %d are left", n, left)
	case width < len(head) && head[width]>>5 != 5: // the major type of maps
		return 0, headerError(ErrMalformed, p.Offset, "no CBOR map")
	}
	return int64(width) + int64(n), nil
}

// checkHeader checks the header of a CARv1, which lies at offset in the file.
func checkHeader(header []byte, offset int64) error {
	version, err := car.ReadVersion(bytes.NewReader(header), car.MaxAllowedHeaderSize(MaxHeader))
	if err != nil {
		return headerError(ErrMalformed, offset, "%v", err)
	}
	if version != 1 {
		return headerError(ErrMalformed, offset, "version %d where 1 is expected", version)
	}
	return nil
}
