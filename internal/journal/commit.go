package journal

import (
	"errors"
	"fmt"
)

// serve is the goroutine of the journal: the only one that uses the file.
func (j *Journal) serve() {
	defer close(j.ended)
	for {
		select {
		case r := <-j.requests:
			j.gather(r)
			j.commit()
		case <-j.closing:
			j.closed = j.f.Close()
			return
		}
	}
}

// gather makes a group of r and of those that wait by now.
func (j *Journal) gather(r request) {
	j.group = append(j.group, r)
	for size := sizeOf(r.entry); size < maxGroup; size += sizeOf(r.entry) {
		select {
		case r = <-j.requests:
			j.group = append(j.group, r)
		default:
			return
		}
	}
}

// commit makes the group durable and answers its requests.
func (j *Journal) commit() {
	if j.failed == nil {
		j.failed = j.write()
	}
	for _, r := range j.group {
		if j.failed == nil && r.done != nil {
			r.done()
		}
		r.result <- j.failed
	}
	clear(j.group)
	j.group = j.group[:0]
}

// write returns when the group is durable, or after it was taken back.
func (j *Journal) write() error {
	buf, at := j.buf[:0], j.at
	for _, r := range j.group {
		buf, at = appendEntry(buf, at, r.entry)
	}
	if cap(buf) <= maxGroup {
		j.buf = buf
	}
	_, err := j.f.Write(buf)
	if err == nil {
		err = j.f.Sync()
	}
	if err != nil {
		return fmt.Errorf("append to the journal %s: %w", j.f.Name(), errors.Join(err, j.takeBack()))
	}
	j.at = at
	j.size.Store(at.Offset)
	return nil
}

// takeBack makes the file end where what is durable ends.
func (j *Journal) takeBack() error {
	err := j.f.Truncate(j.at.Offset)
	if err == nil {
		err = j.f.Sync()
	}
	if err != nil {
		return fmt.Errorf("and what was written stays: %w", err)
	}
	return nil
}
