package dagstore

import (
	"context"
	"sync"

	carindex "github.com/ipld/go-car/v2/index"
	mh "github.com/multiformats/go-multihash"

	"github.com/filecoin-project/dagstore/index"
	"github.com/filecoin-project/dagstore/shard"
)

// A faultyRepo is a repo of full indices that fails, or panics, on demand.
type faultyRepo struct {
	index.FullIndexRepo
	mu     sync.Mutex
	err    error
	panics any
}

func (f *faultyRepo) fail(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.err = err
}

func (f *faultyRepo) failure() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.panics != nil {
		panic(f.panics)
	}
	return f.err
}

func (f *faultyRepo) GetFullIndex(k shard.Key) (carindex.Index, error) {
	if err := f.failure(); err != nil {
		return nil, err
	}
	return f.FullIndexRepo.GetFullIndex(k)
}

func (f *faultyRepo) AddFullIndex(k shard.Key, idx carindex.Index) error {
	if err := f.failure(); err != nil {
		return err
	}
	return f.FullIndexRepo.AddFullIndex(k, idx)
}

func (f *faultyRepo) DropFullIndex(k shard.Key) (bool, error) {
	if err := f.failure(); err != nil {
		return false, err
	}
	return f.FullIndexRepo.DropFullIndex(k)
}

// A plainInverted is an inverted index of a service: it does what Inverted asks
// for, and fails or panics on demand.
type plainInverted struct {
	index.Inverted
	mu     sync.Mutex
	err    error
	panics any
	added  []string
}

func (p *plainInverted) fail(err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.err = err
}

func (p *plainInverted) failure() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.panics != nil {
		panic(p.panics)
	}
	return p.err
}

func (p *plainInverted) AddMultihashesForShard(ctx context.Context, it index.MultihashIterator, k shard.Key) error {
	if err := p.failure(); err != nil {
		return err
	}
	p.mu.Lock()
	p.added = append(p.added, k.String())
	p.mu.Unlock()
	return p.Inverted.AddMultihashesForShard(ctx, it, k)
}

func (p *plainInverted) GetShardsForMultihash(ctx context.Context, h mh.Multihash) ([]shard.Key, error) {
	if err := p.failure(); err != nil {
		return nil, err
	}
	return p.Inverted.GetShardsForMultihash(ctx, h)
}
