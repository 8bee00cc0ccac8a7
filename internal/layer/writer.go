package layer

import (
	"bufio"
	"encoding/binary"
	"errors"
	"io"

	"github.com/FastFilter/xorfilter"
)

const (
	// partitionRecords is where a partition ends. It is small enough for its filter
	// to be made in the caches of a processor, in some milliseconds.
	partitionRecords = 1285 * pageRecords

	writeSize = 4 * pageSize
)

var (
	errOrder    = errors.New("records of a layer must ascend")
	errFinished = errors.New("layer is finished")
)

// A Writer writes a layer in one pass. It is made by NewWriter and used by one
// goroutine at a time. It needs up to 10 MB of memory, less for a small layer,
// whatever the number of records.
type Writer struct {
	w          *bufio.Writer
	limit      int64 // records after which a partition ends
	unfiltered int   // different Hi that need no filter

	err     error // what ended the writing
	written int64 // bytes
	records int64
	last    Record // the last of them

	page   [pageSize]byte // the page that records are added to
	inPage int            // how many it has

	part      partition // the partition that pages are added to; has no end yet
	keys      []uint64  // its different Hi
	table     []byte
	builder   xorfilter.BinaryFuseBuilder
	directory []byte
}

// NewWriter returns a Writer to w. The layer is whole when Finish has returned
// without an error; making it durable is the caller's.
func NewWriter(w io.Writer) *Writer {
	return &Writer{w: bufio.NewWriterSize(w, writeSize), limit: partitionRecords, unfiltered: unfiltered}
}

// Add adds a record, which must not be below the one before. If it is the same, it
// is dropped. After an error, which stays, the layer cannot be finished.
func (w *Writer) Add(r Record) error {
	if w.err != nil {
		return w.err
	}
	isNewHi := true
	if w.records > 0 {
		c := r.Compare(w.last)
		if c == 0 {
			return nil
		}
		if c < 0 {
			w.err = errOrder
			return w.err
		}
		isNewHi = r.Hi != w.last.Hi
	}
	if isNewHi {
		if w.part.records >= w.limit {
			w.endPartition()
		}
		w.keys = append(w.keys, r.Hi)
	}
	w.put(r)
	return w.err
}

// put adds a record to the partition.
func (w *Writer) put(r Record) {
	if w.part.records == 0 {
		w.pad()
		w.part.first = r.Hi
	}
	if w.inPage == 0 {
		w.table = binary.LittleEndian.AppendUint64(w.table, r.Hi)
	}
	r.encode(w.page[w.inPage*recordSize:])
	w.inPage++
	w.part.records++
	w.records++
	w.last = r
	if w.inPage == pageRecords {
		w.endPage()
	}
}

// pad makes the next byte that of a page.
func (w *Writer) pad() {
	var zeros [pageSize]byte
	w.write(zeros[:aligned(w.written)-w.written])
}

func (w *Writer) endPage() {
	clear(w.page[w.inPage*recordSize : pageCRC])
	binary.LittleEndian.PutUint32(w.page[pageCRC:], checksum(w.page[:pageCRC]))
	w.write(w.page[:])
	w.inPage = 0
}

// endPartition ends the partition, if it has records.
func (w *Writer) endPartition() {
	if w.part.records == 0 {
		return
	}
	if w.inPage > 0 {
		w.endPage()
	}
	summary := w.table
	if len(w.keys) > w.unfiltered {
		// It fails with a probability that does not matter; then there is none.
		if f, err := xorfilter.BuildBinaryFuse[uint8](&w.builder, w.keys); err == nil {
			w.part.filter = shapeOf(&f)
			summary = append(summary, f.Fingerprints...)
		}
	}
	w.write(summary)
	w.part.last = w.last.Hi
	w.part.crc = checksum(summary)
	w.directory = w.part.appendEntry(w.directory)
	w.part.first, w.part.records, w.part.filter = 0, 0, shape{}
	w.keys, w.table = w.keys[:0], summary[:0]
}

func (w *Writer) write(b []byte) {
	if w.err != nil {
		return
	}
	n, err := w.w.Write(b)
	w.written += int64(n)
	w.err = err
}

// Finish ends the layer and returns how many records and bytes it has. The Writer
// is of no use afterwards.
func (w *Writer) Finish() (records, bytes int64, err error) {
	w.endPartition()
	w.write(appendFooter(w.directory, w.records))
	if w.err == nil {
		w.err = w.w.Flush()
	}
	if w.err != nil {
		return 0, 0, w.err
	}
	w.err = errFinished
	return w.records, w.written, nil
}
