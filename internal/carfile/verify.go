package carfile

import (
	"context"
	"io"
	"math"
	"sync"
	"sync/atomic"

	"github.com/filecoin-project/dagstore/internal/guard"
)

// A verifier compares blocks with their hashes on several goroutines. It is given
// the windows that a scanner has walked, and each goroutine walks through one of
// them again, so that what is compared are the very bytes that were visited.
type verifier struct {
	r       io.ReaderAt
	payload Payload
	whole   int64       // as the scanner's walker has it, lest the walks differ
	jobs    chan job    // has room for all windows there are
	free    chan []byte // buffers for windows; how many there are bounds the memory
	workers sync.WaitGroup

	mu    sync.Mutex // guards err, and that it changes together with first
	err   error
	first atomic.Int64 // the smallest offset of a section with an error; err is that error
}

// A job is a window and where in the payload it lies.
type job struct {
	window []byte
	start  int64
}

// startVerifier starts n goroutines. They end in finish.
func startVerifier(ctx context.Context, r io.ReaderAt, p Payload, whole int64, n int) *verifier {
	buffers := n + 1 // one is filled while the others are verified
	v := &verifier{r: r, payload: p, whole: whole, jobs: make(chan job, buffers), free: make(chan []byte, buffers)}
	v.first.Store(math.MaxInt64)
	for range buffers {
		v.free <- nil
	}
	for range n {
		v.workers.Go(func() { v.work(ctx) })
	}
	return v
}

// buffer returns a buffer of any length for the next window. It waits until there
// is one.
func (v *verifier) buffer() []byte { return <-v.free }

// verify takes a window, and with it its buffer. It does not wait. The error is
// one that was found in a window before.
func (v *verifier) verify(window []byte, start int64) error {
	v.jobs <- job{window, start}
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.err
}

// finish waits for all goroutines and returns the error of the smallest offset;
// err is that of the scanner, which came to the given offset.
func (v *verifier) finish(offset int64, err error) error {
	close(v.jobs)
	v.workers.Wait()
	if err != nil && offset <= v.first.Load() {
		return err
	}
	return v.err
}

// work verifies windows. One that lies before a section with an error is verified
// still, so that it does not depend on who is faster which error is found.
func (v *verifier) work(ctx context.Context) {
	b := blockHash{verifier: v}
	var known prefix
	for j := range v.jobs {
		if j.start < v.first.Load() {
			w := walker{size: v.payload.Size, next: j.start, whole: v.whole, known: known}
			w.visit = func(s *Section) error { return b.compare(ctx, j, s) }
			err := guard.Call(func() error { return w.walk(ctx, j.window, j.start) })
			v.fail(w.next, err)
			known = w.known
		}
		v.free <- j.window
	}
}

// fail records the error of the section at offset, if it has one.
func (v *verifier) fail(offset int64, err error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if err != nil && offset < v.first.Load() {
		v.err = err
		v.first.Store(offset)
	}
}
