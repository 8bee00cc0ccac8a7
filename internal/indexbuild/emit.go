package indexbuild

import (
	"context"
	"io"
	"runtime"
	"sync"
	"sync/atomic"
)

const (
	// minBuffer is the size of the buffer of a builder that holds little memory.
	minBuffer = 256 << 10
	// mergeBuffer is how much is merged before it is written.
	mergeBuffer = 1 << 20
	// maxWorkers bounds the goroutines that sort for one builder.
	maxWorkers = 16
	// inline is the number of bytes that are sorted without goroutines.
	inline = 32 << 10
)

// An emitter writes what builders make, in large pieces. Records that are to
// be sorted get their place in the buffer, and are sorted into it by several
// goroutines before it is written.
type emitter struct {
	ctx     context.Context
	w       io.Writer
	written int64
	refused bool // by w

	buffer  []byte
	tasks   []task
	pending int // bytes that tasks sort
	sorters []sorter
	heading []byte
	merge   merge
}

// A task is to sort records into out.
type task struct {
	shape
	from   *partition // has the records; nil if they are in out
	common int        // bits that all digests have in common
	out    []byte
}

// run writes to w what write gives to the emitter, through a buffer of so many bytes.
func (e *emitter) run(ctx context.Context, w io.Writer, buffer int, write func() error) error {
	if cap(e.buffer) < buffer {
		e.buffer = make([]byte, 0, buffer)
	}
	e.ctx, e.w, e.written, e.refused = ctx, w, 0, false
	e.buffer, e.tasks, e.pending = e.buffer[:0], e.tasks[:0], 0
	err := write()
	if err == nil {
		err = e.flush()
	}
	e.ctx, e.w = nil, nil
	clear(e.tasks[:cap(e.tasks)])
	return err
}

// room returns the place of the next n bytes to be written. The buffer must be
// as large as that.
func (e *emitter) room(n int) ([]byte, error) {
	if cap(e.buffer)-len(e.buffer) < n {
		if err := e.flush(); err != nil {
			return nil, err
		}
	}
	at := len(e.buffer)
	e.buffer = e.buffer[:at+n]
	return e.buffer[at:], nil
}

// Write writes p, which may be reused at once.
func (e *emitter) Write(p []byte) (int, error) {
	if len(p) <= cap(e.buffer) {
		to, err := e.room(len(p))
		return copy(to, p), err
	}
	if err := e.flush(); err != nil {
		return 0, err
	}
	return len(p), e.write(p)
}

// sorted writes the records of a partition, which have room in the buffer, in order.
func (e *emitter) sorted(t task) (err error) {
	n := t.from.size()
	if t.out, err = e.room(n); err != nil {
		return err
	}
	if n == t.width() {
		copy(t.out, t.from.open)
		return nil
	}
	e.tasks = append(e.tasks, t)
	e.pending += n
	return nil
}

// flush runs the tasks and writes the buffer.
func (e *emitter) flush() error {
	if err := e.runTasks(); err != nil {
		return err
	}
	err := e.write(e.buffer)
	e.buffer = e.buffer[:0]
	return err
}

func (e *emitter) write(p []byte) error {
	if err := e.ctx.Err(); err != nil || len(p) == 0 {
		return err
	}
	n, err := e.w.Write(p)
	e.written += int64(n)
	if err == nil && n < len(p) {
		err = io.ErrShortWrite
	}
	e.refused = err != nil
	return err
}

// runTasks runs the tasks on several goroutines. It returns the error of the
// context if that ends before.
func (e *emitter) runTasks() error {
	workers := 1
	if e.pending > inline {
		workers = min(runtime.GOMAXPROCS(0), maxWorkers, len(e.tasks))
	}
	for len(e.sorters) < workers {
		e.sorters = append(e.sorters, sorter{})
	}
	var next atomic.Int64
	work := func(s *sorter) {
		for e.ctx.Err() == nil {
			i := int(next.Add(1)) - 1
			if i >= len(e.tasks) {
				return
			}
			s.run(e.tasks[i])
		}
	}
	var wg sync.WaitGroup
	for i := 1; i < workers; i++ {
		wg.Go(func() { work(&e.sorters[i]) })
	}
	work(&e.sorters[0])
	wg.Wait()
	e.tasks, e.pending = e.tasks[:0], 0
	return e.ctx.Err()
}
