package carfile

import (
	"errors"
	"fmt"
	"io"
)

var (
	// ErrMalformed means that bytes are no CAR. Fetching them again does not help.
	ErrMalformed = errors.New("malformed car")
	// ErrTruncated means that bytes begin a CAR and end too early; fetch them
	// again. It is also an [io.ErrUnexpectedEOF].
	ErrTruncated = fmt.Errorf("truncated car: %w", io.ErrUnexpectedEOF)
	// ErrHashMismatch means that a block is not the one that its CID names.
	ErrHashMismatch = errors.New("block does not match its hash")
	// ErrUnknownHash means that a block cannot be verified, because its hash
	// function is not registered with go-multihash. Register it there, or do not
	// verify.
	ErrUnknownHash = errors.New("unknown hash function")
)

// An Error says what is wrong with a CAR and where.
type Error struct {
	Part   string // "header" or "section"
	Offset int64  // of the part, in bytes: of a section in the payload, of a header in the file
	Reason string
	Err    error // ErrMalformed, ErrTruncated, ErrHashMismatch or ErrUnknownHash
}

// Error returns all of it, the sentinel first.
func (e *Error) Error() string {
	return fmt.Sprintf("%v: %s at offset %d: %s", e.Err, e.Part, e.Offset, e.Reason)
}

// Unwrap returns the sentinel.
func (e *Error) Unwrap() error { return e.Err }

func headerError(sentinel error, offset int64, format string, args ...any) error {
	return &Error{Part: "header", Offset: offset, Reason: fmt.Sprintf(format, args...), Err: sentinel}
}

func sectionError(sentinel error, offset int64, format string, args ...any) error {
	return &Error{Part: "section", Offset: offset, Reason: fmt.Sprintf(format, args...), Err: sentinel}
}

// errShort is what readFull returns when the reader has fewer bytes than it promised.
var errShort = errors.New("the file is shorter than its size")

// readFull fills buf from offset. The reader's own errors come back wrapped.
func readFull(r io.ReaderAt, buf []byte, offset int64) error {
	n, err := r.ReadAt(buf, offset)
	switch {
	case n == len(buf):
		return nil
	case err == nil, errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return errShort
	}
	return fmt.Errorf("car: read at offset %d: %w", offset, err)
}

func readHeader(r io.ReaderAt, buf []byte, offset int64) error {
	err := readFull(r, buf, offset)
	if errors.Is(err, errShort) {
		return headerError(ErrTruncated, offset, "%v", err)
	}
	return err
}

// readSection fills buf with bytes of the payload, which belong to a section.
func readSection(r io.ReaderAt, buf []byte, p Payload, at, section int64) error {
	err := readFull(r, buf, p.Offset+at)
	if errors.Is(err, errShort) {
		return sectionError(ErrTruncated, section, "%v", err)
	}
	return err
}
