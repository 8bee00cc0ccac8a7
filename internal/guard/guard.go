// Package guard turns panics of other people's code into errors. The store
// calls mounts, indexers, datastores and index repositories that it did not
// write; none of them may end the process.
package guard

import (
	"fmt"
	"runtime/debug"
)

// A PanicError is what a call panicked with.
type PanicError struct {
	Value any    // the argument of panic
	Stack []byte // where it panicked
}

// Error returns the value and the stack.
func (e *PanicError) Error() string { return fmt.Sprintf("panic: %v\n%s", e.Value, e.Stack) }

// Unwrap returns the value if it is an error.
func (e *PanicError) Unwrap() error {
	err, _ := e.Value.(error)
	return err
}

// Call calls f and returns its error, or a *PanicError if it panics.
func Call(f func() error) (err error) {
	defer Recover(&err)
	return f()
}

// Recover is deferred by a function whose named error result is *err: when the
// function panics, it returns a *PanicError.
func Recover(err *error) {
	if v := recover(); v != nil {
		*err = &PanicError{Value: v, Stack: debug.Stack()}
	}
}
