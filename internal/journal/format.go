package journal

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
)

// MaxEntry is the length of the longest entry, in bytes.
const MaxEntry = 64 << 20

const (
	magic      = "dagsjrnl"
	version    = 1
	headerSize = 24
	prefixSize = 8 // what stands before an entry: its length and a check
	checkSize  = 4
)

// ErrDamaged tells that a journal is not what was written.
var ErrDamaged = errors.New("journal is damaged")

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// A Position is a place between two entries. The zero Position is before the
// first one.
type Position struct {
	Offset int64  // in bytes from the start of the file
	sum    uint32 // CRC-32C of all that is before, without the checks
}

// sizeOf returns the bytes that an entry takes in the file.
func sizeOf(entry []byte) int64 { return prefixSize + int64(len(entry)) + checkSize }

// accept returns an error if entry cannot be written.
func accept(entry []byte) error {
	if len(entry) == 0 || len(entry) > MaxEntry {
		return fmt.Errorf("journal entry has %d bytes, not 1 to %d", len(entry), MaxEntry)
	}
	return nil
}

// appendHeader appends the header of a file that is created with size bytes.
func appendHeader(dst []byte, size int64) ([]byte, Position) {
	start := len(dst)
	dst = append(dst, magic...)
	dst = binary.LittleEndian.AppendUint32(dst, version)
	dst = binary.LittleEndian.AppendUint64(dst, uint64(size))
	sum := crc32.Update(0, castagnoli, dst[start:])
	return binary.LittleEndian.AppendUint32(dst, sum), Position{headerSize, sum}
}

// parseHeader returns the end of the header and the size with which the file
// was created.
func parseHeader(h *[headerSize]byte) (at Position, created int64, err error) {
	sum := crc32.Update(0, castagnoli, h[:headerSize-checkSize])
	if string(h[:len(magic)]) != magic || sum != binary.LittleEndian.Uint32(h[headerSize-checkSize:]) {
		return Position{}, 0, fmt.Errorf("%w: bad header", ErrDamaged)
	}
	if v := binary.LittleEndian.Uint32(h[len(magic):]); v != version {
		return Position{}, 0, fmt.Errorf("journal has version %d, this program reads version %d: %w", v, version, errors.ErrUnsupported)
	}
	size := binary.LittleEndian.Uint64(h[12:])
	return Position{headerSize, sum}, int64(min(size, 1<<63-1)), nil
}

// appendEntry appends an entry to dst, as it lies in the file at position at,
// and returns its end.
func appendEntry(dst []byte, at Position, entry []byte) ([]byte, Position) {
	start := len(dst)
	dst = binary.LittleEndian.AppendUint32(dst, uint32(len(entry)))
	sum := crc32.Update(at.sum, castagnoli, dst[start:])
	dst = binary.LittleEndian.AppendUint32(dst, sum)
	dst = append(dst, entry...)
	sum = crc32.Update(sum, castagnoli, entry)
	dst = binary.LittleEndian.AppendUint32(dst, sum)
	return dst, Position{at.Offset + sizeOf(entry), sum}
}
