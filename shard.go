package dagstore

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"unicode/utf8"

	"github.com/filecoin-project/dagstore/mount"
	"github.com/filecoin-project/dagstore/shard"
)

// PersistedShard is the record of a shard in the datastore, as JSON, under
// /dagstore/ and the key.
type PersistedShard struct {
	Key           string     `json:"k"`
	URL           string     `json:"u"` // of the mount
	TransientPath string     `json:"t"` // of a local copy, if there was one
	State         ShardState `json:"s"` // in which a restart begins
	Lazy          bool       `json:"l"` // see RegisterOpts.LazyInitialization
	Error         string     `json:"e"` // why the shard is errored
}

// A Shard is one shard of a store. Programs see shards through their keys,
// ShardInfo and accessors; the type is exported for what handles records.
type Shard struct {
	store *DAGStore // nil for a shard outside a store
	key   shard.Key
	url   string
	mount *mount.Upgrader // nil if it could not be revived, of a shard to be destroyed

	lifecycle // only the loop touches it

	trust trust // in the full index

	// Guarded by the gate.
	published ShardInfo
	visible   bool // its registration is recorded, and its destruction is not
	leaving   bool // it is being destroyed
}

// newShard checks all that can be checked of a registration before it is taken
// on.
func (d *DAGStore) newShard(key shard.Key, mnt mount.Mount, opts RegisterOpts) (*Shard, error) {
	if key.String() == "" {
		return nil, errors.New("empty key")
	}
	if path := opts.ExistingTransient; path != "" {
		if _, err := os.Stat(path); err != nil {
			return nil, fmt.Errorf("existing transient: %w", err)
		}
	}
	sh := &Shard{store: d, key: key, lifecycle: lifecycle{lazy: opts.LazyInitialization}}
	var err error
	if sh.mount, err = d.upgrade(key, mnt, opts.ExistingTransient); err != nil {
		return nil, err
	}
	if d.config.Datastore == nil {
		return sh, nil
	}
	if !utf8.ValidString(opts.ExistingTransient) {
		return nil, errors.New("existing transient: a path that is not UTF-8 would not survive a restart")
	}
	if sh.url, err = d.durableURL(mnt); err != nil {
		return nil, fmt.Errorf("mount would not survive a restart: %w", err)
	}
	return sh, nil
}

func (d *DAGStore) upgrade(key shard.Key, mnt mount.Mount, existing string) (*mount.Upgrader, error) {
	return mount.Upgrade(mnt, d.throttleFetch, d.config.TransientsDir, key.String(), existing)
}

// durableURL returns the text form of a mount, having made sure that the mount
// can be had back from it.
func (d *DAGStore) durableURL(mnt mount.Mount) (string, error) {
	u, err := d.registry.Represent(mnt)
	if err != nil {
		return "", err
	}
	text := u.String()
	if !utf8.ValidString(text) {
		return "", errors.New("its URL is not UTF-8: percent-escape it")
	}
	if _, err := d.revive(text); err != nil {
		return "", err
	}
	return text, nil
}

// revive returns the mount that a URL stands for.
func (d *DAGStore) revive(text string) (mount.Mount, error) {
	u, err := mount.ParseURL(text)
	if err != nil {
		return nil, err
	}
	return d.registry.Instantiate(u)
}

// record returns the record of the shard in the given lifecycle, nil if it is
// to be forgotten.
func (sh *Shard) record(l lifecycle, forget bool) ([]byte, error) {
	if forget {
		return nil, nil
	}
	p := PersistedShard{Key: sh.key.String(), URL: sh.url, State: l.state.durable(), Lazy: l.lazy}
	if sh.mount != nil {
		p.TransientPath = sh.mount.RecordedPath()
	}
	if l.err != nil {
		p.Error = l.err.Error()
	}
	return json.Marshal(p)
}

// MarshalJSON returns the record of the shard. It reads what the event loop
// writes, so only code that runs in the loop, or on a shard outside a running
// store, may call it.
func (sh *Shard) MarshalJSON() ([]byte, error) { return sh.record(sh.lifecycle, false) }

// UnmarshalJSON reads a record. A shard outside a store has no mount.
func (sh *Shard) UnmarshalJSON(b []byte) error {
	var p PersistedShard
	if err := json.Unmarshal(b, &p); err != nil {
		return fmt.Errorf("record of shard: %w", err)
	}
	return sh.restore(p)
}

// restore makes the shard what its record says, in the state in which a restart
// begins, whatever state an earlier version recorded.
func (sh *Shard) restore(p PersistedShard) error {
	sh.key, sh.url, sh.lazy = shard.KeyFromString(p.Key), p.URL, p.Lazy
	if _, known := stateNames[p.State]; !known {
		return fmt.Errorf("record of shard: unknown state %d", p.State)
	}
	sh.state = p.State.durable()
	if sh.state == ShardStateErrored {
		sh.err = restoredError(p.Error)
	}
	if sh.store == nil {
		return nil
	}
	mnt, err := sh.store.revive(p.URL)
	if err != nil && sh.state == ShardStateUnknown {
		return nil // it can be destroyed without its mount
	}
	if err != nil {
		return fmt.Errorf("record of shard: mount: %w", err)
	}
	sh.mount, err = sh.store.upgrade(sh.key, mnt, p.TransientPath)
	return err
}

// localNames returns the names of files in the transients folder that belong to
// the shard, or may: the recorded path may lead there by another way.
func (sh *Shard) localNames() []string {
	complete, _ := mount.TransientNames(sh.key.String())
	names := []string{complete}
	if path := sh.mount.RecordedPath(); path != "" {
		names = append(names, filepath.Base(path))
	}
	return names
}

// A recordedError is the error of a shard as its record keeps it: the text. It
// is still the sentinel errors that the text ends with or mentions, so programs
// can go on testing for them after a restart.
type recordedError string

func restoredError(text string) error {
	if text == "" {
		text = "the shard was recorded as errored, without a reason"
	}
	return recordedError(text)
}

func (e recordedError) Error() string { return string(e) }
