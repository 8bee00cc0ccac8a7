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
	sizes := windows{dense: w.Dense, probe: w.Probe, jump: w.Jump, whole: w.Whole}
	return newScanner(r, p, sizes, Options{Verify: verify}, visit).run(ctx)
}

// ParseAfter is ParseHead for a section that follows one whose CID begins with
// before, so that its prefix is known. Fast tells whether the two have it in common.
func ParseAfter(before, head []byte, p Payload, offset int64) (s Section, fast bool, err error) {
	var known prefix
	_ = known.parse(before) // if it fails, no prefix is known
	last := known
	err = s.parse(head, p.Size, offset, &known)
	return s, err == nil && last.begins(s.Cid), err
}
