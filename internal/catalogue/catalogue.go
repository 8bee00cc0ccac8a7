// Package catalogue keeps the records of shards in a datastore: one value a
// shard, under /dagstore/ and a form of the shard's key that loses nothing.
//
// dagstore v0.7 put the key itself behind /dagstore/, and go-datastore cleans
// keys as paths are cleaned, so some keys ended up under others. Records that
// lie where v0.7 put them are read, and moved.
package catalogue

import (
	"context"
	"errors"
	"fmt"
	"strings"

	ds "github.com/ipfs/go-datastore"
	"github.com/ipfs/go-datastore/query"

	"github.com/filecoin-project/dagstore/internal/guard"
	"github.com/filecoin-project/dagstore/internal/keyname"
)

// A Catalogue reads and writes records. The zero Catalogue keeps nothing, as
// the catalogue of a store without a datastore. It is not safe for concurrent
// use: the event loop owns it.
type Catalogue struct {
	store  ds.Datastore
	prefix ds.Key
	moved  map[string]Entry // records that lie where v0.7 put them, by shard key
}

// New returns the catalogue under prefix in store, which may be nil.
func New(store ds.Datastore, prefix ds.Key) *Catalogue {
	return &Catalogue{store: store, prefix: prefix, moved: map[string]Entry{}}
}

// An Entry is a record as it lies in the datastore.
type Entry struct {
	Name  string // what stands behind the prefix
	Value []byte
}

// A Change is a new value for the record of a key, or its removal.
type Change struct {
	Key   string
	Value []byte // nil removes the record
}

// Load calls visit for every record, in no order, until visit returns an error.
func (c *Catalogue) Load(ctx context.Context, visit func(Entry) error) (err error) {
	defer guard.Recover(&err)
	if c.store == nil {
		return nil
	}
	res, err := c.store.Query(ctx, query.Query{Prefix: c.prefix.String()})
	if err != nil {
		return fmt.Errorf("read the catalogue: %w", err)
	}
	defer func() { err = errors.Join(err, res.Close()) }()
	for {
		r, ok := res.NextSync()
		if !ok {
			return ctx.Err()
		}
		if r.Error != nil {
			return fmt.Errorf("read the catalogue: %w", r.Error)
		}
		name := strings.TrimPrefix(r.Key, c.prefix.String()+"/")
		if err := visit(Entry{name, r.Value}); err != nil {
			return err
		}
	}
}

// Resolve returns the shard key of a record that says of itself that it belongs
// to recorded. It is the name that counts: JSON cannot hold all keys. Only under
// a name that v0.7 gave does the record's own word count, and it must fit the
// name. A record that belongs nowhere is an error.
func (c *Catalogue) Resolve(e Entry, recorded string) (string, error) {
	key, err := keyname.Unescape(e.Name)
	if err == nil && e.Name != recorded && e.Name != key {
		return key, nil
	}
	if recorded == "" || ds.NewKey(recorded) != ds.NewKey(e.Name) {
		return "", fmt.Errorf("record of %q lies under %q", recorded, e.Name)
	}
	if keyname.Escape(recorded) != e.Name {
		c.moved[recorded] = e
	}
	return recorded, nil
}

// Settle moves the records that lie where v0.7 put them, so that no other shard
// can come to lie there. It returns at once if there are none.
func (c *Catalogue) Settle(ctx context.Context) error {
	var changes []Change
	for key, e := range c.moved {
		changes = append(changes, Change{Key: key, Value: e.Value})
	}
	return c.Commit(ctx, changes)
}

// Commit makes all changes durable, with one batch and one sync. When it fails,
// some of the changes may have been made. A datastore without batches is
// written one record after the other, and synced once.
func (c *Catalogue) Commit(ctx context.Context, changes []Change) (err error) {
	defer guard.Recover(&err)
	if c.store == nil || len(changes) == 0 {
		return nil
	}
	var w ds.Write = c.store
	batch, err := c.batch(ctx)
	if err != nil {
		return fmt.Errorf("write to the catalogue: %w", err)
	}
	if batch != nil {
		w = batch
	}
	if err := c.write(ctx, w, changes); err != nil {
		return fmt.Errorf("write to the catalogue: %w", err)
	}
	if batch != nil {
		if err := batch.Commit(ctx); err != nil {
			return fmt.Errorf("write to the catalogue: %w", err)
		}
	}
	if err := c.store.Sync(ctx, c.prefix); err != nil {
		return fmt.Errorf("sync the catalogue: %w", err)
	}
	for _, ch := range changes {
		delete(c.moved, ch.Key)
	}
	return nil
}

// batch returns nil for a datastore that has none.
func (c *Catalogue) batch(ctx context.Context) (ds.Batch, error) {
	b, ok := c.store.(ds.Batching)
	if !ok {
		return nil, nil
	}
	batch, err := b.Batch(ctx)
	if errors.Is(err, ds.ErrBatchUnsupported) {
		return nil, nil
	}
	return batch, err
}

// write makes the changes, and then deletes the records that lay elsewhere,
// unless another one was written there.
func (c *Catalogue) write(ctx context.Context, w ds.Write, changes []Change) error {
	written := map[ds.Key]bool{}
	for _, ch := range changes {
		at := c.prefix.ChildString(keyname.Escape(ch.Key))
		written[at] = true
		if err := place(ctx, w, at, ch.Value); err != nil {
			return err
		}
	}
	for _, ch := range changes {
		old, ok := c.moved[ch.Key]
		if at := c.prefix.ChildString(old.Name); ok && !written[at] {
			if err := w.Delete(ctx, at); err != nil {
				return err
			}
		}
	}
	return nil
}

func place(ctx context.Context, w ds.Write, at ds.Key, value []byte) error {
	if value == nil {
		return w.Delete(ctx, at)
	}
	return w.Put(ctx, at, value)
}
