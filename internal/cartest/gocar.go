package cartest

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"slices"
	"testing"

	car "github.com/ipld/go-car/v2"
	carindex "github.com/ipld/go-car/v2/index"
)

// GoCarIndex returns the index of a CAR as go-car writes it, with OrderCopies.
func GoCarIndex(t testing.TB, file []byte) []byte {
	t.Helper()
	idx, err := car.GenerateIndex(bytes.NewReader(file), car.ZeroLengthSectionAsEOF(true), car.StoreIdentityCIDs(true))
	if err != nil {
		t.Fatal(err)
	}
	return WriteIndex(t, idx)
}

// WriteIndex returns the bytes of an index of go-car, with OrderCopies.
func WriteIndex(t testing.TB, idx carindex.Index) []byte {
	t.Helper()
	var b bytes.Buffer
	if _, err := carindex.WriteTo(idx, &b); err != nil {
		t.Fatal(err)
	}
	OrderCopies(b.Bytes())
	return b.Bytes()
}

// OrderCopies puts the records of equal digests of an index of the format 0x0401
// in the order of their offsets, in place. go-car leaves that order to chance.
func OrderCopies(index []byte) {
	le := binary.LittleEndian
	codes := le.Uint32(index[2:])
	at := 6
	for range codes {
		widths := le.Uint32(index[at+8:])
		at += 12
		for range widths {
			width, length := int(le.Uint32(index[at:])), int(le.Uint64(index[at+4:]))
			at += 12
			records := slices.Collect(slices.Chunk(bytes.Clone(index[at:at+length]), width))
			slices.SortFunc(records, func(a, b []byte) int {
				return cmp.Or(bytes.Compare(a[:width-8], b[:width-8]), cmp.Compare(le.Uint64(a[width-8:]), le.Uint64(b[width-8:])))
			})
			copy(index[at:], bytes.Join(records, nil))
			at += length
		}
	}
}
