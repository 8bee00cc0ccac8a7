package carfile

import (
	"cmp"
	"context"
	"io"

	"github.com/filecoin-project/dagstore/internal/guard"
)

// Options say how a file is scanned. The zero value is the fastest.
type Options struct {
	// Progress, if it is set, is called about once in a MiB, and at the end of a
	// good file. What it does holds up the scan.
	Progress func(Progress)
	// Verify is how many goroutines compare the blocks with their hashes. 0: no
	// block is compared. Each takes up to 1.25 MiB of memory.
	Verify int
}

// Progress is how far a scan has come.
type Progress struct {
	Bytes  int64 // of the file; all of them in the end
	Blocks int64
}

// progressEvery is after how many bytes Progress is called.
const progressEvery = 1 << 20

// Scan calls visit for each section of a file of size bytes, in the order of the
// file. A section of length zero ends the payload, whatever follows: pieces are
// padded so. The slices of a section are valid only during the visit. Blocks are
// not read more than the windows happen to, unless they are verified.
//
// With Verify, a section is visited before its block is compared; what was
// visited is worth nothing until Scan has returned nil.
//
// It returns the first error of visit as it is, the error of ctx, which ends it
// within milliseconds, an [*Error], or the reader's own: of several the one of
// the smallest offset. Sections before a damage were visited by then. No
// goroutine is left behind.
func Scan(ctx context.Context, r io.ReaderAt, size int64, o Options, visit func(*Section) error) (err error) {
	defer guard.Recover(&err)
	if err := ctx.Err(); err != nil {
		return err
	}
	p, err := Locate(r, size)
	if err != nil {
		return err
	}
	s := newScanner(r, p, headWindows, o.Progress, visit)
	if o.Verify > 0 {
		s = newScanner(r, p, blockWindows, o.Progress, visit)
		err = s.runVerified(ctx, o.Verify)
	} else {
		err = s.run(ctx)
	}
	if err == nil && o.Progress != nil {
		o.Progress(Progress{Bytes: size, Blocks: s.walker.blocks})
	}
	return err
}

// windows say how much of the payload is read at once.
type windows struct {
	dense int64 // while sections are small: one read serves many
	probe int64 // after a section of more than jump bytes: the head of the next one will do
	jump  int64
	whole int64 // for the walker
}

var (
	// headWindows are for heads alone: where blocks are big, only pages with heads
	// are read from the disk.
	headWindows = windows{dense: 256 << 10, probe: 128, jump: 4 << 10}
	// blockWindows are for heads and blocks. What is bigger than 256 KiB is left
	// to the verifiers, which read it piece by piece.
	blockWindows = windows{dense: 1 << 20, probe: 128, jump: 256 << 10, whole: 256 << 10}
)

// after returns how much to read after a window of n bytes, of which walked were
// visited; the section visited last has last bytes. Windows grow back stepwise,
// lest every small section between big ones costs a dense one.
func (w windows) after(n, walked, last int64) int64 {
	switch {
	case walked == 0:
		return MaxHead + w.whole
	case last > w.jump:
		return w.probe
	}
	return min(4*n, w.dense)
}

// A scanner moves a window over a file and lets a walker visit what is in it.
type scanner struct {
	r        io.ReaderAt
	payload  Payload
	windows  windows
	walker   walker
	verifier *verifier // nil: blocks are not compared
	buf      []byte    // of the window
	read     int64     // how far into the payload the windows reached
	progress func(Progress)
	reported int64 // where the walker was when progress was called last
}

func newScanner(r io.ReaderAt, p Payload, sizes windows, progress func(Progress), visit func(*Section) error) *scanner {
	w := walker{size: p.Size, next: p.Header, whole: sizes.whole, visit: visit}
	return &scanner{r: r, payload: p, windows: sizes, walker: w, progress: progress}
}

// run visits all sections, window after window.
func (s *scanner) run(ctx context.Context) error {
	w := &s.walker
	for n := s.windows.dense; !w.done(); {
		start := w.next
		if err := s.step(ctx, n); err != nil {
			return err
		}
		n = s.windows.after(n, w.next-start, w.section.end()-w.section.Offset)
	}
	return s.reachEnd()
}

// runVerified is run, with n goroutines that compare blocks.
func (s *scanner) runVerified(ctx context.Context, n int) error {
	s.verifier = startVerifier(ctx, s.r, s.payload, s.windows.whole, n)
	err := guard.Call(func() error { return s.run(ctx) })
	return s.verifier.finish(s.walker.next, err)
}

// step visits what is in the next n bytes.
func (s *scanner) step(ctx context.Context, n int64) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	start := s.walker.next
	window, err := s.window(start, min(n, s.payload.Size-start))
	if err != nil {
		return err
	}
	err = s.walker.walk(ctx, window, start)
	if s.verifier != nil {
		err = cmp.Or(err, s.verifier.verify(window, start))
	}
	s.report()
	return err
}

// window reads n bytes of the payload. They are valid until the next call, or
// the verifier's.
func (s *scanner) window(start, n int64) ([]byte, error) {
	if s.verifier != nil {
		s.buf = s.verifier.buffer()
	}
	if int64(cap(s.buf)) < n {
		s.buf = make([]byte, n)
	}
	window := s.buf[:n]
	if err := readSection(s.r, window, s.payload, start, start); err != nil {
		return nil, err
	}
	s.read = start + n
	return window, nil
}

func (s *scanner) report() {
	if s.progress == nil || s.walker.next-s.reported < progressEvery {
		return
	}
	s.reported = s.walker.next
	s.progress(Progress{Bytes: s.payload.Offset + s.walker.next, Blocks: s.walker.blocks})
}

// reachEnd reads the last byte of the payload if no window did: the file must
// have the block that was skipped last, and what follows the end of sections.
func (s *scanner) reachEnd() error {
	if s.read >= s.payload.Size {
		return nil
	}
	last := max(s.walker.section.Offset, s.payload.Header)
	return readSection(s.r, make([]byte, 1), s.payload, s.payload.Size-1, last)
}
