package carfile

import (
	"bytes"
	"context"
	"errors"
	"math"

	"github.com/filecoin-project/dagstore/internal/guard"
)

// A Stream is the push form of [Scan], for a file whose size is not known: it is
// an io.Writer that is fed with the file from its first byte, in writes of any
// length, and visits each section as soon as its head is there. It keeps at most
// a header or a head, no block, and nothing of what it is given. It is used by
// one goroutine at a time.
//
// It finds what Scan finds, and refuses what Scan refuses, but of a CARv1 it does
// not know before the end that a section reaches behind the file: so it may have
// visited it, or may name another fault in it.
type Stream struct {
	visit    func(*Section) error
	progress func(Progress)

	take     func(p []byte) error // what becomes of the next bytes
	held     []byte               // the first bytes of a header or of a head, which have to wait for the rest
	payload  Payload              // as far as it is known
	skip     int64                // bytes before the payload that are still to come
	walker   walker
	walked   int64 // bytes of the payload the walker has seen or that are held for it
	written  int64 // bytes of the file
	reported int64 // written when progress was called last
	err      error
	finished bool
}

var errFinished = errors.New("car: written to after its end")

// NewStream returns a Stream that has seen nothing yet. See [Scan] for visit and
// [Options] for progress, which may be nil.
func NewStream(progress func(Progress), visit func(*Section) error) *Stream {
	s := &Stream{visit: visit, progress: progress}
	s.take = s.start
	return s
}

// Write takes the next bytes of the file. The error of a bad CAR, or of a visit,
// comes as soon as it is seen, and stays. Bytes behind the end of the sections are
// counted and otherwise ignored.
func (s *Stream) Write(p []byte) (int, error) {
	if s.err == nil && s.finished {
		return 0, errFinished
	}
	if s.err == nil {
		s.err = guard.Call(func() error { return s.write(p) })
	}
	if s.err != nil {
		return 0, s.err
	}
	return len(p), nil
}

// Finish says that the file has ended, and returns the error that Write returned
// or would return now. That the file was cut shows here. The last progress is
// reported.
func (s *Stream) Finish() error {
	if s.err == nil && !s.finished {
		s.err = guard.Call(s.finish)
	}
	s.finished = true
	return s.err
}

func (s *Stream) write(p []byte) error {
	s.written += int64(len(p))
	if err := s.take(p); err != nil {
		return err
	}
	if s.progress != nil && s.written-s.reported >= progressEvery {
		s.reported = s.written
		s.progress(Progress{Bytes: s.written, Blocks: s.walker.blocks})
	}
	return nil
}

// hold moves bytes from p to those that are held, until there are n of them, and
// tells whether there are. It returns the rest of p.
func (s *Stream) hold(p []byte, n int64) (rest []byte, enough bool) {
	taken := min(int64(len(p)), max(0, n-int64(len(s.held))))
	s.held = append(s.held, p[:taken]...)
	return p[taken:], int64(len(s.held)) >= n
}

// start finds out where the payload is.
func (s *Stream) start(p []byte) error {
	rest, enough := s.hold(p, v2Start)
	if !enough {
		return nil
	}
	if !bytes.HasPrefix(s.held, v2Pragma) {
		s.payload.Size = math.MaxInt64
		return s.startHeader(rest)
	}
	var err error
	if s.payload, err = parseV2(s.held, math.MaxInt64); err != nil {
		return err
	}
	s.held = s.held[:0]
	s.skip = s.payload.Offset - v2Start
	s.take = s.padding
	return s.take(rest)
}

// padding skips what lies before the payload.
func (s *Stream) padding(p []byte) error {
	n := min(int64(len(p)), s.skip)
	s.skip -= n
	if s.skip > 0 {
		return nil
	}
	return s.startHeader(p[n:])
}

func (s *Stream) startHeader(p []byte) error {
	s.take = s.header
	return s.take(p)
}

// header takes the header of the payload.
func (s *Stream) header(p []byte) error {
	p, enough := s.hold(p, min(maxVarint, s.payload.Size))
	if !enough {
		return nil
	}
	var err error
	if s.payload.Header, err = parseHeaderSize(s.held, s.payload); err != nil {
		return err
	}
	if p, enough = s.hold(p, s.payload.Header); !enough {
		return nil
	}
	header, rest := s.held[:s.payload.Header], s.held[s.payload.Header:]
	if err := checkHeader(header, s.payload.Offset); err != nil {
		return err
	}
	s.held = nil // it may be long
	s.walker = walker{size: s.payload.Size, next: s.payload.Header, visit: s.visit}
	s.walked = s.payload.Header
	s.take = s.sections
	if err := s.take(rest); err != nil {
		return err
	}
	return s.take(p)
}

// sections lets the walker walk.
func (s *Stream) sections(p []byte) error {
	w := &s.walker
	start := s.walked
	s.walked += int64(len(p))
	if len(s.held) > 0 { // they are the first bytes of the section at w.next
		head := w.next
		s.held = append(s.held, p[:min(len(p), MaxHead)]...)
		if err := w.walk(context.Background(), s.held, head); err != nil {
			return err
		}
		if w.next == head {
			return nil
		}
		s.held = s.held[:0]
	}
	if w.done() || w.next >= s.walked {
		return nil
	}
	if err := w.walk(context.Background(), p[w.next-start:], w.next); err != nil {
		return err
	}
	if !w.done() && w.next < s.walked {
		s.held = append(s.held, p[w.next-start:]...)
	}
	return nil
}

func (s *Stream) finish() error {
	if err := s.checkEnd(); err != nil {
		return err
	}
	if s.progress != nil {
		s.progress(Progress{Bytes: s.written, Blocks: s.walker.blocks})
	}
	return nil
}

// checkEnd checks that the file may end here.
func (s *Stream) checkEnd() error {
	w := &s.walker
	if s.payload.Offset > 0 { // a CARv2
		if s.written-s.payload.Offset < s.payload.Size {
			return truncatedData(uint64(s.payload.Offset), uint64(s.payload.Size), s.written)
		}
		return nil
	}
	switch {
	case w.next == 0: // all of the file is held: it ended in its header, or before it was clear where that is
		r := bytes.NewReader(s.held)
		return Scan(context.Background(), r, r.Size(), Options{}, s.visit)
	case w.next > s.written:
		return sectionError(ErrTruncated, w.section.Offset, "it ends at %d, the payload at %d", w.next, s.written)
	}
	w.size = s.written
	return w.walk(context.Background(), s.held, w.next)
}
