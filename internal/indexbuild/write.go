package indexbuild

import (
	"context"
	"fmt"
	"io"
	"slices"
)

// WriteTo writes the index, in large pieces. It may be called again, with the
// same result, and records may be added in between. It ends within
// milliseconds when ctx does. An error of w or ctx is not final.
func (b *Builder) WriteTo(ctx context.Context, w io.Writer) error {
	if b.err != nil {
		return b.err
	}
	if len(b.runs) == 0 {
		return b.writeBuckets(ctx, w)
	}
	if err := b.spillRecords(ctx); err != nil {
		return err
	}
	err := b.writeRuns(ctx, w)
	if err != nil && ctx.Err() == nil && !b.emitter.refused {
		return b.fail(fmt.Errorf("index builder: %w", err))
	}
	return err
}

func (b *Builder) writeBuckets(ctx context.Context, w io.Writer) error {
	buckets := b.sortedBuckets()
	head, err := indexHead(ctx, &bucketCodes{buckets})
	if err != nil {
		return err
	}
	return b.emitBuckets(ctx, w, buckets, head, indexed(&bucketCodes{buckets}))
}

// writeRuns reads the heads of all groups once to count the codes. When it
// merges, a second set of readers goes ahead, to count the shapes of each code.
func (b *Builder) writeRuns(ctx context.Context, w io.Writer) error {
	buffers := b.buffers(2 * len(b.runs))
	ahead, buffers := buffers[:len(b.runs)], buffers[len(b.runs):]
	g, err := b.open(b.runs, ahead)
	if err != nil {
		return err
	}
	head, err := indexHead(ctx, &runCodes{groups: g})
	if err != nil {
		return err
	}
	if g, err = b.open(b.runs, ahead); err != nil {
		return err
	}
	return b.emitRuns(ctx, w, b.runs, buffers, head, indexed(&runCodes{groups: g}))
}

// sortedBuckets returns the buckets with records, in the order of an index.
func (b *Builder) sortedBuckets() []*bucket {
	buckets := slices.Grow(b.order[:0], b.buckets)
	for i := range b.buckets {
		if k := b.bucketAt(i); k.count > 0 {
			buckets = append(buckets, k)
		}
	}
	slices.SortFunc(buckets, func(a, b *bucket) int { return compareShapes(a.shape, b.shape) })
	b.order = buckets
	return buckets
}

// emitBuckets writes the head and the records in memory.
func (b *Builder) emitBuckets(ctx context.Context, w io.Writer, buckets []*bucket, head []byte, h heading) error {
	buffer := max(b.limits.buffer, b.blocks*b.limits.block/bufferShare)
	large := int64(buffer / 4)
	b.sealLarge(buckets, large)
	size := int64(len(head))
	for _, k := range buckets {
		size += groupHead + k.size()
	}
	e := &b.emitter
	return e.run(ctx, w, max(b.widest, int(min(size, int64(buffer)))), func() error {
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

// sealLarge puts all records of the buckets larger than large in partitions.
func (b *Builder) sealLarge(buckets []*bucket, large int64) {
	var spare *block
	for _, k := range buckets {
		if k.size() <= large || k.open.block == nil || k.length == 0 {
			continue
		}
		if spare == nil {
			spare = b.takeBlock(true)
		}
		k.seal(spare)
		spare, k.open = k.open.block, chunk{}
	}
	if spare != nil {
		b.free = append(b.free, spare)
	}
}

// emitRuns writes the head and merges runs, with a buffer for each.
func (b *Builder) emitRuns(ctx context.Context, w io.Writer, runs []run, buffers [][]byte, head []byte, h heading) error {
	g, err := b.open(runs, buffers)
	if err != nil {
		return err
	}
	e := &b.emitter
	return e.run(ctx, w, max(mergeBuffer, b.widest), func() error {
		if _, err := e.Write(head); err != nil {
			return err
		}
		return e.groups(g, h)
	})
}
