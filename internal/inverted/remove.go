package inverted

import (
	"context"
	"fmt"
)

// Remove removes a shard, if it is there. When it returns nil, that is durable, and no
// look-up that begins then finds the shard. Its records are dropped by merging. The
// errors are those of Add.
func (x *Index) Remove(ctx context.Context, key string) error {
	bound, end, err := x.beginChange(ctx, key)
	if err != nil {
		return err
	}
	defer end()
	x.mu.Lock()
	number, ok := x.manifest.numbers[key]
	x.mu.Unlock()
	if !ok {
		return nil
	}
	if _, err := x.commit(bound, &change{dead: []uint32{number}}); err != nil {
		return fmt.Errorf("remove from the inverted index: %w", outcome(bound, err))
	}
	return nil
}
