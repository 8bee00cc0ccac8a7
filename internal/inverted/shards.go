package inverted

import (
	"iter"
	"sync/atomic"
)

const chunkSize = 1024

type chunk [chunkSize]atomic.Pointer[string]

// A dictionary maps the numbers of shards to their keys. Numbers that have none
// were never given, or their shards were removed: records with such a number do
// not count. It is read by anybody, and changed by one goroutine at a time. A
// change is seen at once.
type dictionary struct {
	chunks atomic.Pointer[[]*chunk] // nil where there is no key; changed by replacing
}

func newDictionary() *dictionary {
	d := new(dictionary)
	d.chunks.Store(new([]*chunk))
	return d
}

// key returns the key of a shard, or nil.
func (d *dictionary) key(number uint32) *string {
	chunks := *d.chunks.Load()
	i := int(number / chunkSize)
	if i >= len(chunks) || chunks[i] == nil {
		return nil
	}
	return chunks[i][number%chunkSize].Load()
}

func (d *dictionary) has(number uint32) bool { return d.key(number) != nil }

func (d *dictionary) set(number uint32, key string) {
	chunks := *d.chunks.Load()
	i := int(number / chunkSize)
	if i >= len(chunks) || chunks[i] == nil {
		grown := make([]*chunk, max(i+1, len(chunks)))
		copy(grown, chunks)
		grown[i] = new(chunk)
		d.chunks.Store(&grown)
		chunks = grown
	}
	chunks[i][number%chunkSize].Store(&key)
}

// remove takes the key from a number that has one.
func (d *dictionary) remove(number uint32) {
	(*d.chunks.Load())[number/chunkSize][number%chunkSize].Store(nil)
}

// all yields the shards in the order of their numbers.
func (d *dictionary) all() iter.Seq2[uint32, string] {
	return func(yield func(uint32, string) bool) {
		for i, c := range *d.chunks.Load() {
			if c == nil {
				continue
			}
			for at := range c {
				key := c[at].Load()
				if key != nil && !yield(uint32(i*chunkSize+at), *key) {
					return
				}
			}
		}
	}
}
