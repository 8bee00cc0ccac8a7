package compat

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// The modules whose files are read.
const (
	goCar         = "github.com/ipld/go-car/v2@v2.17.0"
	lotus         = "github.com/filecoin-project/lotus@v1.23.2-0.20230622154405-168d022018ce" // the last with plain genesis files
	kubo          = "github.com/ipfs/kubo@v0.41.0"
	indigo        = "github.com/bluesky-social/indigo@v0.0.0-20260605210604-af2fec94f34c"
	boxo          = "github.com/ipfs/boxo@v0.39.0"
	unixfsnode    = "github.com/ipfs/go-unixfsnode@v1.10.4"
	indexProvider = "github.com/ipni/index-provider@v0.16.3"
	dataSegment   = "github.com/filecoin-project/go-data-segment@v0.0.1"
)

var modules = []string{goCar, lotus, kubo, indigo, boxo, unixfsnode, indexProvider, dataSegment}

// A folder is where a module lies, or why it cannot be had.
type folder struct{ Path, Version, Dir, Error string }

// folders downloads what is not there yet, at first use. Keys are those of modules.
var folders = sync.OnceValues(func() (map[string]folder, error) {
	outside, err := os.MkdirTemp("", "compat") // of every module, so that no go.mod counts
	if err != nil {
		return nil, err
	}
	defer func() { _ = os.Remove(outside) }()
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	command := exec.CommandContext(ctx, "go", append([]string{"mod", "download", "-json"}, modules...)...)
	command.Dir = outside
	command.Env = append(os.Environ(), "GOWORK=off")
	var stderr strings.Builder
	command.Stderr = &stderr
	stdout, runErr := command.Output() // also an error when one module of several cannot be had
	found, err := decoded(stdout)
	if err == nil && len(found) == 0 {
		err = fmt.Errorf("%w: %s", runErr, stderr.String())
	}
	return found, err
})

// decoded returns the folders in what `go mod download` says.
func decoded(stdout []byte) (map[string]folder, error) {
	found := map[string]folder{}
	for decoder := json.NewDecoder(bytes.NewReader(stdout)); ; {
		var f folder
		if err := decoder.Decode(&f); errors.Is(err, io.EOF) {
			return found, nil
		} else if err != nil {
			return nil, err
		}
		found[f.Path+"@"+f.Version] = f
	}
}

// String names the file in tests and as a shard.
func (f file) String() string { return f.module + "/" + f.name }

// read returns the bytes of the file, which must be those that were pinned.
func (f file) read(t *testing.T) []byte {
	t.Helper()
	all, err := folders()
	if err != nil {
		unavailable(t, "go mod download: "+err.Error())
	}
	m := all[f.module]
	if m.Dir == "" {
		unavailable(t, f.module+": "+m.Error)
	}
	b, err := os.ReadFile(filepath.Join(m.Dir, filepath.FromSlash(f.name)))
	require.NoError(t, err)
	got := sha256.Sum256(b)
	require.Equal(t, f.sum, hex.EncodeToString(got[:]), "the file is not the one that was pinned")
	return b
}

func unavailable(t *testing.T, why string) {
	t.Helper()
	if os.Getenv("CI") == "true" {
		t.Fatal("files of other projects cannot be had: " + why)
	}
	t.Skip("needs the network once, to download modules: " + why)
}
