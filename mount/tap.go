package mount

import (
	"context"
	"io"
	"sync"

	"github.com/filecoin-project/dagstore/internal/guard"
)

// A tap shows the data of one download to the caller who started it, as long as
// that caller waits for it. The zero value shows it to nobody.
type tap struct {
	ctx context.Context // of the caller; what w does after its end concerns nobody else

	mu sync.Mutex // guards w, also while w is writing: who closes the tap waits for that
	w  io.Writer  // nil when the tap is closed

	// complete: w got the whole of what is now the local copy. It belongs to the
	// flight, and after its end to the caller.
	complete bool
}

// newTap returns a tap that shows the data to w; a nil w is none.
func newTap(ctx context.Context, w io.Writer) *tap { return &tap{ctx: ctx, w: w} }

// Write writes p to the caller's writer, or nowhere when the tap is closed. A
// panic of the writer is an error.
func (t *tap) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.w == nil {
		return len(p), nil
	}
	err := t.ctx.Err()
	if err == nil {
		err = guard.Call(func() error { return writeAll(t.w, p) })
	}
	if err == nil {
		return len(p), nil
	}
	t.w = nil
	if t.ctx.Err() != nil { // the caller leaves, and the others still want the data
		return len(p), nil
	}
	return 0, err
}

func writeAll(w io.Writer, p []byte) error {
	n, err := w.Write(p)
	if err == nil && n != len(p) {
		err = io.ErrShortWrite
	}
	return err
}

// close takes the writer away, which is not touched any more when close returns.
// It tells whether it was there until now.
func (t *tap) close() (open bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	open = t.w != nil
	t.w = nil
	return open
}
