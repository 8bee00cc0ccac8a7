package bench

import (
	"bufio"
	"bytes"
	"io"
	"os"
	"testing"

	car "github.com/ipld/go-car/v2"
	"github.com/ipld/go-car/v2/blockstore"
	carindex "github.com/ipld/go-car/v2/index"
	"github.com/stretchr/testify/require"

	"github.com/filecoin-project/dagstore/internal/mapped"
)

// goCarIndexing makes an index as v0.7 does, in memory.
func goCarIndexing(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = car.ReadOrGenerateIndex(f, car.ZeroLengthSectionAsEOF(true), car.StoreIdentityCIDs(true))
	return err
}

// goCarIndex reads an index as v0.7 does, into memory.
func goCarIndex(tb testing.TB, path string) carindex.Index {
	tb.Helper()
	f, err := os.Open(path)
	require.NoError(tb, err)
	defer f.Close()
	idx, err := carindex.ReadFrom(bufio.NewReaderSize(f, 1<<20))
	require.NoError(tb, err)
	return idx
}

// goCarBlockstore is go-car's own over bytes that are mapped, with nothing
// between them and it, and with its own index: the best that v0.7 could do.
func goCarBlockstore(tb testing.TB, path string) *blockstore.ReadOnly {
	tb.Helper()
	f, err := os.Open(path)
	require.NoError(tb, err)
	data, err := mapped.Open(f)
	require.NoError(tb, err)
	tb.Cleanup(func() { _ = data.Close() })
	require.NoError(tb, data.Map())
	pass, err := data.Enter()
	require.NoError(tb, err)
	tb.Cleanup(func() { data.Leave(pass) })
	require.NotNil(tb, data.Mapping())
	reader := bytes.NewReader(data.Mapping())
	idx, err := car.ReadOrGenerateIndex(reader, car.ZeroLengthSectionAsEOF(true), car.StoreIdentityCIDs(true))
	require.NoError(tb, err)
	bs, err := blockstore.NewReadOnly(struct{ io.ReaderAt }{reader}, idx, car.ZeroLengthSectionAsEOF(true))
	require.NoError(tb, err)
	return bs
}
