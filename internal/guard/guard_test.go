package guard

import (
	"errors"
	"io"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestPanicBecomesAnErrorWithItsValueAndStack(t *testing.T) {
	err := Call(func() error { panic("boom") })
	var p *PanicError
	require.ErrorAs(t, err, &p)
	require.Equal(t, "boom", p.Value)
	require.ErrorContains(t, err, "panic: boom")
	require.ErrorContains(t, err, "guard_test.go")
	require.NoError(t, errors.Unwrap(err))

	require.ErrorIs(t, Call(func() error { panic(io.ErrClosedPipe) }), io.ErrClosedPipe)
	require.ErrorIs(t, Call(func() error { return io.EOF }), io.EOF)
	require.NoError(t, Call(func() error { return nil }))
}
