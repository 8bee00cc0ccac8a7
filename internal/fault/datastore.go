package fault

import (
	"context"

	ds "github.com/ipfs/go-datastore"
	"github.com/ipfs/go-datastore/query"
)

// Datastore returns d with the failures of inj. A batch of it keeps what is put
// into it until Commit, which is one operation.
func Datastore(d ds.Batching, inj *Injector) ds.Batching { return &faultyDatastore{d, inj} }

// Unbatched returns d without batching: its Batch returns
// ds.ErrBatchUnsupported.
func Unbatched(d ds.Batching) ds.Batching { return unbatched{d} }

type unbatched struct{ ds.Batching }

func (unbatched) Batch(context.Context) (ds.Batch, error) { return nil, ds.ErrBatchUnsupported }

type faultyDatastore struct {
	d   ds.Batching
	inj *Injector
}

func (f *faultyDatastore) Get(ctx context.Context, key ds.Key) ([]byte, error) {
	if err := f.inj.do(Get, key.String()); err != nil {
		return nil, err
	}
	return f.d.Get(ctx, key)
}

func (f *faultyDatastore) Has(ctx context.Context, key ds.Key) (bool, error) {
	if err := f.inj.do(Has, key.String()); err != nil {
		return false, err
	}
	return f.d.Has(ctx, key)
}

func (f *faultyDatastore) GetSize(ctx context.Context, key ds.Key) (int, error) {
	if err := f.inj.do(Has, key.String()); err != nil {
		return -1, err
	}
	return f.d.GetSize(ctx, key)
}

func (f *faultyDatastore) Query(ctx context.Context, q query.Query) (query.Results, error) {
	if err := f.inj.do(Query, q.Prefix); err != nil {
		return nil, err
	}
	return f.d.Query(ctx, q)
}

func (f *faultyDatastore) Put(ctx context.Context, key ds.Key, value []byte) error {
	if err := f.inj.do(Put, key.String()); err != nil {
		return err
	}
	return f.d.Put(ctx, key, value)
}

func (f *faultyDatastore) Delete(ctx context.Context, key ds.Key) error {
	if err := f.inj.do(Delete, key.String()); err != nil {
		return err
	}
	return f.d.Delete(ctx, key)
}

func (f *faultyDatastore) Sync(ctx context.Context, prefix ds.Key) error {
	if err := f.inj.do(Flush, prefix.String()); err != nil {
		return err
	}
	return f.d.Sync(ctx, prefix)
}

func (f *faultyDatastore) Close() error { return f.d.Close() }

func (f *faultyDatastore) Batch(ctx context.Context) (ds.Batch, error) {
	if err := f.inj.do(Batch, ""); err != nil {
		return nil, err
	}
	b, err := f.d.Batch(ctx)
	if err != nil {
		return nil, err
	}
	return &faultyBatch{b: b, inj: f.inj}, nil
}

type faultyBatch struct {
	b   ds.Batch
	inj *Injector
	ops []func(context.Context) error // into b, in order
}

func (f *faultyBatch) Put(_ context.Context, key ds.Key, value []byte) error {
	f.ops = append(f.ops, func(ctx context.Context) error { return f.b.Put(ctx, key, value) })
	return nil
}

func (f *faultyBatch) Delete(_ context.Context, key ds.Key) error {
	f.ops = append(f.ops, func(ctx context.Context) error { return f.b.Delete(ctx, key) })
	return nil
}

func (f *faultyBatch) Commit(ctx context.Context) error {
	err := f.inj.do(Commit, "")
	if err == nil {
		return f.commit(ctx, f.ops)
	}
	if f.inj.short {
		_ = f.commit(ctx, f.ops[:len(f.ops)/2])
	}
	return err
}

func (f *faultyBatch) commit(ctx context.Context, ops []func(context.Context) error) error {
	for _, op := range ops {
		if err := op(ctx); err != nil {
			return err
		}
	}
	return f.b.Commit(ctx)
}
