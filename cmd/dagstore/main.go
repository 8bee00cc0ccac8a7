// Command dagstore registers CAR files in a store, reads every block through
// the store, and verifies each against its hash.
//
//	dagstore [-store folder] [file.car ...]
//
// The store is kept, by default in the folder dagstore of the user's cache
// folder, so that another run does not index again what has not changed.
//
// The exit code is 0 when all blocks of all files are what their CIDs say, 1 when
// something is wrong with a file or with the store, and 2 for a wrong call.
package main

import (
	"context"
	"errors"
	"flag"
	"io"
	"log"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"

	logging "github.com/ipfs/go-log/v2"
)

const (
	exitOK    = 0
	exitWrong = 1
	exitUsage = 2
)

// defaultFile is where the sample lies when the command is run in its folder.
const defaultFile = "../../testdata/sample-v1.car"

func main() {
	logging.SetAllLoggers(logging.LevelError) // warnings would disturb the table
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second signal ends the process at once
	os.Exit(run(ctx, os.Args[1:], os.Stdout, os.Stderr))
}

// run is the command: it prints what it found to stdout, and progress and
// reasons to stderr, and returns the exit code. When ctx ends it closes the store
// and reports what was read until then.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	folder, names, err := parse(args, stderr)
	if errors.Is(err, flag.ErrHelp) {
		return exitOK
	}
	if err != nil {
		return exitUsage
	}
	outcomes, err := readAll(ctx, folder, names, stderr)
	if len(outcomes) > 0 {
		if printErr := report(stdout, stderr, outcomes); printErr != nil {
			err = errors.Join(err, printErr)
		}
	}
	if err != nil {
		log.New(stderr, "dagstore: ", 0).Print(oneLine(err))
		return exitWrong
	}
	for _, o := range outcomes {
		if !o.good() {
			return exitWrong
		}
	}
	return exitOK
}

// parse has printed its errors when it returns them.
func parse(args []string, stderr io.Writer) (folder string, names []string, err error) {
	flags := flag.NewFlagSet("dagstore", flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.Usage = func() {
		log.New(stderr, "", 0).Printf("Usage: dagstore [-store folder] [file.car ...]\n\n"+
			"Registers CAR files in a store and verifies every block. Relative names start at\n"+
			"the working folder, which \"go -C folder run .\" sets to that folder.\n"+
			"Without files it reads %s.\n\n", defaultFile)
		flags.PrintDefaults()
	}
	flags.StringVar(&folder, "store", "",
		"`folder` of the store (default: dagstore in the user's cache folder)")
	if err := flags.Parse(args); err != nil {
		return "", nil, err
	}
	if folder == "" {
		cache, err := os.UserCacheDir()
		if err != nil {
			log.New(stderr, "dagstore: ", 0).Print("no default folder for the store, use -store: ", oneLine(err))
			return "", nil, err
		}
		folder = filepath.Join(cache, "dagstore")
	}
	names = flags.Args()
	if len(names) == 0 {
		names = []string{defaultFile}
	}
	return folder, names, nil
}
