package carfile

import (
	"context"
	"errors"
)

// checkEvery is after how many sections a walk looks at its context.
const checkEvery = 1024

// A walker visits the sections of a payload one after the other. It is shown the
// payload through windows, parts of it, and does not care who moves them: Scan
// and the verifiers read where it wants to go on, and a Stream is given all.
type walker struct {
	size  int64 // of the payload; math.MaxInt64 if that is not known
	visit func(*Section) error
	whole int64 // sections of so many bytes are visited in one piece only; of bigger ones the head is enough

	next    int64 // where in the payload the next section begins
	ended   bool  // by a section of length zero: pieces of Filecoin are padded with zeros
	blocks  int64 // visited so far
	section Section
	known   prefix
}

// done tells whether there is no more section.
func (w *walker) done() bool { return w.ended || w.next >= w.size }

// walk visits the sections that begin in the window, which lies at start in the
// payload. It stops without an error at one that needs more of the payload than
// the window has; MaxHead+whole bytes are always enough. The slices of a section
// point into the window.
func (w *walker) walk(ctx context.Context, window []byte, start int64) error {
	if left := w.size - start; int64(len(window)) > left {
		window = window[:left]
	}
	s := &w.section
	for w.next-start < int64(len(window)) {
		if w.blocks%checkEvery == 0 {
			if err := ctx.Err(); err != nil {
				return err
			}
		}
		head := window[w.next-start:]
		if head[0] == 0 {
			w.ended = true
			return nil
		}
		if err := s.parse(head, w.size, w.next, &w.known); err != nil {
			return w.failed(err, start+int64(len(window)))
		}
		if size := s.size(); size > int64(len(head)) && size <= w.whole {
			return nil
		}
		if err := w.visit(s); err != nil {
			return err
		}
		w.blocks++
		w.next = s.end()
	}
	return nil
}

// failed returns the error of a walk that found none but err in a window with
// that end. That a head is incomplete is no error, unless the payload is, too.
func (w *walker) failed(err error, end int64) error {
	switch {
	case !errors.Is(err, errIncomplete):
		return err
	case end < w.size:
		return nil
	}
	return sectionError(ErrTruncated, w.next, "the payload ends in its length")
}
