package layer

import (
	"bytes"
	"io"

	"github.com/filecoin-project/dagstore/internal/mapped"
)

// A Layer is sorted records that never change. It is made by FromBytes and
// FromData. Its methods are safe for concurrent use.
type Layer struct {
	src      io.ReaderAt
	resident []byte       // the file, in memory or mapped; nil if it must be read
	data     *mapped.Data // what src is, or nil
	size     int64
	records  int64
	parts    []partition
}

// FromBytes returns the layer that b is, checking its end. It keeps b, which must
// not change. The error is ErrDamaged, or errors.ErrUnsupported if a newer version of
// this program has written it.
func FromBytes(b []byte) (*Layer, error) {
	l := &Layer{src: bytes.NewReader(b), resident: b, size: int64(len(b))}
	if err := l.open(); err != nil {
		return nil, err
	}
	return l, nil
}

// FromData returns the layer in a file, which it maps if it can, and otherwise
// reads where it must. It reads and checks the end of the file only; everything
// else is checked at first use, and only then: the file may be removed, but not
// changed. d belongs to the Layer, or after an error still to the caller. The errors
// are those of FromBytes and of the file.
func FromData(d *mapped.Data) (*Layer, error) {
	if err := d.Map(); err != nil {
		return nil, err
	}
	l := &Layer{src: d, resident: d.Mapping(), data: d, size: d.Size()}
	if err := l.open(); err != nil {
		return nil, err
	}
	mapped.Random(l.Mapping())
	for i := range l.parts {
		p := &l.parts[i]
		l.willNeed(p.tableAt(), p.end())
	}
	return l, nil
}

func (l *Layer) open() error {
	directory, records, err := readDirectory(l.src, l.size)
	if err != nil {
		return err
	}
	parts, found, err := parseDirectory(directory, l.size-footerSize-int64(len(directory)))
	if err != nil {
		return err
	}
	if found != records {
		return damaged("%d records where there should be %d", found, records)
	}
	l.parts, l.records = parts, records
	return nil
}

// willNeed says that these bytes of the file are going to be read.
func (l *Layer) willNeed(from, to int64) {
	if m := l.Mapping(); m != nil {
		mapped.WillNeed(m[from:to])
	}
}

// Records returns the number of records.
func (l *Layer) Records() int64 { return l.records }

// Size returns the number of bytes of the file.
func (l *Layer) Size() int64 { return l.size }

// Mapping returns the file if it is mapped, for mapped.Faultless, and otherwise
// nil.
func (l *Layer) Mapping() []byte {
	if l.data == nil {
		return nil
	}
	return l.resident
}

// Close unmaps and closes the file. Nothing may look anything up then or later;
// reads by a Cursor and by Verify are waited for, and give fs.ErrClosed from then
// on.
func (l *Layer) Close() error {
	if l.data == nil {
		return nil
	}
	return l.data.Close()
}
