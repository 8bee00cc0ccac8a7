package indexbuild

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/filecoin-project/dagstore/internal/files"
)

// A spill is the temporary file with the runs of one builder. Runs are only
// ever appended: what was merged into a longer run stays there as waste.
type spill struct {
	fsys    files.FS
	dir     string
	file    files.File // nil until it is needed
	removed bool       // from the folder
	end     int64      // of the last run
	runs    []run
}

// A run is a piece of the file. Its level is how often its records were merged.
type run struct {
	start, end int64
	level      int
}

// writer returns the file, ready to write behind the last run. The file has no
// name where a system allows to remove open files, so that a crash leaves nothing.
func (s *spill) writer() (io.Writer, error) {
	if s.file == nil {
		f, err := s.fsys.CreateTemp(s.dir)
		if err != nil {
			return nil, err
		}
		s.file = f
		s.removed = s.fsys.Remove(f.Name()) == nil
	}
	_, err := s.file.Seek(s.end, io.SeekStart)
	return s.file, err
}

// add adds a run of n bytes, which were written.
func (s *spill) add(n int64, level int) {
	s.runs = append(s.runs, run{s.end, s.end + n, level})
	s.end += n
}

// open returns readers of runs, with a buffer for each.
func (s *spill) open(runs []run, buffers [][]byte) (groups, error) {
	var g groups
	for i, r := range runs {
		if err := g.add(&reader{file: s.file, at: r.start, end: r.end, buffer: buffers[i]}); err != nil {
			return nil, err
		}
	}
	return g, nil
}

func (s *spill) close() error {
	if s.file == nil {
		return nil
	}
	err := s.file.Close()
	if !s.removed {
		err = errors.Join(err, s.fsys.Remove(s.file.Name()))
	}
	s.file, s.runs = nil, nil
	return err
}

// spillRecords writes the records in memory as a run, if there are any. Their
// memory is free afterwards, and given back if other builders have less.
// Errors are final, unless that of ctx, which leaves the records where they are.
func (b *Builder) spillRecords(ctx context.Context) error {
	buckets := b.memory.sorted()
	if len(buckets) == 0 {
		return nil
	}
	err := b.appendRun(ctx, 0, func(w io.Writer) error {
		return b.emitBuckets(ctx, w, buckets, nil, spilling)
	})
	if err != nil {
		return err
	}
	b.memory.empty()
	b.memory.arena.giveBack(b.memory.arena.share.keep())
	return b.mergeLastRuns(ctx)
}

// appendRun makes a run of what write writes.
func (b *Builder) appendRun(ctx context.Context, level int, write func(io.Writer) error) error {
	w, err := b.spill.writer()
	if err == nil {
		err = write(w)
	}
	if err == nil {
		b.spill.add(b.emitter.written, level)
		return nil
	}
	if ctx.Err() != nil {
		return err
	}
	return b.fail(fmt.Errorf("index builder: spill records: %w", err))
}

// mergeLastRuns merges the last runs into one while there are so many of one
// level that their buffers would become small.
func (b *Builder) mergeLastRuns(ctx context.Context) error {
	most := max(minRuns, b.memory.arena.size/(2*b.limits.read))
	for {
		runs := b.spill.runs
		level := runs[len(runs)-1].level
		first := slices.IndexFunc(runs, func(r run) bool { return r.level == level })
		if len(runs)-first < most {
			return nil
		}
		err := b.appendRun(ctx, level+1, func(w io.Writer) error {
			buffers := b.memory.buffers(len(runs)-first, groupHead)
			return b.emitRuns(ctx, w, runs[first:], buffers, nil, spilling)
		})
		if err != nil {
			return err
		}
		b.spill.runs = append(runs[:first], b.spill.runs[len(runs)])
	}
}

// minRuns is a number of runs that are always merged at once.
const minRuns = 8
