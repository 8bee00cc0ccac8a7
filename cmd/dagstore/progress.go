package main

import (
	"io"
	"os"
	"path/filepath"

	"github.com/schollz/progressbar/v3"
	"golang.org/x/term"
)

// A progress shows how much was read, on a terminal. Elsewhere it shows nothing.
type progress struct {
	bar *progressbar.ProgressBar
}

// newProgress expects the files to be read once. What they hold beside the bytes
// of blocks is little, and is made up for in the end.
func newProgress(w io.Writer, names []string) *progress {
	file, ok := w.(*os.File)
	visible := ok && term.IsTerminal(int(file.Fd()))
	var total int64
	for _, name := range names {
		if info, err := os.Stat(name); err == nil {
			total += info.Size()
		}
	}
	return &progress{bar: progressbar.NewOptions64(max(total, 1),
		progressbar.OptionSetWriter(w),
		progressbar.OptionSetVisibility(visible),
		progressbar.OptionShowBytes(true),
		progressbar.OptionClearOnFinish(),
	)}
}

func (p *progress) begin(name string) { p.bar.Describe(printable(filepath.Base(name))) }

// The bar fails only when it cannot be drawn, which is nobody's loss.
func (p *progress) add(size int) { _ = p.bar.Add(size) }

func (p *progress) finish() { _ = p.bar.Finish() }
