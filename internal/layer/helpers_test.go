package layer

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/filecoin-project/dagstore/internal/mapped"
)

// randomRecords returns n sorted records with fingerprints of their own.
func randomRecords(seed uint64, n, shards int) []Record {
	rng := rand.New(rand.NewPCG(seed, 0))
	records := make([]Record, n)
	for i := range records {
		records[i] = Record{Fingerprint{rng.Uint64(), rng.Uint64()}, rng.Uint32N(uint32(shards))}
	}
	slices.SortFunc(records, Record.Compare)
	return records
}

// A format is how a test has its layers written.
type format struct {
	limit      int64 // records after which a partition ends
	unfiltered int   // different Hi that need no filter
}

var (
	ordinary = format{partitionRecords, unfiltered}
	small    = format{limit: 30} // many partitions, all with filters
)

// write returns the bytes of a layer of sorted records.
func (f format) write(t testing.TB, records []Record) []byte {
	t.Helper()
	var b bytes.Buffer
	w := NewWriter(&b)
	w.limit, w.unfiltered = f.limit, f.unfiltered
	for _, r := range records {
		if err := w.Add(r); err != nil {
			t.Fatal(err)
		}
	}
	n, size, err := w.Finish()
	require.NoError(t, err)
	require.EqualValues(t, b.Len(), size)
	require.EqualValues(t, len(slices.Compact(slices.Clone(records))), n)
	return b.Bytes()
}

// open returns the layer in a file with these bytes, mapped or only read.
func open(t testing.TB, b []byte, mapping bool) *Layer {
	t.Helper()
	l, err := FromData(fileOf(t, b, mapping))
	require.NoError(t, err)
	require.Equal(t, mapping, l.Mapping() != nil)
	t.Cleanup(func() { require.NoError(t, l.Close()) })
	return l
}

// unmappable is a file that is not mapped, since it need not be one.
type unmappable struct{ *os.File }

func fileOf(t testing.TB, b []byte, mapping bool) *mapped.Data {
	t.Helper()
	path := filepath.Join(t.TempDir(), "layer")
	require.NoError(t, os.WriteFile(path, b, 0o600))
	f, err := os.Open(path)
	require.NoError(t, err)
	var src mapped.Source = f
	if !mapping {
		src = unmappable{f}
	}
	d, err := mapped.Open(src)
	require.NoError(t, err)
	t.Cleanup(func() { d.Close() })
	return d
}

// lookUp is AppendShards with the care that it demands.
func lookUp(l *Layer, f Fingerprint) (shards []uint32, err error) {
	err = mapped.Faultless(func() (err error) {
		shards, err = l.AppendShards(nil, f)
		return err
	}, l.Mapping())
	return shards, err
}

// all returns the records that a Cursor gives.
func all(l *Layer) ([]Record, error) {
	var records []Record
	c := l.Cursor()
	for {
		r, ok, err := c.Next()
		if !ok {
			return records, err
		}
		records = append(records, r)
	}
}

func u32(v uint32) []byte { return binary.LittleEndian.AppendUint32(nil, v) }
func u64(v uint64) []byte { return binary.LittleEndian.AppendUint64(nil, v) }
