package inverted

import (
	"context"
	"sync"
)

// A keyLock makes what is done to one shard follow each other.
type keyLock struct {
	mu   sync.Mutex               // guards busy
	busy map[string]chan struct{} // keys that are locked; closed when they no longer are
}

func (k *keyLock) lock(ctx context.Context, key string) (unlock func(), err error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	mine := make(chan struct{})
	for {
		k.mu.Lock()
		theirs := k.busy[key]
		if theirs == nil {
			if k.busy == nil {
				k.busy = map[string]chan struct{}{}
			}
			k.busy[key] = mine
		}
		k.mu.Unlock()
		if theirs == nil {
			break
		}
		select {
		case <-theirs:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	return func() {
		k.mu.Lock()
		delete(k.busy, key)
		k.mu.Unlock()
		close(mine)
	}, nil
}
