package main

import (
	"fmt"
	"io"
	"log"
	"strings"
	"text/tabwriter"
	"time"
	"unicode"
)

// report prints a table and a summary to stdout, and the reason of each file
// that could not be read whole to stderr.
func report(stdout, stderr io.Writer, outcomes []outcome) error {
	rows := []byte("shard\tstate\tblocks\tbytes\ttime\tfound\n")
	for _, o := range outcomes {
		rows = fmt.Appendf(rows, "%s\t%s\t%d\t%d\t%s\t%s\n", printable(o.name), o.state, o.blocks, o.bytes,
			o.took.Round(time.Millisecond/10), found(o))
	}
	table := tabwriter.NewWriter(stdout, 0, 0, 2, ' ', 0)
	if _, err := table.Write(rows); err != nil {
		return err
	}
	if err := table.Flush(); err != nil {
		return err
	}
	if _, err := fmt.Fprintln(stdout, summary(outcomes)); err != nil {
		return err
	}
	reasons := log.New(stderr, "", 0)
	for _, o := range outcomes {
		if o.err != nil {
			reasons.Printf("%s: %s", printable(o.name), oneLine(o.err))
		}
	}
	return nil
}

// found is what was found in one file, in a few words.
func found(o outcome) string {
	switch {
	case o.mismatches > 0:
		return o.done + "; " + count(o.mismatches, "hash mismatch", "hash mismatches")
	case o.err != nil:
		return "unreadable"
	default:
		return o.done + "; all blocks match their hashes"
	}
}

func summary(outcomes []outcome) string {
	var good, blocks, mismatches int
	var bytes int64
	for _, o := range outcomes {
		if o.good() {
			good++
		}
		blocks += o.blocks
		bytes += o.bytes
		mismatches += o.mismatches
	}
	return fmt.Sprintf("read %s (%s) of %s: %s; %d of %d intact",
		count(blocks, "block", "blocks"), count(int(bytes), "byte", "bytes"), count(len(outcomes), "file", "files"),
		count(mismatches, "hash mismatch", "hash mismatches"), good, len(outcomes))
}

func count(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}

// printable is s without what could move the cursor or the columns.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return '\uFFFD'
	}, s)
}
