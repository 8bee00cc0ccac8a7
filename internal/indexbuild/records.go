package indexbuild

// bucket writes the records of a bucket in order. Partitions of more than
// large bytes are sorted piece by piece and merged.
func (e *emitter) bucket(k *bucket, large int) error {
	if k.parts == nil {
		return e.partition(task{shape: k.shape, from: &k.partition}, large)
	}
	for i := range k.parts {
		if err := e.partition(task{shape: k.shape, from: &k.parts[i], common: 8}, large); err != nil {
			return err
		}
	}
	return nil
}

// partition writes the records of a partition in order.
func (e *emitter) partition(t task, large int) error {
	switch n := t.from.size(); {
	case n == 0:
		return nil
	case n > large:
		return e.merged(t)
	default:
		return e.sorted(t)
	}
}

// head writes the heading of a shape.
func (e *emitter) head(h heading, s shape, count int64) error {
	head, err := h(e.heading[:0], s, count)
	if err != nil {
		return err
	}
	e.heading = head
	_, err = e.Write(head)
	return err
}

// merged writes the records of a large partition in order: its chunks are sorted
// where they are, and merged.
func (e *emitter) merged(t task) error {
	if err := e.flush(); err != nil {
		return err
	}
	e.merge.reset(t.shape)
	for c := range t.from.chunks {
		e.tasks = append(e.tasks, task{shape: t.shape, common: t.common, out: c})
		e.pending += len(c)
		e.merge.memory(c)
	}
	if err := e.runTasks(); err != nil {
		return err
	}
	return e.merge.to(e)
}

// groups merges runs, each with its heading before its groups.
func (e *emitter) groups(g groups, h heading) error {
	var first []*reader
	for g.Len() > 0 {
		var records int64
		first, records = g.take(first[:0])
		if err := e.head(h, first[0].shape, records); err != nil {
			return err
		}
		e.merge.reset(first[0].shape)
		for _, r := range first {
			e.merge.stored(r)
		}
		if err := e.merge.to(e); err != nil {
			return err
		}
		for _, r := range first {
			if err := g.add(r); err != nil {
				return err
			}
		}
	}
	return nil
}
