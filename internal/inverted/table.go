package inverted

import (
	"bytes"
	"cmp"
	"fmt"
	"slices"

	"github.com/filecoin-project/dagstore/internal/files"
	"github.com/filecoin-project/dagstore/internal/layer"
	"github.com/filecoin-project/dagstore/internal/mapped"
)

// maxShares is how many shards of a layer are counted. A layer of more is not
// rewritten because of the dead among them.
const maxShares = 1 << 20

// A table is a layer, and what is known of it without reading it.
type table struct {
	number   uint64 // of its file, or 0 if it is in memory
	addition uint64 // in memory beside files: the last small addition that it holds
	records  int64
	size     int64   // bytes of the file
	shares   []share // ascending; none if they are not known
	dead     int64   // records whose shards are dead, or a little more. Belongs to the manifest

	layer *layer.Layer   // nil until it is opened
	raw   []layer.Record // of a small addition until it is in the journal, or until it has a layer
}

// A share is how many records of a table a shard has, or a little more.
type share struct{ shard, records uint32 }

func inMemory(t *table) bool { return t.number == 0 }

// shareOf returns how many records of t a shard has.
func (t *table) shareOf(shard uint32) int64 {
	i, ok := slices.BinarySearchFunc(t.shares, shard, func(s share, shard uint32) int { return cmp.Compare(s.shard, shard) })
	if !ok {
		return 0
	}
	return int64(t.shares[i].records)
}

// shareOut returns the shares of a table that is made of others, for shards that
// are alive: none if those of one are not known, or if there are too many.
func shareOut(tables []*table, alive func(uint32) bool) []share {
	counts := map[uint32]uint64{}
	for _, t := range tables {
		if len(t.shares) == 0 {
			return nil
		}
		for _, s := range t.shares {
			if alive(s.shard) {
				counts[s.shard] += uint64(s.records)
			}
		}
	}
	if len(counts) > maxShares {
		return nil
	}
	shares := make([]share, 0, len(counts))
	for shard, n := range counts {
		shares = append(shares, share{shard, uint32(min(n, 1<<32-1))})
	}
	slices.SortFunc(shares, func(a, b share) int { return cmp.Compare(a.shard, b.shard) })
	return shares
}

// openTable opens the layer of a table whose file is at path.
func openTable(fsys files.FS, path string, t *table) error {
	f, err := fsys.Open(path)
	if err != nil {
		return err
	}
	data, err := mapped.Open(f)
	if err != nil {
		_ = f.Close() // nothing was written
		return err
	}
	l, err := layer.FromData(data)
	if err == nil && (l.Records() != t.records || l.Size() != t.size) {
		err = fmt.Errorf("%w: %s is not the layer that the journal names", ErrDamaged, path)
	}
	if err == nil {
		err = data.Detach()
	}
	if err != nil {
		_ = data.Close()
		return err
	}
	t.layer = l
	return nil
}

// memoryTable makes a table in memory of what write writes. Without records it has
// no layer.
func memoryTable(expect int64, write func(*layer.Writer) error) (*table, error) {
	var b bytes.Buffer
	b.Grow(int(expect*22) + 5000) // a little more than it has
	w := layer.NewWriter(&b)
	if err := write(w); err != nil {
		return nil, err
	}
	records, size, err := w.Finish()
	if err != nil {
		return nil, err
	}
	t := &table{records: records, size: size}
	if records == 0 {
		return t, nil
	}
	t.layer, err = layer.FromBytes(slices.Clip(b.Bytes()))
	return t, err
}

// gatherRaw makes one table in memory of small additions that were read.
func gatherRaw(additions []*table, alive func(uint32) bool) (*table, error) {
	var records []layer.Record
	var last uint64
	for _, a := range additions {
		records = append(records, a.raw...)
		last = max(last, a.addition)
	}
	records = slices.DeleteFunc(records, func(r layer.Record) bool { return !alive(r.Shard) })
	slices.SortFunc(records, layer.Record.Compare)
	t, err := memoryTable(int64(len(records)), func(w *layer.Writer) error {
		for _, r := range records {
			if err := w.Add(r); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	t.addition = last
	t.shares = shareRaw(records)
	return t, nil
}

// shareRaw returns the shares of records.
func shareRaw(records []layer.Record) []share {
	counts := map[uint32]uint32{}
	for _, r := range records {
		counts[r.Shard]++
	}
	shares := make([]share, 0, len(counts))
	for shard, n := range counts {
		shares = append(shares, share{shard, n})
	}
	slices.SortFunc(shares, func(a, b share) int { return cmp.Compare(a.shard, b.shard) })
	return shares
}

// rawRecords returns the records of a table in memory whose shards are alive.
func (t *table) rawRecords(alive func(uint32) bool) ([]layer.Record, error) {
	records := make([]layer.Record, 0, t.records)
	c := t.layer.Cursor()
	for {
		r, ok, err := c.Next()
		if err != nil {
			return nil, err
		}
		if !ok {
			return records, nil
		}
		if alive(r.Shard) {
			records = append(records, r)
		}
	}
}
