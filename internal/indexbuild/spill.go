package indexbuild

import (
	"context"
	"fmt"
	"io"
	"slices"
)

// spillRecords writes the records in memory as a run, if there are any. Their
// memory is free afterwards, and given back if other builders want it. Errors
// are final, unless that of ctx, which leaves the records where they are.
func (b *Builder) spillRecords(ctx context.Context) error {
	buckets := b.sortedBuckets()
	if len(buckets) == 0 {
		return nil
	}
	err := b.appendRun(ctx, 0, func(w io.Writer) error {
		return b.emitBuckets(ctx, w, buckets, nil, spilling)
	})
	if err != nil {
		return err
	}
	b.empty()
	b.giveBack(b.share.fair())
	return b.mergeLastRuns(ctx)
}

// appendRun makes a run of what write writes.
func (b *Builder) appendRun(ctx context.Context, level int, write func(io.Writer) error) error {
	w, err := b.spill.writer()
	if err == nil {
		err = write(w)
	}
	if err != nil {
		if ctx.Err() != nil {
			return err
		}
		return b.fail(fmt.Errorf("index builder: spill records: %w", err))
	}
	end := b.spill.end + b.emitter.written
	b.runs = append(b.runs, run{start: b.spill.end, end: end, level: level})
	b.spill.end = end
	return nil
}

// mergeLastRuns merges the last runs into one while there are so many of one
// level that reading all at once would take too much memory.
func (b *Builder) mergeLastRuns(ctx context.Context) error {
	most := max(b.limits.runs, b.limits.runs/4*len(b.free))
	for {
		last := b.runs[len(b.runs)-1].level
		first := slices.IndexFunc(b.runs, func(r run) bool { return r.level == last })
		if len(b.runs)-first < most {
			return nil
		}
		runs := b.runs[first:]
		err := b.appendRun(ctx, last+1, func(w io.Writer) error {
			return b.emitRuns(ctx, w, runs, b.buffers(len(runs)), nil, spilling)
		})
		if err != nil {
			return err
		}
		merged := b.runs[len(b.runs)-1]
		b.runs = append(b.runs[:first], merged)
	}
}

// buffers returns n buffers for reading runs. They are free memory: it is not
// to be used for something else meanwhile.
func (b *Builder) buffers(n int) [][]byte {
	if len(b.free) == 0 {
		b.free = append(b.free, b.takeBlock(true))
	}
	each := b.limits.block / ((n + len(b.free) - 1) / len(b.free))
	each = max(each, b.widest, groupHead)
	buffers := make([][]byte, 0, n)
	for _, k := range b.free {
		for rest := k.records[:b.limits.block]; len(rest) >= each && len(buffers) < n; rest = rest[each:] {
			buffers = append(buffers, rest[:each:each])
		}
	}
	for len(buffers) < n {
		buffers = append(buffers, make([]byte, each)) // records are long
	}
	return buffers
}

// open returns readers of the runs.
func (b *Builder) open(runs []run, buffers [][]byte) (groups, error) {
	var g groups
	for i, r := range runs {
		err := g.add(&reader{file: b.spill.file, at: r.start, end: r.end, buffer: buffers[i]})
		if err != nil {
			return nil, err
		}
	}
	return g, nil
}
