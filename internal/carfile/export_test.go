package carfile

import (
	"context"
	"io"
)

// Windows are the sizes of windows that a test chooses.
type Windows struct{ Dense, Probe, Jump, Whole int64 }

// ScanWindows is Scan with other windows; verify as in Options.
func ScanWindows(ctx context.Context, r io.ReaderAt, size int64, w Windows, verify int, visit func(*Section) error) error {
	p, err := Locate(r, size)
	if err != nil {
		return err
	}
	s := newScanner(r, p, windows{dense: w.Dense, probe: w.Probe, jump: w.Jump, whole: w.Whole}, nil, visit)
	if verify > 0 {
		return s.runVerified(ctx, verify)
	}
	return s.run(ctx)
}

// ParseAfter is ParseHead for a section that follows one with the given CID, whose
// prefix is known then.
func ParseAfter(before, head []byte, p Payload, offset int64) (Section, bool, error) {
	var known prefix
	if err := known.parse(before); err != nil {
		return Section{}, false, err
	}
	var s Section
	err := s.parse(head, p.Size, offset, &known)
	return s, err == nil && known.mask != 0, err
}
