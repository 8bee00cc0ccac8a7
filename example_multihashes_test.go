package dagstore_test

import (
	"bytes"
	"context"
	"fmt"
	"log"

	"github.com/filecoin-project/dagstore"
	"github.com/filecoin-project/dagstore/index"
	"github.com/filecoin-project/dagstore/mount"
	"github.com/filecoin-project/dagstore/shard"
)

// Announce two multihashes, and later, from where that ended, the rest.
func ExampleDAGStore_AllMultihashes() {
	store, end := exampleStore()
	defer end()
	ctx := context.Background()

	car := &mount.FileMount{Path: "testdata/wikipedia-cryptographic-hash-function.car"}
	if err := dagstore.Register(ctx, store, shard.KeyFromString("wikipedia"), car, dagstore.RegisterOpts{}); err != nil {
		log.Fatal(err)
	}
	var announced dagstore.ShardMultihash // keep it where it survives a restart
	for _, most := range []int{2, 1000} {
		n := 0
		for m, err := range store.AllMultihashes(ctx, index.MultihashRange{}, announced) {
			if err != nil {
				log.Print(err) // of one shard; the next one follows
				continue
			}
			announced = dagstore.ShardMultihash{Shard: m.Shard, Multihash: bytes.Clone(m.Multihash)}
			if n++; n == most {
				break
			}
		}
		fmt.Println(n, "of shard", announced.Shard)
	}
	// Output:
	// 2 of shard wikipedia
	// 3 of shard wikipedia
}
