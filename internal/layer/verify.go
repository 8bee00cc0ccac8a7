package layer

import "context"

// Verify reads all bytes and checks them: checksums, the order of records, and that
// tables, filters and directory say of the records what is true. It changes nothing
// for look-ups, and ends with the context.
func (l *Layer) Verify(ctx context.Context) error {
	c := l.Cursor()
	end := int64(0)
	for i := range l.parts {
		p := &l.parts[i]
		if err := l.verifyPadding(end, p.at); err != nil {
			return err
		}
		if err := l.verifyPartition(ctx, p, c); err != nil {
			return err
		}
		end = p.end()
	}
	return ctx.Err()
}

// verifyPadding checks the less than pageSize bytes between two partitions.
func (l *Layer) verifyPadding(from, to int64) error {
	var b [pageSize]byte
	padding := b[:to-from]
	if err := readFull(l.src, padding, from); err != nil {
		return err
	}
	for _, v := range padding {
		if v != 0 {
			return damaged("no zeros before byte %d", to)
		}
	}
	return nil
}

// verifyPartition checks a partition. The cursor is before its first record.
func (l *Layer) verifyPartition(ctx context.Context, p *partition, c *Cursor) error {
	b := make([]byte, p.summarySize())
	if err := readFull(l.src, b, p.tableAt()); err != nil {
		return err
	}
	s, err := p.summarize(b)
	if err != nil {
		return err
	}
	for i := range p.records {
		r, _, err := c.Next()
		if err != nil {
			return err
		}
		if i%pageRecords == 0 {
			if err := ctx.Err(); err != nil {
				return err
			}
			if r.Hi != s.table.hi(int(i/pageRecords)) {
				return damaged("the table at byte %d does not fit its pages", p.tableAt())
			}
		}
		if i == 0 && r.Hi != p.first || i == p.records-1 && r.Hi != p.last {
			return damaged("the directory does not fit the pages at byte %d", p.at)
		}
		if !s.filter.mayHave(r.Hi) {
			return damaged("the filter at byte %d misses a record", p.tableAt()+p.tableSize())
		}
	}
	return nil
}
