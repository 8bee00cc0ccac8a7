package carfile

import (
	"cmp"
	"context"
	"io"

	"github.com/filecoin-project/dagstore/internal/guard"
)

// Options say how a file is scanned. With the zero value only heads are looked at.
type Options struct {
	// Progress, if it is set, is called about once in a MiB, and at the end of a
	// good file. What it does holds up the scan.
	Progress func(Progress)
	// Verify is how many goroutines compare the blocks with their hashes. 0: no
	// block is compared. Each takes up to 1.25 MiB of memory.
	Verify int
	// Mapped, if it is set, gives the same bytes as the reader without a system
	// call: a mapping of the file, which must not fault. It is read where sections
	// of 4 to 16 KiB follow each other and blocks are not verified. From the page
	// cache that takes a third of the CPU time of reads.
	Mapped io.ReaderAt
}

// Progress is how far a scan has come.
type Progress struct {
	Bytes  int64 // of the file; all of them in the end
	Blocks int64
}

// firstWindow is how much is read at once before it is known how big sections are.
const firstWindow = 16 << 10

// nearby is the greatest size of sections whose heads are read from a mapping.
// Farther apart, each costs a page fault, which is dearer than a read, and makes
// the system read ahead what is not wanted.
const nearby = 16 << 10

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
	sizes := headWindows
	if o.Verify > 0 {
		sizes = blockWindows
	}
	s := newScanner(r, p, sizes, o, visit)
	if err := s.run(ctx); err != nil {
		return err
	}
	if o.Progress != nil {
		o.Progress(Progress{Bytes: size, Blocks: s.walker.blocks})
	}
	return nil
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
	headWindows = windows{dense: 512 << 10, probe: 128, jump: 4 << 10}
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
	options  Options
	walker   walker
	verifier *verifier // nil: blocks are not compared
	buf      []byte    // of the window
	read     int64     // how far into the payload the windows reached
	reported int64     // where the walker was when progress was reported last
}

func newScanner(r io.ReaderAt, p Payload, sizes windows, o Options, visit func(*Section) error) *scanner {
	w := walker{size: p.Size, next: p.Header, whole: sizes.whole, visit: visit}
	return &scanner{r: r, payload: p, windows: sizes, walker: w, options: o}
}

// run visits all sections, and compares their blocks if that is wanted.
func (s *scanner) run(ctx context.Context) error {
	if s.options.Verify <= 0 {
		return s.visitAll(ctx)
	}
	s.verifier = startVerifier(ctx, s.r, s.payload, s.windows.whole, s.options.Verify)
	err := guard.Call(func() error { return s.visitAll(ctx) })
	return s.verifier.finish(s.walker.next, err)
}

// visitAll visits all sections, window after window.
func (s *scanner) visitAll(ctx context.Context) error {
	w := &s.walker
	for n := min(firstWindow, s.windows.dense); !w.done(); {
		start := w.next
		if err := s.step(ctx, n); err != nil {
			return err
		}
		n = s.windows.after(n, w.next-start, w.section.size())
	}
	return s.reachEnd()
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
	if err := readSection(s.reader(), window, s.payload, start, start); err != nil {
		return nil, err
	}
	s.read = start + n
	return window, nil
}

// reader returns what to read the next window from.
func (s *scanner) reader() io.ReaderAt {
	last := s.walker.section.size()
	if s.options.Mapped != nil && s.windows.jump < last && last <= nearby {
		return s.options.Mapped
	}
	return s.r
}

func (s *scanner) report() {
	if s.options.Progress == nil || s.walker.next-s.reported < progressEvery {
		return
	}
	s.reported = s.walker.next
	s.options.Progress(Progress{Bytes: s.payload.Offset + s.walker.next, Blocks: s.walker.blocks})
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
