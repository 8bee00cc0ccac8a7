package layer

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"math"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/filecoin-project/dagstore/internal/fault"
	"github.com/filecoin-project/dagstore/internal/files"
	"github.com/filecoin-project/dagstore/internal/mapped"
)

// requireNoWrongAnswer requires that look-ups in l are right or say that it is
// damaged, and returns whether one said so.
func requireNoWrongAnswer(t *testing.T, l *Layer, records []Record) (isDamaged bool) {
	t.Helper()
	for _, r := range records {
		shards, err := l.AppendShards(nil, r.Fingerprint)
		if errors.Is(err, ErrDamaged) {
			isDamaged = true
		} else if err != nil || !slices.Equal(shards, []uint32{r.Shard}) {
			t.Fatal(r, shards, err)
		}
		miss, err := l.AppendShards(nil, Fingerprint{r.Lo, r.Hi})
		if err != nil && !errors.Is(err, ErrDamaged) || len(miss) > 0 {
			t.Fatal(r, miss, err)
		}
	}
	return isDamaged
}

func TestAFlippedBitAnywhereIsDamageAndNeverAWrongAnswer(t *testing.T) {
	t.Parallel()
	records := randomRecords(1, 60, 9)
	whole := small.write(t, records)
	seen := 0
	for i := range whole {
		b := bytes.Clone(whole)
		b[i] ^= 1 << (i % 8)
		l, err := FromBytes(b)
		if err != nil {
			require.ErrorIs(t, err, ErrDamaged)
			continue
		}
		if err := l.Verify(context.Background()); !errors.Is(err, ErrDamaged) {
			t.Fatal("byte", i, err)
		}
		if i%15 == 0 && requireNoWrongAnswer(t, l, records) {
			seen++
		}
	}
	require.NotZero(t, seen, "look-ups saw damage")
}

func TestAFileOfAnotherLengthIsDamage(t *testing.T) {
	whole := small.write(t, randomRecords(1, 60, 9))
	for n := range whole {
		_, err := FromBytes(whole[:n])
		require.ErrorIs(t, err, ErrDamaged)
		_, err = FromBytes(whole[n+1:])
		require.ErrorIs(t, err, ErrDamaged)
	}
	for _, longer := range [][]byte{append(whole[:len(whole):len(whole)], 0), append([]byte{0}, whole...)} {
		_, err := FromBytes(longer)
		require.ErrorIs(t, err, ErrDamaged)
	}
}

func TestPagesThatNeverReachedTheDiskAreDamage(t *testing.T) {
	records := randomRecords(1, 1000, 9)
	for page := range 5 {
		b := ordinary.write(t, records)
		clear(b[page*pageSize:][:pageSize])
		for _, l := range forms(t, b) {
			require.True(t, requireNoWrongAnswer(t, l, records))
			_, err := all(l)
			require.ErrorIs(t, err, ErrDamaged)
			require.ErrorIs(t, l.Verify(context.Background()), ErrDamaged)
			require.ErrorIs(t, Merge(context.Background(), NewWriter(io.Discard), []*Layer{l}, nil, nil), ErrDamaged)
		}
	}
}

// seal makes the checksums of the directory and the footer right.
func seal(b []byte) {
	footer := len(b) - footerSize
	directory := footer - entrySize*int(binary.LittleEndian.Uint32(b[footer+8:]))
	if directory >= 0 {
		binary.LittleEndian.PutUint32(b[footer+footerCRC:], checksum(b[directory:footer+footerCRC]))
	}
}

func TestADirectoryThatLiesIsRefused(t *testing.T) {
	whole := small.write(t, randomRecords(1, 60, 9))
	footer := len(whole) - footerSize
	entry := footer - 2*entrySize // the first of two
	for name, lie := range map[string]struct {
		at    int
		value []byte
	}{
		"no records":           {entry + 16, u64(0)},
		"more records":         {entry + 16, u64(31)},
		"endless records":      {entry + 16, u64(math.MaxUint64)},
		"negative records":     {entry + 16, u64(1 << 63)},
		"backwards":            {entry, u64(math.MaxUint64)},
		"overlapping":          {entry + 8, u64(math.MaxUint64)},
		"odd segments":         {entry + 32, u32(3)},
		"no segment length":    {entry + 32, u32(0)},
		"long segments":        {entry + 32, u32(1 << 31)},
		"no segments":          {entry + 36, u32(0)},
		"many segments":        {entry + 36, u32(math.MaxUint32)},
		"some more segments":   {entry + 36, u32(2000)},
		"unknown field":        {entry + 44, u32(1)},
		"other total":          {footer, u64(61)},
		"negative total":       {footer, u64(math.MaxUint64)},
		"one partition":        {footer + 8, u32(1)},
		"many partitions":      {footer + 8, u32(200)},
		"too many partitions":  {footer + 8, u32(math.MaxUint32)},
		"unknown footer field": {footer + 12, u32(1)},
		"no version":           {footer + 20, u32(2)},
		"another kind of file": {footer + 24, []byte("daglayes")},
	} {
		t.Run(name, func(t *testing.T) {
			b := bytes.Clone(whole)
			copy(b[lie.at:], lie.value)
			seal(b)
			_, err := FromBytes(b)
			require.ErrorIs(t, err, ErrDamaged)
		})
	}
}

// Damage is thrown away and made anew. What a newer program has written must not be.
func TestALayerOfAnotherVersionIsRefusedAsSuch(t *testing.T) {
	for _, body := range []string{"", "anything"} {
		b := []byte(body + "sixteen bytes...")
		sum := checksum(append(bytes.Clone(b[len(body):]), "\x02\x00\x00\x00daglayer"...))
		b = append(append(b, u32(sum)...), "\x02\x00\x00\x00daglayer"...)
		_, err := FromBytes(b)
		require.ErrorIs(t, err, errors.ErrUnsupported)
		require.NotErrorIs(t, err, ErrDamaged)
	}
}

// TestVerifyComparesWhatHasItsChecksumRight lets all checksums be right, and other
// things be wrong.
func TestVerifyComparesWhatHasItsChecksumRight(t *testing.T) {
	whole := small.write(t, randomRecords(1, 60, 9))
	l, err := FromBytes(whole)
	require.NoError(t, err)
	p := &l.parts[0]
	footer := len(whole) - footerSize
	entry := footer - 2*entrySize
	for name, change := range map[string]func(b []byte){
		"order of records": func(b []byte) { copy(b[:recordSize], b[recordSize:2*recordSize]) },
		"table":            func(b []byte) { b[p.tableAt()]++ },
		"filter":           func(b []byte) { clear(b[p.tableAt()+p.tableSize() : p.end()]) },
		"first Hi":         func(b []byte) { copy(b[entry:], u64(0)) },
		"last Hi":          func(b []byte) { b[entry+8]++ },
		"padding":          func(b []byte) { b[p.end()]++ },
	} {
		t.Run(name, func(t *testing.T) {
			b := bytes.Clone(whole)
			change(b)
			copy(b[pageCRC:], u32(checksum(b[:pageCRC])))
			copy(b[entry+40:], u32(checksum(b[p.tableAt():p.end()])))
			seal(b)
			l, err := FromBytes(b)
			require.NoError(t, err)
			require.ErrorIs(t, l.Verify(context.Background()), ErrDamaged)
		})
	}
}

func TestAFileCutUnderItsMappingIsAnError(t *testing.T) {
	records := randomRecords(1, 1000, 9)
	path := filepath.Join(t.TempDir(), "layer")
	require.NoError(t, os.WriteFile(path, ordinary.write(t, records), 0o600))
	file, err := os.Open(path)
	require.NoError(t, err)
	d, err := mapped.Open(file)
	require.NoError(t, err)
	l, err := FromData(d)
	require.NoError(t, err)
	defer l.Close()

	require.NoError(t, os.Truncate(path, 0))
	_, err = lookUp(l, records[0].Fingerprint)
	require.ErrorIs(t, err, io.ErrUnexpectedEOF)
	_, err = all(l)
	require.ErrorIs(t, err, io.ErrUnexpectedEOF)
	require.ErrorIs(t, l.Verify(context.Background()), io.ErrUnexpectedEOF)
}

func TestAFailedReadIsAnErrorAndTheNextMaySucceed(t *testing.T) {
	records := randomRecords(1, 1000, 9)
	path := filepath.Join(t.TempDir(), "layer")
	require.NoError(t, os.WriteFile(path, format{limit: 500}.write(t, records), 0o600))
	use := func(fsys files.FS) error {
		file, err := fsys.Open(path)
		require.NoError(t, err)
		defer file.Close()
		d, err := mapped.Open(file)
		require.NoError(t, err)
		l, err := FromData(d)
		if err != nil {
			return err
		}
		var failed []error
		right := 0
		for range 2 {
			shards, err := l.AppendShards(nil, records[0].Fingerprint)
			failed = append(failed, err)
			if slices.Equal(shards, []uint32{records[0].Shard}) {
				right++
			}
		}
		require.NotZero(t, right)
		_, err = l.Contains(records[999].Fingerprint)
		failed = append(failed, err, l.Verify(context.Background()))
		_, err = all(l)
		return errors.Join(append(failed, err)...)
	}
	n := 0
	for ; ; n++ {
		inj := fault.OnIndex(n).Match(fault.Is(fault.Read))
		err := use(fault.FS(files.OS, inj))
		if inj.Fired() == 0 {
			require.NoError(t, err)
			break
		}
		require.ErrorIs(t, err, fault.ErrInjected)
		require.NotErrorIs(t, err, ErrDamaged)
	}
	require.Greater(t, n, 10)
}
