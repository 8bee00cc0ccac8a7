// Package bench measures what the store promises: how often it syncs, and what
// CPU and memory a shard costs. Each figure stands beside its floor, what the
// machine takes for the least that could do the job, in the same run. It is a
// module of its own, so that the library does not depend on leveldb.
//
//	go test -run '^$' -bench . ./...
//
// The tests assert the counts, which do not depend on the machine, and kill a
// process that works on a store to see that what it acknowledged is there.
package bench
