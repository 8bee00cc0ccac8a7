package inverted

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/filecoin-project/dagstore/internal/layer"
)

// formatVersion is that of the entries, and of what they mean.
const formatVersion = 1

const recordSize = 20

// The parts of an entry of the journal. An entry is parts, one behind the other,
// which count together or not at all.
const (
	partBegin    = 1 // version, secret (16 bytes), next shard, next layer, small additions so far
	partShard    = 2 // number, length of the key, key
	partRecords  = 3 // number of the addition or 0, how many, records (20 bytes each)
	partLayer    = 4 // number, records, bytes, how many shards, and for each: number less that of the one before, records
	partDrop     = 5 // number of a layer
	partGathered = 6 // number of a small addition
	partDead     = 7 // number of a shard
)

// A change is an entry of the journal: what one call does to the index.
type change struct {
	begin    *beginning // the first entry of a journal has it, and no other
	shards   []named    // have these keys
	memory   []*table   // small additions. Those that are read have records, no layer
	added    []*table   // layers
	dropped  []uint64   // layers that are no more
	gathered uint64     // the small additions up to this number are in layers by now
	dead     []uint32   // shards that are no more
}

// A beginning is what a journal says before everything else.
type beginning struct {
	secret    secret
	nextShard uint64 // no number from here on was ever given
	nextLayer uint64
	additions uint64 // small ones so far
}

type named struct {
	number uint32
	key    string
}

// encode returns the entry. The records of small additions are those of their
// table.
func (c *change) encode() []byte {
	var b []byte
	if c.begin != nil {
		b = binary.AppendUvarint(append(b, partBegin), formatVersion)
		b = c.begin.secret.append(b)
		b = binary.AppendUvarint(b, c.begin.nextShard)
		b = binary.AppendUvarint(b, c.begin.nextLayer)
		b = binary.AppendUvarint(b, c.begin.additions)
	}
	for _, s := range c.shards {
		b = binary.AppendUvarint(append(b, partShard), uint64(s.number))
		b = binary.AppendUvarint(b, uint64(len(s.key)))
		b = append(b, s.key...)
	}
	for _, t := range c.memory {
		b = appendRecords(b, t)
	}
	for _, t := range c.added {
		b = appendLayer(b, t)
	}
	for _, number := range c.dropped {
		b = binary.AppendUvarint(append(b, partDrop), number)
	}
	if c.gathered > 0 {
		b = binary.AppendUvarint(append(b, partGathered), c.gathered)
	}
	for _, number := range c.dead {
		b = binary.AppendUvarint(append(b, partDead), uint64(number))
	}
	return b
}

func appendRecords(b []byte, t *table) []byte {
	b = binary.AppendUvarint(append(b, partRecords), t.addition)
	b = binary.AppendUvarint(b, uint64(len(t.raw)))
	for _, r := range t.raw {
		b = binary.LittleEndian.AppendUint64(b, r.Hi)
		b = binary.LittleEndian.AppendUint64(b, r.Lo)
		b = binary.LittleEndian.AppendUint32(b, r.Shard)
	}
	return b
}

func appendLayer(b []byte, t *table) []byte {
	b = binary.AppendUvarint(append(b, partLayer), t.number)
	b = binary.AppendUvarint(b, uint64(t.records))
	b = binary.AppendUvarint(b, uint64(t.size))
	b = binary.AppendUvarint(b, uint64(len(t.shares)))
	last := uint32(0)
	for _, s := range t.shares {
		b = binary.AppendUvarint(b, uint64(s.shard-last))
		b = binary.AppendUvarint(b, uint64(s.records))
		last = s.shard
	}
	return b
}

// decode reads an entry. It keeps nothing of it.
func decode(entry []byte) (*change, error) {
	d := decoder{left: entry}
	c := new(change)
	for len(d.left) > 0 && d.err == nil {
		d.part(c)
	}
	if d.err != nil {
		return nil, d.err
	}
	return c, nil
}

// A decoder takes the parts of an entry from its start. After an error it gives
// zeros.
type decoder struct {
	left []byte
	err  error
}

func (d *decoder) part(c *change) {
	switch kind := d.bytes(1)[0]; kind {
	case partBegin:
		c.begin = d.begin()
	case partShard:
		c.shards = append(c.shards, named{d.number32(), string(d.bytes(d.number()))})
	case partRecords:
		c.memory = append(c.memory, d.records())
	case partLayer:
		c.added = append(c.added, d.layer())
	case partDrop:
		c.dropped = append(c.dropped, d.number())
	case partGathered:
		c.gathered = d.number()
	case partDead:
		c.dead = append(c.dead, d.number32())
	default:
		d.fail(fmt.Errorf("an entry has part %d, which this program does not know: %w", kind, errors.ErrUnsupported))
	}
}

func (d *decoder) begin() *beginning {
	if v := d.number(); v != formatVersion && d.err == nil {
		d.fail(fmt.Errorf("index has version %d, this program reads version %d: %w", v, formatVersion, errors.ErrUnsupported))
	}
	key := d.bytes(keySize)
	return &beginning{
		secret:    secretFrom((*[keySize]byte)(key)),
		nextShard: d.number(),
		nextLayer: d.number(),
		additions: d.number(),
	}
}

func (d *decoder) records() *table {
	t := &table{addition: d.number()}
	n := d.number()
	if n > uint64(len(d.left)/recordSize) {
		d.fail(errShort)
		return t
	}
	t.raw = make([]layer.Record, n)
	for i := range t.raw {
		b := d.bytes(recordSize)
		t.raw[i] = layer.Record{
			Fingerprint: layer.Fingerprint{Hi: binary.LittleEndian.Uint64(b), Lo: binary.LittleEndian.Uint64(b[8:])},
			Shard:       binary.LittleEndian.Uint32(b[16:]),
		}
	}
	t.records = int64(n)
	return t
}

func (d *decoder) layer() *table {
	t := &table{number: d.number(), records: d.number63(), size: d.number63()}
	n := d.number()
	if n > uint64(len(d.left)/2) {
		d.fail(errShort)
		return t
	}
	t.shares = make([]share, n)
	last := uint32(0)
	for i := range t.shares {
		last += d.number32()
		t.shares[i] = share{last, d.number32()}
	}
	return t
}

var errShort = fmt.Errorf("%w: an entry ends too early", ErrDamaged)

func (d *decoder) fail(err error) {
	if d.err == nil {
		d.err = err
	}
	d.left = nil
}

// bytes takes n bytes. After an error they are zeros, and at most as many as the
// secret has.
func (d *decoder) bytes(n uint64) []byte {
	if n > uint64(len(d.left)) {
		d.fail(errShort)
		return make([]byte, min(n, recordSize))
	}
	b := d.left[:n]
	d.left = d.left[n:]
	return b
}

func (d *decoder) number() uint64 {
	v, n := binary.Uvarint(d.left)
	if n <= 0 {
		d.fail(errShort)
		return 0
	}
	d.left = d.left[n:]
	return v
}

func (d *decoder) number32() uint32 { return uint32(d.below(1 << 32)) }
func (d *decoder) number63() int64  { return int64(d.below(1 << 63)) }

func (d *decoder) below(limit uint64) uint64 {
	v := d.number()
	if v >= limit {
		d.fail(fmt.Errorf("%w: a number in an entry is too large", ErrDamaged))
		return 0
	}
	return v
}
