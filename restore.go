package dagstore

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/filecoin-project/dagstore/internal/catalogue"
	"github.com/filecoin-project/dagstore/internal/folderlock"
	"github.com/filecoin-project/dagstore/internal/keyname"
	"github.com/filecoin-project/dagstore/mount"
	"github.com/filecoin-project/dagstore/shard"
)

// An UnreadableRecord is a record in the datastore that Start could not make a
// shard of: it is damaged, or its mount cannot be revived. The record and the
// shard's files are kept. Registering the key anew replaces the record.
type UnreadableRecord struct {
	Name string // behind /dagstore/; the key, unless that is escaped
	Err  error

	keys   []string // that the shard may have
	spared []string // names of files in the transients folder that may be the shard's
}

// UnreadableRecords returns the records that Start could not make shards of.
// Call it after Start.
func (d *DAGStore) UnreadableRecords() []UnreadableRecord { return slices.Clone(d.unread) }

// restore takes the transients folder and reads the catalogue, before the loop
// runs.
func (d *DAGStore) restore(ctx context.Context) error {
	unlock, err := folderlock.Lock(d.config.TransientsDir)
	if err != nil {
		return fmt.Errorf("transients folder: %w", err)
	}
	d.unlock = unlock
	shards, unread, err := d.loadRecords(ctx)
	if err != nil {
		return err
	}
	held, listed, err := d.topLevel.holds(ctx)
	if err != nil {
		return err
	}
	d.sweep(shards, unread)
	d.removeStrangers(ctx, held, shards, unread)
	var resumed []message
	var holding, lacking []shard.Key
	for _, sh := range shards {
		if kind, ok := d.onRestart(sh); ok {
			resumed = append(resumed, message{key: sh.key, shard: sh, event: event{kind: kind}})
		}
		switch {
		case held[sh.key]:
			holding = append(holding, sh.key)
		case listed && sh.state == ShardStateAvailable:
			lacking = append(lacking, sh.key)
		}
	}
	d.topLevel.shards.restore(holding, lacking) // before anybody looks
	d.topLevel.tellReaders()
	resumed = append(resumed, message{mend: true})
	if d.topLevel.own != nil && len(holding) > 0 {
		resumed = append(resumed, message{audit: holding})
	}
	d.unread = unread
	d.gate.open(shards, resumed)
	return nil
}

// loadRecords reads the catalogue.
func (d *DAGStore) loadRecords(ctx context.Context) (shards []*Shard, unread []UnreadableRecord, err error) {
	at := map[shard.Key]int{}
	err = d.catalogue.Load(ctx, func(e catalogue.Entry) error {
		sh, err := d.revived(e)
		if err != nil {
			log.Errorw("record of a shard is unreadable; it is kept, and so are its files", "record", e.Name, "error", err)
			unread = append(unread, unreadable(e, err))
			return nil
		}
		if i, twice := at[sh.key]; twice { // its move was interrupted: the record in its place counts
			if e.Name == keyname.Escape(sh.key.String()) {
				shards[i] = sh
			}
			return nil
		}
		at[sh.key] = len(shards)
		shards = append(shards, sh)
		return nil
	})
	if err != nil {
		return nil, nil, err
	}
	return shards, unread, d.catalogue.Settle(ctx)
}

// removeStrangers removes from the store's own top-level index the shards that have no
// record any more: who registers their keys anew must not find what they had. An index
// of the user may be shared with others, who have the records.
func (d *DAGStore) removeStrangers(ctx context.Context, held map[shard.Key]bool, shards []*Shard, unread []UnreadableRecord) {
	if d.topLevel.own == nil {
		return
	}
	strangers := maps.Clone(held)
	for _, sh := range shards {
		delete(strangers, sh.key)
	}
	for _, u := range unread {
		for _, key := range u.keys {
			delete(strangers, shard.KeyFromString(key))
		}
	}
	for key := range strangers {
		if err := d.topLevel.remove(ctx, key, nil); err != nil {
			log.Errorw("top-level index holds shards without a record, which could not be removed; the next start tries again", "shard", key, "error", err)
			return
		}
	}
}

// revived makes a shard of its record. One that was being destroyed needs no
// mount.
func (d *DAGStore) revived(e catalogue.Entry) (*Shard, error) {
	var p PersistedShard
	if err := json.Unmarshal(e.Value, &p); err != nil {
		return nil, err
	}
	key, err := d.catalogue.Resolve(e, p.Key)
	if err != nil {
		return nil, err
	}
	if key == "" {
		return nil, errors.New("record of an empty key")
	}
	p.Key = key
	sh := &Shard{store: d}
	return sh, sh.restore(p)
}

// onRestart returns the event that resumes what a restart interrupted.
func (d *DAGStore) onRestart(sh *Shard) (eventKind, bool) {
	switch {
	case sh.state == ShardStateUnknown:
		return evResume, true
	case sh.state == ShardStateNew && !sh.lazy:
		return evResume, true
	case sh.state == ShardStateErrored && d.config.RecoverOnStart == RecoverNow:
		return evRecover, true
	case sh.state == ShardStateErrored && d.config.RecoverOnStart == RecoverOnAcquire:
		sh.recoverOnAcquire = true
	}
	return 0, false
}

// sweep removes what crashes have left in the transients folder: top-level files
// that no record refers to. It also tells the shards whose transients are there.
func (d *DAGStore) sweep(shards []*Shard, unread []UnreadableRecord) {
	dir := d.config.TransientsDir
	entries, err := os.ReadDir(dir)
	if err != nil {
		log.Warnw("transients folder cannot be listed; nothing is swept", "folder", dir, "error", err)
		return
	}
	there := make(map[string]bool, len(entries))
	for _, e := range entries {
		there[e.Name()] = e.Type().IsRegular()
	}
	for _, sh := range d.gate.all() {
		shards = append(shards, sh)
	}
	for _, sh := range shards {
		if sh.mount == nil {
			continue
		}
		complete, _ := mount.TransientNames(sh.key.String())
		sh.mount.AssumeTransient(there[complete])
		for _, name := range sh.localNames() {
			delete(there, name)
		}
	}
	for _, u := range unread {
		for _, name := range u.spared {
			delete(there, name)
		}
	}
	for name, regular := range there {
		if !regular {
			continue
		}
		if err := os.Remove(filepath.Join(dir, name)); err != nil {
			log.Warnw("leftover in the transients folder not removed", "file", name, "error", err)
		}
	}
}

// unreadable tells what may belong to the shard of a record that cannot be read, from
// what can be read of it.
func unreadable(e catalogue.Entry, err error) UnreadableRecord {
	var p PersistedShard
	_ = json.Unmarshal(e.Value, &p) // what there is of it
	u := UnreadableRecord{Name: e.Name, Err: err, keys: []string{e.Name, p.Key}}
	if key, err := keyname.Unescape(e.Name); err == nil {
		u.keys = append(u.keys, key)
	}
	u.spared = []string{filepath.Base(p.TransientPath)}
	for _, key := range u.keys {
		complete, _ := mount.TransientNames(key)
		u.spared = append(u.spared, complete)
	}
	return u
}

// unlockFolder gives the transients folder back.
func (d *DAGStore) unlockFolder() {
	if d.unlock == nil {
		return
	}
	if err := d.unlock(); err != nil {
		log.Warnw("transients folder not unlocked", "error", err)
	}
}

// refuseAll takes the place of the loop in a store that does not start: it waits
// for Close, and answers what was taken on.
func (d *DAGStore) refuseAll() {
	<-d.ctx.Done()
	d.run()
}

// restoredFrom lists the sentinels that the recorded error of a shard may stand
// for.
var restoredFrom = []error{
	ErrShardInitializationFailed, ErrMalformedCAR, ErrTruncatedCAR, ErrHashMismatch, ErrUnknownHash, os.ErrNotExist, os.ErrPermission,
	context.DeadlineExceeded, context.Canceled,
}

// Is reports whether the recorded text mentions a known sentinel.
func (e recordedError) Is(target error) bool {
	return slices.Contains(restoredFrom, target) && strings.Contains(string(e), target.Error())
}
