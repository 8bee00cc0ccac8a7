package layer

const (
	readPages   = 16      // pages that a Cursor reads at once
	aheadOfRead = 1 << 20 // bytes that the system is told before they are read
)

// A Cursor gives the records of a Layer in order. It is used by one goroutine at a
// time. It needs no care for faults, and holds nothing.
type Cursor struct {
	layer *Layer
	part  int // the partition that is read
	page  int // its next page
	buf   []byte
	pages []byte // of buf: pages that were read and not begun
	told  int64  // up to this byte the system was told what will be read

	records []byte // of the page that was begun: those that were not given
	last    Record
	given   int64
}

// Cursor returns a Cursor before the first record.
func (l *Layer) Cursor() *Cursor { return &Cursor{layer: l} }

// Next returns the next record, and false after the last. It checks all that it
// reads.
func (c *Cursor) Next() (Record, bool, error) {
	if len(c.records) == 0 {
		more, err := c.nextPage()
		if !more {
			return Record{}, false, err
		}
	}
	r := decode(c.records)
	if c.given > 0 && r.Compare(c.last) <= 0 {
		return Record{}, false, damaged("record %d is not above the one before", c.given)
	}
	c.records = c.records[recordSize:]
	c.last = r
	c.given++
	return r, true, nil
}

// nextPage begins the next page. It returns false at the end of the layer and after
// an error.
func (c *Cursor) nextPage() (bool, error) {
	parts := c.layer.parts
	if c.part < len(parts) && c.page == parts[c.part].pages {
		c.part++
		c.page = 0
	}
	if c.part == len(parts) {
		return false, nil
	}
	p := &parts[c.part]
	at := p.at + int64(c.page)*pageSize
	if len(c.pages) == 0 {
		if err := c.read(at, min(readPages, p.pages-c.page)); err != nil {
			return false, err
		}
	}
	page := c.pages[:pageSize]
	if err := checkPage(page, at); err != nil {
		return false, err
	}
	c.pages = c.pages[pageSize:]
	c.records = page[:p.recordsOf(c.page)*recordSize]
	c.page++
	return true, nil
}

// read reads pages from a byte of the file on.
func (c *Cursor) read(at int64, pages int) error {
	if at >= c.told {
		c.told = min(at+aheadOfRead, c.layer.size)
		c.layer.willNeed(at, c.told)
	}
	size := pages * pageSize
	if cap(c.buf) < size {
		c.buf = make([]byte, size)
	}
	b := c.buf[:size]
	if err := readFull(c.layer.src, b, at); err != nil {
		return err
	}
	c.pages = b
	return nil
}
