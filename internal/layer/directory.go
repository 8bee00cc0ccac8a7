package layer

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"sync/atomic"
)

// ErrDamaged is the error of bytes that are no layer, or no longer what was
// written. What was in the layer must then be found elsewhere.
var ErrDamaged = errors.New("damaged layer")

func damaged(format string, args ...any) error {
	return fmt.Errorf("%w: "+format, append([]any{ErrDamaged}, args...)...)
}

const (
	recordSize  = 20
	pageSize    = 4096
	pageRecords = 204
	pageCRC     = pageSize - 4 // where the checksum of a page is
	tableEntry  = 8
	entrySize   = 48 // of the directory
	footerSize  = 32
	footerCRC   = 16 // where the checksum is in the footer
	version     = 1
	magic       = "daglayer"
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func checksum(b []byte) uint32 { return crc32.Checksum(b, castagnoli) }

// A partition is a part of a layer. What the directory says of it never changes.
type partition struct {
	first, last uint64 // Hi of the first and of the last record
	records     int64
	at          int64 // where the first page is in the file
	pages       int
	filter      shape
	crc         uint32 // of table and filter

	summary atomic.Pointer[summary] // nil before the first use
}

func (p *partition) tableAt() int64     { return p.at + int64(p.pages)*pageSize }
func (p *partition) tableSize() int64   { return int64(p.pages) * tableEntry }
func (p *partition) summarySize() int64 { return p.tableSize() + p.filter.size() }
func (p *partition) end() int64         { return p.tableAt() + p.summarySize() }

// recordsOf returns how many records the i-th page has.
func (p *partition) recordsOf(i int) int {
	return int(min(pageRecords, p.records-int64(i)*pageRecords))
}

func (p *partition) appendEntry(b []byte) []byte {
	b = binary.LittleEndian.AppendUint64(b, p.first)
	b = binary.LittleEndian.AppendUint64(b, p.last)
	b = binary.LittleEndian.AppendUint64(b, uint64(p.records))
	b = binary.LittleEndian.AppendUint64(b, p.filter.seed)
	b = binary.LittleEndian.AppendUint32(b, p.filter.segment)
	b = binary.LittleEndian.AppendUint32(b, p.filter.segments)
	b = binary.LittleEndian.AppendUint32(b, p.crc)
	return binary.LittleEndian.AppendUint32(b, 0)
}

// parse reads an entry. The partition begins at a byte of the file from which on
// there are room bytes for partitions.
func (p *partition) parse(entry []byte, at, room int64) error {
	p.first = binary.LittleEndian.Uint64(entry)
	p.last = binary.LittleEndian.Uint64(entry[8:])
	records := binary.LittleEndian.Uint64(entry[16:])
	p.filter = shape{
		seed:     binary.LittleEndian.Uint64(entry[24:]),
		segment:  binary.LittleEndian.Uint32(entry[32:]),
		segments: binary.LittleEndian.Uint32(entry[36:]),
	}
	p.crc = binary.LittleEndian.Uint32(entry[40:])
	switch {
	case records == 0 || records > uint64(max(room, 0))/recordSize:
		return damaged("a partition of %d records where %d bytes are left", records, room)
	case p.first > p.last:
		return damaged("the last record of a partition is before its first")
	case !p.filter.isValid():
		return damaged("impossible filter %+v", p.filter)
	case binary.LittleEndian.Uint32(entry[44:]) != 0:
		return damaged("unknown fields in the directory")
	}
	p.records = int64(records)
	p.at = at
	p.pages = int((p.records + pageRecords - 1) / pageRecords)
	if p.end()-at > room {
		return damaged("a partition of %d bytes where %d are left", p.end()-at, room)
	}
	return nil
}

// aligned returns the next place for a page.
func aligned(at int64) int64 { return (at + pageSize - 1) / pageSize * pageSize }

// appendFooter ends a file whose directory is b.
func appendFooter(b []byte, records int64) []byte {
	partitions := len(b) / entrySize
	b = binary.LittleEndian.AppendUint64(b, uint64(records))
	b = binary.LittleEndian.AppendUint32(b, uint32(partitions))
	b = binary.LittleEndian.AppendUint32(b, 0)
	b = binary.LittleEndian.AppendUint32(b, checksum(b))
	b = binary.LittleEndian.AppendUint32(b, version)
	return append(b, magic...)
}

// readDirectory reads the end of a file of size bytes and checks it. It returns
// the directory as it is in the file.
func readDirectory(r io.ReaderAt, size int64) (directory []byte, records int64, err error) {
	if size < footerSize {
		return nil, 0, damaged("%d bytes are too short", size)
	}
	var footer [footerSize]byte
	if err := readFull(r, footer[:], size-footerSize); err != nil {
		return nil, 0, err
	}
	if string(footer[footerSize-len(magic):]) != magic {
		return nil, 0, damaged("the end of the file is not that of a layer")
	}
	if v := binary.LittleEndian.Uint32(footer[20:]); v != version {
		return nil, 0, foreign(&footer, v)
	}
	total := binary.LittleEndian.Uint64(footer[:])
	length := int64(binary.LittleEndian.Uint32(footer[8:])) * entrySize
	// Each partition has a page at least, which bounds what is allocated here.
	if length > size-footerSize || length/entrySize > size/pageSize || total > uint64(size) {
		return nil, 0, damaged("a directory of %d bytes in a file of %d", length, size)
	}
	b := make([]byte, length+footerCRC)
	if err := readFull(r, b, size-footerSize-length); err != nil {
		return nil, 0, err
	}
	if checksum(b) != binary.LittleEndian.Uint32(footer[footerCRC:]) {
		return nil, 0, damaged("wrong checksum of the directory")
	}
	if binary.LittleEndian.Uint32(footer[12:]) != 0 {
		return nil, 0, damaged("unknown fields in the footer")
	}
	return b[:length], int64(total), nil
}

// foreign returns the error of a footer of version v, which is not ours.
func foreign(footer *[footerSize]byte, v uint32) error {
	sum := crc32.Update(checksum(footer[:footerCRC]), castagnoli, footer[footerCRC+4:])
	if sum != binary.LittleEndian.Uint32(footer[footerCRC:]) {
		return damaged("version %d of the format is not known", v)
	}
	return fmt.Errorf("layer has version %d, this program reads version %d: %w", v, version, errors.ErrUnsupported)
}

// parseDirectory returns the partitions in the first size bytes of a file, which
// must be just these, and their records.
func parseDirectory(directory []byte, size int64) (parts []partition, records int64, err error) {
	parts = make([]partition, len(directory)/entrySize)
	end := int64(0)
	for i := range parts {
		p := &parts[i]
		at := aligned(end)
		if err := p.parse(directory[i*entrySize:][:entrySize], at, size-at); err != nil {
			return nil, 0, err
		}
		if i > 0 && p.first <= parts[i-1].last {
			return nil, 0, damaged("the partitions do not ascend")
		}
		records += p.records
		end = p.end()
	}
	if end != size {
		return nil, 0, damaged("%d bytes of partitions where there should be %d", size, end)
	}
	return parts, records, nil
}

// readFull fills b, or returns an error.
func readFull(r io.ReaderAt, b []byte, at int64) error {
	n, err := r.ReadAt(b, at)
	if n == len(b) {
		return nil
	}
	if err == nil || errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	return fmt.Errorf("read layer at byte %d: %w", at, err)
}
