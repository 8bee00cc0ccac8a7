package indexbuild

import (
	"container/heap"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// A run is a sequence of groups in the order of an index, each the records of
// one shape: their code, digest length and number, 8 bytes each and
// little-endian, and then the records as they are in an index.

// groupHead is the length of what precedes the records of a group.
const groupHead = 24

// spilling is the heading of groups in a run.
func spilling(head []byte, s shape, count int64) ([]byte, error) {
	head = binary.LittleEndian.AppendUint64(head, s.code)
	head = binary.LittleEndian.AppendUint64(head, uint64(s.length))
	return binary.LittleEndian.AppendUint64(head, uint64(count)), nil
}

// A reader reads a run. The group at which it stands is shape, of which left
// records were not read yet.
type reader struct {
	file    io.ReaderAt
	at, end int64
	buffer  []byte
	window  []byte // in the buffer: read from the file and not used
	shape   shape
	left    int64
}

// fill reads on until the window has n bytes.
func (r *reader) fill(n int) error {
	if len(r.window) >= n {
		return nil
	}
	if len(r.buffer) < n {
		r.buffer = make([]byte, n)
	}
	have := copy(r.buffer, r.window)
	more := int(min(int64(len(r.buffer)-have), r.end-r.at))
	if have+more < n {
		return errDamaged
	}
	m, err := r.file.ReadAt(r.buffer[have:have+more], r.at)
	if m < more {
		if err == nil || errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		return fmt.Errorf("read spilled records: %w", err)
	}
	r.at += int64(more)
	r.window = r.buffer[:have+more]
	return nil
}

// errDamaged means that somebody else has written to the spill file.
var errDamaged = errors.New("spilled records are damaged")

// next goes on to the next group. It returns false after the last one. All
// records of the current group must have been read or skipped.
func (r *reader) next() (bool, error) {
	if len(r.window) == 0 && r.at == r.end {
		return false, nil
	}
	if err := r.fill(groupHead); err != nil {
		return false, err
	}
	le := binary.LittleEndian
	code, length, count := le.Uint64(r.window), le.Uint64(r.window[8:]), le.Uint64(r.window[16:])
	r.window = r.window[groupHead:]
	rest := uint64(len(r.window)) + uint64(r.end-r.at)
	if length > MaxDigest || count == 0 || count > rest/(length+offsetSize) {
		return false, errDamaged
	}
	r.shape, r.left = shape{code, int(length)}, int64(count)
	return true, nil
}

// records returns records of the group, as many as are at hand, and none at
// its end. They are valid until the next call.
func (r *reader) records() ([]byte, error) {
	if r.left == 0 {
		return nil, nil
	}
	w := r.shape.width()
	if err := r.fill(w); err != nil {
		return nil, err
	}
	n := min(int64(len(r.window)/w), r.left)
	r.left -= n
	records := r.window[:int(n)*w]
	r.window = r.window[len(records):]
	return records, nil
}

// skip skips the records of the group.
func (r *reader) skip() {
	n := r.left * int64(r.shape.width())
	here := min(n, int64(len(r.window)))
	r.window = r.window[here:]
	r.at += n - here
	r.left = 0
}

// groups is a heap of readers, by the shapes of the groups at which they stand.
type groups []*reader

func (g groups) Len() int           { return len(g) }
func (g groups) Less(i, j int) bool { return compareShapes(g[i].shape, g[j].shape) < 0 }
func (g groups) Swap(i, j int)      { g[i], g[j] = g[j], g[i] }
func (g *groups) Push(r any)        { *g = append(*g, r.(*reader)) }
func (g *groups) Pop() any {
	last := len(*g) - 1
	r := (*g)[last]
	*g = (*g)[:last]
	return r
}

// add adds the reader if it has a next group.
func (g *groups) add(r *reader) error {
	more, err := r.next()
	if more {
		heap.Push(g, r)
	}
	return err
}

// take removes the readers that stand at groups of the least shape, and
// appends them to the empty slice. It returns the number of their records.
func (g *groups) take(into []*reader) (first []*reader, records int64) {
	first = into
	for g.Len() > 0 && (len(first) == 0 || (*g)[0].shape == first[0].shape) {
		r := heap.Pop(g).(*reader)
		first = append(first, r)
		records += r.left
	}
	return first, records
}
