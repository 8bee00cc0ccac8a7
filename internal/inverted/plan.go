package inverted

import (
	"cmp"
	"slices"
)

const (
	// maxMerged is how many layers are merged at once.
	maxMerged = 512

	// ratio trades look-ups for writes: with 1, 50M records in 1,000 shards are
	// written 7 times and in 5 layers on average; with 3, 10 times and in 3 layers.
	ratio = 3

	// A layer is rewritten when one in this many of its records is dead.
	tolerated = 8
)

// A task is what merging does next. Its zero value is nothing.
type task struct {
	kind   taskKind
	tables []*table
}

type taskKind int

const (
	rest         taskKind = iota
	mergeMemory           // layers in memory become one in memory
	gatherMemory          // all layers in memory become a file
	mergeFiles            // files become one
)

// plan decides what merging does next. isDurable tells that the index has a folder;
// then what is in memory is in the journal too, and becomes a file when there are
// gathered records of it.
func plan(tables []*table, isDurable bool, gathered int64) task {
	var memory, files []*table
	var records int64
	for _, t := range tables {
		if inMemory(t) {
			memory = append(memory, t)
			records += t.records
		} else {
			files = append(files, t)
		}
	}
	if isDurable && records >= gathered && len(memory) <= maxMerged {
		return task{gatherMemory, memory}
	}
	if chosen := choose(memory); len(chosen) > 0 {
		return task{mergeMemory, chosen}
	}
	if chosen := choose(files); len(chosen) > 0 {
		return task{mergeFiles, chosen}
	}
	return task{}
}

// choose returns the tables to merge: as many as it takes for each of those that are
// left to have ratio times as many records as all smaller ones together. So there are
// few, and each time a record is merged the table that it is in grows by a third, or
// more: it is written a logarithmic number of times. If there are none, it returns a
// table with many dead records.
func choose(tables []*table) []*table {
	tables = slices.Clone(tables)
	slices.SortFunc(tables, func(a, b *table) int { return cmp.Compare(a.records, b.records) })
	count, smaller := 0, int64(0)
	for i, t := range tables {
		if t.records < ratio*smaller {
			count = i + 1
		}
		smaller += t.records
	}
	if count > 0 {
		return tables[:min(count, maxMerged)]
	}
	for i, t := range tables {
		if t.dead > 0 && t.dead >= t.records/tolerated {
			return tables[i : i+1]
		}
	}
	return nil
}
