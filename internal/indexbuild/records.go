package indexbuild

// bucket writes the records of a bucket in order. Partitions of more than
// large bytes are sorted piece by piece and merged.
func (e *emitter) bucket(k *bucket, large int64) error {
	if k.size() <= large {
		return e.sorted(k, whole, int(k.size()))
	}
	if !k.partitioned() {
		return e.merged(k, whole)
	}
	for p, n := range k.sizes() {
		var err error
		if n > large {
			err = e.merged(k, p)
		} else if n > 0 {
			err = e.sorted(k, p, int(n))
		}
		if err != nil {
			return err
		}
	}
	return nil
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

// merged writes the records of a large partition in order.
func (e *emitter) merged(k *bucket, partition int) error {
	if err := e.flush(); err != nil {
		return err
	}
	e.merge.reset(k.shape)
	for i := range k.chunks() {
		if s := k.segment(i, partition); len(s) > 0 {
			e.tasks = append(e.tasks, task{k, partition, s, true})
			e.pending += len(s)
			e.merge.memory(s)
		}
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
