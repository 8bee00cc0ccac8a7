package layer

import (
	"context"
	"encoding/binary"
	"errors"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
)

// reseal makes all checksums right that can be found, so that what they protect
// from reaches the code behind them.
func reseal(b []byte) {
	if len(b) < footerSize {
		return
	}
	seal(b)
	l, err := FromBytes(b)
	if err != nil {
		return
	}
	directory := len(b) - footerSize - entrySize*len(l.parts)
	for i := range l.parts {
		p := &l.parts[i]
		for at := p.at; at < p.tableAt(); at += pageSize {
			copy(b[at+pageCRC:], u32(checksum(b[at:at+pageCRC])))
		}
		copy(b[directory+i*entrySize+40:], u32(checksum(b[p.tableAt():p.end()])))
	}
	seal(b)
}

// edit changes bytes, for each three bytes of the script one: how far from the end
// it is, and what it becomes. What is too far cuts the end off instead.
func edit(b, script []byte) []byte {
	b = slices.Clone(b)
	for ; len(script) >= 3; script = script[3:] {
		back := int(binary.LittleEndian.Uint16(script))
		if back < len(b) {
			b[len(b)-1-back] = script[2]
		} else {
			b = b[:len(b)-min(len(b), int(script[2]))]
		}
	}
	return b
}

// FuzzLayer requires that no bytes make a layer panic or run for ever, and that one
// that Verify finds nothing wrong with answers as its records say.
func FuzzLayer(f *testing.F) {
	var bases [][]byte
	for _, records := range [][]Record{nil, randomRecords(1, 3, 9), randomRecords(1, 60, 9), crowded(2, 210)} {
		bases = append(bases, small.write(f, records), ordinary.write(f, records))
	}
	for i := range bases {
		f.Add(uint8(i), []byte{}, uint64(1), uint64(2), false)
		f.Add(uint8(i), []byte{footerSize + entrySize - 16 - 1, 0, 9, 31, 0, 9}, uint64(0), uint64(7), true)
	}
	f.Fuzz(func(t *testing.T, base uint8, script []byte, hi, lo uint64, mend bool) {
		b := edit(bases[int(base)%len(bases)], script)
		if mend {
			reseal(b)
		}
		l, err := FromBytes(b)
		if err != nil {
			require.ErrorIs(t, err, ErrDamaged)
			return
		}
		shards, err := l.AppendShards(nil, Fingerprint{hi, lo})
		requireDamageOrNil(t, err)
		together, err := lookUpMany(l, []Fingerprint{{lo, hi}, {hi, lo}, {hi, lo + 1}})
		requireDamageOrNil(t, err)
		isValid := l.Verify(context.Background()) == nil
		records, err := all(l)
		requireDamageOrNil(t, err)
		if isValid {
			require.NoError(t, err)
			var want []uint32
			for _, r := range records {
				if r.Fingerprint == (Fingerprint{hi, lo}) {
					want = append(want, r.Shard)
				}
				found, err := l.AppendShards(nil, r.Fingerprint)
				if err != nil || !slices.Contains(found, r.Shard) {
					t.Fatal(r, found, err)
				}
			}
			require.Equal(t, want, shards)
			require.Equal(t, want, together[1])
		}
	})
}

func requireDamageOrNil(t *testing.T, err error) {
	t.Helper()
	if err != nil && !errors.Is(err, ErrDamaged) {
		t.Fatal(err)
	}
}
