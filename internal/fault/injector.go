// Package fault makes operations fail, for tests: those of a file system and
// those of a datastore. A test runs the same work again and again with the
// n-th operation failing, for n from 0 until none fails any more.
package fault

import (
	"errors"
	"sync"
)

// ErrInjected is the error with which operations fail unless the test sets
// another.
var ErrInjected = errors.New("injected fault")

// A Kind is what an operation does.
type Kind string

// The operations of a file system and of its files.
const (
	Open     Kind = "open"
	Create   Kind = "create" // CreateTemp, and OpenFile with os.O_CREATE
	Read     Kind = "read"
	Write    Kind = "write"
	Truncate Kind = "truncate"
	Sync     Kind = "sync" // of a file
	Close    Kind = "close"
	Rename   Kind = "rename"
	Remove   Kind = "remove"
	Stat     Kind = "stat"
	ReadDir  Kind = "readdir"
	Mkdir    Kind = "mkdir"
	SyncDir  Kind = "syncdir"
)

// The operations of a datastore. What is put into a batch is counted when the
// batch is committed.
const (
	Get    Kind = "get"
	Has    Kind = "has" // Has and GetSize
	Query  Kind = "query"
	Put    Kind = "put"
	Delete Kind = "delete"
	Batch  Kind = "batch"
	Commit Kind = "commit"
	Flush  Kind = "flush" // Sync of a datastore
)

// Writes tells whether operations of this kind change what is stored or make
// it durable.
func (k Kind) Writes() bool {
	switch k {
	case Create, Write, Truncate, Sync, Rename, Remove, Mkdir, SyncDir, Put, Delete, Commit, Flush:
		return true
	default:
		return false
	}
}

// An Op is one operation. Name is the path of the file, or the key.
type Op struct {
	Kind Kind
	Name string
}

// Writing matches the operations that write.
func Writing(op Op) bool { return op.Kind.Writes() }

// Is returns a match of the operations of these kinds.
func Is(kinds ...Kind) func(Op) bool {
	return func(op Op) bool {
		for _, k := range kinds {
			if op.Kind == k {
				return true
			}
		}
		return false
	}
}

// An Injector decides which operations fail and counts them all. One Injector
// may serve many file systems and datastores. It is safe for concurrent use;
// Match, WithError and Short are to be called before its first use.
type Injector struct {
	fails func(n int) bool // of the n-th operation that matches
	match func(Op) bool
	err   error
	short bool

	mu      sync.Mutex // guards what follows
	matched int
	fired   int
	seen    map[Kind]int
}

func newInjector(fails func(int) bool) *Injector {
	return &Injector{
		fails: fails,
		match: func(Op) bool { return true },
		err:   ErrInjected,
		seen:  map[Kind]int{},
	}
}

// OnIndex fails the n-th operation that matches, counted from 0, and no other.
func OnIndex(n int) *Injector { return newInjector(func(i int) bool { return i == n }) }

// From fails the n-th operation that matches, counted from 0, and every later
// one: what a crash at that operation leaves is what a store then finds.
func From(n int) *Injector { return newInjector(func(i int) bool { return i >= n }) }

// Every fails each n-th operation that matches, the first n-1 being spared.
func Every(n int) *Injector { return newInjector(func(i int) bool { return i%n == n-1 }) }

// Always fails every operation that matches.
func Always() *Injector { return From(0) }

// Never fails nothing and counts.
func Never() *Injector { return newInjector(func(int) bool { return false }) }

// Match restricts the failures to operations for which match holds.
func (i *Injector) Match(match func(op Op) bool) *Injector {
	i.match = match
	return i
}

// WithError sets the error of the failures.
func (i *Injector) WithError(err error) *Injector {
	i.err = err
	return i
}

// Short makes a failing write write the first half of its bytes, and a failing
// commit commit the first half of its batch.
func (i *Injector) Short() *Injector {
	i.short = true
	return i
}

// Fired returns how many operations have failed.
func (i *Injector) Fired() int {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.fired
}

// Count returns how many operations of these kinds there were, failed ones
// included. Without kinds: all.
func (i *Injector) Count(kinds ...Kind) int {
	i.mu.Lock()
	defer i.mu.Unlock()
	sum := 0
	for k, n := range i.seen {
		if len(kinds) == 0 || Is(kinds...)(Op{Kind: k}) {
			sum += n
		}
	}
	return sum
}

// Reset sets all counts to zero, that of the operations matched included.
func (i *Injector) Reset() {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.matched, i.fired = 0, 0
	clear(i.seen)
}

// do counts the operation and returns its error, if it is to fail.
func (i *Injector) do(kind Kind, name string) error {
	op := Op{kind, name}
	i.mu.Lock()
	defer i.mu.Unlock()
	i.seen[kind]++
	if !i.match(op) {
		return nil
	}
	n := i.matched
	i.matched++
	if !i.fails(n) {
		return nil
	}
	i.fired++
	return i.err
}
