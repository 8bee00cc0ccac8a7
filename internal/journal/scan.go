package journal

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"slices"

	"github.com/filecoin-project/dagstore/internal/files"
)

// Read calls visit for every entry from a position on, and returns the position
// behind the last one that was visited; what is appended meanwhile may be left
// to the next call. A torn tail is the end: it may be an entry that is being
// written. The entry belongs to Read again when visit returns. An error of
// visit ends it, with the position before that entry.
//
// A writer whose append fails takes back what it has written, so a reader may
// have seen entries that are no more. Read finds that out, though not always at
// once, and it looks like damage: an ErrDamaged from a position that is not the
// first means to begin anew, and counts if that fails too.
func Read(fsys files.FS, path string, from Position, visit func(entry []byte) error) (to Position, err error) {
	f, err := fsys.Open(path)
	if err != nil {
		return from, fmt.Errorf("open the journal: %w", err)
	}
	to, _, err = scan(f, from, visit)
	if closeErr := f.Close(); err == nil {
		err = closeErr
	}
	if err != nil {
		return to, fmt.Errorf("read the journal %s: %w", path, err)
	}
	return to, nil
}

// scan does what Read does. It also returns the size of the file, from which on
// nothing was read.
func scan(f files.File, from Position, visit func(entry []byte) error) (to Position, size int64, err error) {
	info, err := f.Stat()
	if err != nil {
		return from, 0, err
	}
	size = info.Size()
	if size < max(from.Offset, headerSize) {
		return from, size, fmt.Errorf("%w: it has become shorter", ErrDamaged)
	}
	s := scanner{at: from, end: size}
	s.r = bufio.NewReaderSize(io.NewSectionReader(f, from.Offset, size-from.Offset), 64<<10)
	if from == (Position{}) {
		if err := s.header(); err != nil {
			return from, size, err
		}
	}
	if err := s.entries(visit); err != nil {
		return s.at, size, err
	}
	if s.at.Offset < s.created {
		return s.at, size, fmt.Errorf("%w: it is shorter than it was created", ErrDamaged)
	}
	return s.at, size, nil
}

type scanner struct {
	r       *bufio.Reader // of the file from at on
	at      Position
	end     int64 // of the file
	created int64 // size of the file as it was created, once the header is read
	prefix  [prefixSize]byte
	entry   []byte
}

func (s *scanner) header() error {
	var h [headerSize]byte
	if _, err := io.ReadFull(s.r, h[:]); err != nil {
		return err
	}
	var err error
	s.at, s.created, err = parseHeader(&h)
	return err
}

func (s *scanner) entries(visit func(entry []byte) error) error {
	for {
		to, err := s.next()
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if err := visit(s.entry); err != nil {
			return err
		}
		s.at = to
	}
}

// next reads an entry and returns its end, or an end of file of either kind
// where no whole entry is.
func (s *scanner) next() (Position, error) {
	p := s.prefix[:]
	if _, err := io.ReadFull(s.r, p); err != nil {
		return s.at, err
	}
	if s.prefix == [prefixSize]byte{} {
		return s.at, s.zeros()
	}
	sum := crc32.Update(s.at.sum, castagnoli, p[:4])
	n := int64(binary.LittleEndian.Uint32(p))
	if sum != binary.LittleEndian.Uint32(p[4:]) || n < 1 || n > MaxEntry {
		return s.at, s.damaged()
	}
	to := Position{Offset: s.at.Offset + prefixSize + n + checkSize}
	if to.Offset > s.end {
		return s.at, io.ErrUnexpectedEOF
	}
	s.entry = slices.Grow(s.entry[:0], int(n+checkSize))[:n+checkSize]
	if _, err := io.ReadFull(s.r, s.entry); err != nil {
		return s.at, err
	}
	to.sum = crc32.Update(sum, castagnoli, s.entry[:n])
	if to.sum != binary.LittleEndian.Uint32(s.entry[n:]) {
		return s.at, s.damaged()
	}
	s.entry = s.entry[:n]
	return to, nil
}

// zeros returns io.EOF if only zeros are left, and else that this is damage.
func (s *scanner) zeros() error {
	for {
		b, err := s.r.ReadByte()
		if err != nil {
			return err
		}
		if b != 0 {
			return s.damaged()
		}
	}
}

func (s *scanner) damaged() error {
	return fmt.Errorf("%w: bad entry at byte %d", ErrDamaged, s.at.Offset)
}
