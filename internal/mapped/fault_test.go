package mapped

import (
	"errors"
	"io"
	"runtime"
	"runtime/debug"
	"testing"

	"github.com/stretchr/testify/require"
)

// cutMapping returns a mapping of which only the first page can be read, and one
// that is whole.
func cutMapping(t *testing.T) (cut, whole []byte) {
	t.Helper()
	d, file := openFile(t, randomBytes(1<<16))
	require.NoError(t, d.Map())
	require.NoError(t, file.Truncate(4096))
	other, _ := openFile(t, randomBytes(1<<16))
	require.NoError(t, other.Map())
	return d.Mapping(), other.Mapping()
}

var seen byte

func TestAFaultInAnyOfTheMappingsIsAnError(t *testing.T) {
	cut, whole := cutMapping(t)
	for _, mappings := range [][][]byte{{cut}, {whole, cut}, {cut, whole, nil}} {
		for _, at := range []int{1 << 15, 1<<16 - 1} {
			err := Faultless(func() error {
				seen = cut[at]
				return errors.New("not reached")
			}, mappings...)
			require.ErrorIs(t, err, io.ErrUnexpectedEOF)
		}
	}
}

func TestWithoutAFaultTheErrorOfTheUseIsReturned(t *testing.T) {
	cut, whole := cutMapping(t)
	own := errors.New("own")
	require.Equal(t, own, Faultless(func() error {
		seen = cut[0] + whole[1<<15]
		return own
	}, cut, whole))
	require.NoError(t, Faultless(func() error { return nil }))
}

// A page that is not part of the mappings: to take its fault for theirs would hide a
// mistake.
func TestAFaultElsewhereStaysAFault(t *testing.T) {
	cut, whole := cutMapping(t)
	for _, mappings := range [][][]byte{nil, {nil}, {whole}, {cut[:1<<15]}, {cut[1<<15+1:]}} {
		addr := faultOf(t, func() error {
			return Faultless(func() error {
				seen = cut[1<<15]
				return nil
			}, mappings...)
		})
		require.True(t, contain([][]byte{cut}, addr))
	}
}

// faultOf returns where use faults.
func faultOf(t *testing.T, use func() error) (addr uintptr) {
	t.Helper()
	defer func() {
		fault, ok := recover().(interface{ Addr() uintptr })
		require.True(t, ok)
		addr = fault.Addr()
	}()
	require.NoError(t, use())
	t.Fatal("no fault")
	return 0
}

func TestAFaultOfAnotherUseGoesThroughToItsGuard(t *testing.T) {
	cut, whole := cutMapping(t)
	after := false
	err := Faultless(func() error {
		err := Faultless(func() error {
			seen = cut[1<<15]
			return nil
		}, whole)
		after = true
		return err
	}, cut)
	require.ErrorIs(t, err, io.ErrUnexpectedEOF)
	require.False(t, after)
}

func TestOtherPanicsGoOn(t *testing.T) {
	cut, _ := cutMapping(t)
	var none *Data
	require.PanicsWithValue(t, "mine", func() { _ = Faultless(func() error { panic("mine") }, cut) })
	require.Panics(t, func() { _ = Faultless(func() error { return none.Detach() }, cut) }, "a nil pointer is no fault of a mapping")
	require.Panics(t, func() { _ = Faultless(func() error { panic(error(nil)) }, cut) })
}

func TestAGoroutineThatEndsInAUseEnds(t *testing.T) {
	cut, _ := cutMapping(t)
	ended := make(chan bool)
	go func() {
		returned := false
		defer func() { ended <- !returned && recover() == nil }()
		_ = Faultless(func() error {
			runtime.Goexit()
			return nil
		}, cut)
		returned = true
	}()
	require.True(t, <-ended)
}

func TestTheSettingOfTheGoroutineIsRestored(t *testing.T) {
	cut, _ := cutMapping(t)
	for _, before := range []bool{false, true} {
		defer debug.SetPanicOnFault(debug.SetPanicOnFault(before))
		_ = Faultless(func() error {
			seen = cut[1<<15]
			return nil
		}, cut)
		require.Panics(t, func() { _ = Faultless(func() error { panic("mine") }, cut) })
		require.Equal(t, before, debug.SetPanicOnFault(before))
	}
}

func TestGuardingAllocatesNothing(t *testing.T) {
	if raceDetector {
		t.Skip("the race detector allocates what the compiler does not")
	}
	_, whole := cutMapping(t)
	n := 0
	require.Zero(t, testing.AllocsPerRun(100, func() {
		_ = Faultless(func() error {
			n += int(whole[n%10])
			return nil
		}, whole, nil)
	}))
}
