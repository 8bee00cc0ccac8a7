// Package shard names shards.
package shard

import (
	"encoding/json"
	"fmt"

	"github.com/ipfs/go-cid"
	"github.com/mr-tron/base58"
)

// A Key identifies a shard within a store. It is opaque to the store: any
// non-empty string of bytes serves, and two keys are the same shard only if
// they are the same bytes. Keys are values: comparable, usable as map keys, and
// safe for concurrent use. The zero Key is empty, and no shard may have it.
type Key struct{ str string }

// KeyFromString returns the key that consists of the bytes of s.
func KeyFromString(s string) Key { return Key{s} }

// KeyFromBytes returns the key that is the base58 (Bitcoin alphabet) form of b.
func KeyFromBytes(b []byte) Key { return Key{base58.Encode(b)} }

// KeyFromCID returns the key that is the canonical string form of c.
func KeyFromCID(c cid.Cid) Key { return Key{c.String()} }

// String returns the bytes of the key as a string.
func (k Key) String() string { return k.str }

// MarshalJSON encodes the key as a JSON string. Bytes that are not UTF-8 do not
// survive JSON.
func (k Key) MarshalJSON() ([]byte, error) { return json.Marshal(k.str) }

// UnmarshalJSON decodes a key from a JSON string.
func (k *Key) UnmarshalJSON(b []byte) error {
	if err := json.Unmarshal(b, &k.str); err != nil {
		return fmt.Errorf("shard key: %w", err)
	}
	return nil
}
