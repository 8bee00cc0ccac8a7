package indexbuild

import (
	"context"
	"fmt"
	"io"
)

// WriteTo writes the index, in large pieces. It may be called again, with the
// same result, and records may be added in between. It ends within
// milliseconds when ctx does. An error of w or ctx is not final.
func (b *Builder) WriteTo(ctx context.Context, w io.Writer) error {
	if b.err != nil {
		return b.err
	}
	if len(b.spill.runs) == 0 {
		return b.writeBuckets(ctx, w)
	}
	if err := b.spillRecords(ctx); err != nil {
		return err
	}
	b.emitter.refused = false
	err := b.writeRuns(ctx, w)
	if err != nil && ctx.Err() == nil && !b.emitter.refused {
		return b.fail(fmt.Errorf("index builder: %w", err))
	}
	return err
}

func (b *Builder) writeBuckets(ctx context.Context, w io.Writer) error {
	buckets := b.memory.sorted()
	head, err := b.indexHead(ctx, &bucketCodes{buckets})
	if err != nil {
		return err
	}
	return b.emitBuckets(ctx, w, buckets, head, indexed(&bucketCodes{buckets}))
}

// writeRuns reads the heads of all groups once to count the codes. When it
// merges, a second set of readers goes ahead, to count the shapes of each code.
func (b *Builder) writeRuns(ctx context.Context, w io.Writer) error {
	runs := b.spill.runs
	buffers := b.memory.buffers(2*len(runs), groupHead)
	ahead, buffers := buffers[:len(runs)], buffers[len(runs):]
	g, err := b.spill.open(runs, ahead)
	if err != nil {
		return err
	}
	head, err := b.indexHead(ctx, &runCodes{groups: g})
	if err != nil {
		return err
	}
	if g, err = b.spill.open(runs, ahead); err != nil {
		return err
	}
	return b.emitRuns(ctx, w, runs, buffers, head, indexed(&runCodes{groups: g}))
}

// emitBuckets writes the head and the records in memory.
func (b *Builder) emitBuckets(ctx context.Context, w io.Writer, buckets []*bucket, head []byte, h heading) error {
	size := int64(len(head))
	for _, k := range buckets {
		size += groupHead + k.size()
	}
	e, large := &b.emitter, b.large()
	return e.run(ctx, w, max(b.memory.widest, int(min(size, int64(b.bufferSize())))), func() error {
		if _, err := e.Write(head); err != nil {
			return err
		}
		for _, k := range buckets {
			if err := e.head(h, k.shape, k.count); err != nil {
				return err
			}
			if err := e.bucket(k, large); err != nil {
				return err
			}
		}
		return nil
	})
}

// bufferSize is the size of the buffer in which records are sorted.
func (b *Builder) bufferSize() int { return max(b.limits.buffer, b.memory.arena.bufferSize()) }

// large is the number of bytes up to which records are sorted in one piece. It
// is several times what a partition has if digests are random.
func (b *Builder) large() int { return b.bufferSize() / 4 }

// emitRuns writes the head and merges runs, with a buffer for each.
func (b *Builder) emitRuns(ctx context.Context, w io.Writer, runs []run, buffers [][]byte, head []byte, h heading) error {
	g, err := b.spill.open(runs, buffers)
	if err != nil {
		return err
	}
	e := &b.emitter
	return e.run(ctx, w, max(mergeBuffer, b.memory.widest), func() error {
		if _, err := e.Write(head); err != nil {
			return err
		}
		return e.groups(g, h)
	})
}
