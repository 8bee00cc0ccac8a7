package index

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"

	ds "github.com/ipfs/go-datastore"
	"github.com/multiformats/go-multihash"
)

// The layout of the inverted index:
//
//	/inverted/v2/m/MULTIHASH/NUMBER  an entry
//	/inverted/v2/s/NUMBER            the key of a shard
//	/inverted/v2/next                a number that, like all above it, was never used
//
// MULTIHASH is "u" and the base64url of the multihash (its multibase form), or, of
// one longer than maxMultihash, "~" and the base64url of its SHA-256. NUMBER has
// numberWidth digits in base 36, so that the order of keys is that of numbers.
var (
	prefix       = ds.NewKey("/inverted/v2")
	entryPrefix  = prefix.ChildString("m")
	shardPrefix  = prefix.ChildString("s")
	nextKey      = prefix.ChildString("next")
	entryValue   = []byte{1} // some datastores refuse empty values
	errExhausted = errors.New("all shard numbers are used up: index into a new datastore")
)

const (
	maxMultihash = 128 // bytes
	numberWidth  = 7
	numberLimit  = 36 * 36 * 36 * 36 * 36 * 36 * 36
)

func multihashKey(mh multihash.Multihash) ds.Key {
	if len(mh) <= maxMultihash {
		return entryPrefix.ChildString("u" + base64.RawURLEncoding.EncodeToString(mh))
	}
	sum := sha256.Sum256(mh)
	return entryPrefix.ChildString("~" + base64.RawURLEncoding.EncodeToString(sum[:]))
}

func entryKey(mh multihash.Multihash, number uint64) ds.Key {
	return multihashKey(mh).ChildString(formatNumber(number))
}

// entryNumber returns the number in the key of an entry of mh.
func entryNumber(mh multihash.Multihash, key ds.Key) (uint64, bool) {
	n, ok := parseNumber(key.BaseNamespace())
	return n, ok && key == entryKey(mh, n)
}

func formatNumber(n uint64) string {
	s := strconv.FormatUint(n, 36)
	return "0000000"[len(s):] + s
}

// parseNumber is the inverse of formatNumber.
func parseNumber(s string) (uint64, bool) {
	n, err := strconv.ParseUint(s, 36, 64)
	if err != nil || n >= numberLimit || formatNumber(n) != s {
		return 0, false
	}
	return n, true
}

// maxBatch is the greatest number of writes in a batch.
const maxBatch = 4096

// A batchWriter writes in batches, or one by one if the datastore has none. Its
// first error stays.
type batchWriter struct {
	ctx   context.Context
	store ds.Batching
	batch ds.Batch // nil before the first write of a batch
	plain bool     // there are no batches
	n     int
	err   error
}

func (w *batchWriter) put(key ds.Key, value []byte) error {
	return w.write(func(t ds.Write) error { return t.Put(w.ctx, key, value) })
}

func (w *batchWriter) delete(key ds.Key) error {
	return w.write(func(t ds.Write) error { return t.Delete(w.ctx, key) })
}

func (w *batchWriter) write(do func(ds.Write) error) error {
	if w.err != nil {
		return w.err
	}
	if w.n == 0 {
		w.begin()
	}
	if w.err != nil {
		return w.err
	}
	if w.plain {
		w.err = do(w.store)
	} else {
		w.err = do(w.batch)
	}
	w.n++
	if w.err == nil && w.n == maxBatch {
		return w.commit()
	}
	return w.err
}

// begin makes the next batch, unless the context has ended.
func (w *batchWriter) begin() {
	if w.err = w.ctx.Err(); w.err != nil || w.plain {
		return
	}
	w.batch, w.err = w.store.Batch(w.ctx)
	if errors.Is(w.err, ds.ErrBatchUnsupported) {
		w.plain, w.err = true, nil
	}
}

// commit writes what is in the batch.
func (w *batchWriter) commit() error {
	if w.err == nil && w.n > 0 && !w.plain {
		w.err = w.batch.Commit(w.ctx)
	}
	w.n = 0
	if w.err != nil {
		return fmt.Errorf("write entries: %w", w.err)
	}
	return nil
}
