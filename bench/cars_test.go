package bench

import (
	"bufio"
	"crypto/sha256"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/ipfs/go-cid"
	"github.com/multiformats/go-varint"
	"github.com/stretchr/testify/require"

	"github.com/filecoin-project/dagstore/internal/cartest"
)

// cidPrefix begins every CID: version 1, raw, sha2-256 of 32 bytes.
const cidPrefix = "\x01\x55\x12\x20"

// A carFile is a CARv1 of random blocks of one size on disk. The same numbers
// always give the same file, in the page cache.
type carFile struct {
	path         string
	blocks, size int
	first        int64 // where the first section begins
	prefix       int64 // length of the varint that begins a section
}

// makeCAR makes a file that is there as long as tb.
func makeCAR(tb testing.TB, blocks, size int) carFile {
	tb.Helper()
	path := filepath.Join(tb.TempDir(), strconv.Itoa(blocks)+"x"+strconv.Itoa(size)+".car")
	f, err := os.Create(path)
	require.NoError(tb, err)
	w := bufio.NewWriterSize(f, 1<<20)
	header := cartest.Header(1, cartest.Raw(nil).Cid)
	_, err = w.Write(header)
	require.NoError(tb, err)
	prefix := varint.ToUvarint(uint64(len(cidPrefix) + sha256.Size + size))
	head := append(prefix, cidPrefix...)
	data := make([]byte, size)
	random := rand.NewChaCha8([32]byte{})
	for range blocks {
		_, _ = random.Read(data)
		digest := sha256.Sum256(data)
		_, _ = w.Write(head)
		_, _ = w.Write(digest[:])
		_, _ = w.Write(data)
	}
	require.NoError(tb, w.Flush()) // with the first error of all that was written
	require.NoError(tb, f.Sync())  // lest it be written beside what is measured
	require.NoError(tb, f.Close())
	return carFile{path, blocks, size, int64(len(header)), int64(len(prefix))}
}

// A place is where a block lies in a file.
type place struct {
	cid    cid.Cid
	offset int64 // of the data
}

// places returns all blocks, shuffled.
func (c carFile) places(tb testing.TB) []place {
	tb.Helper()
	f, err := os.Open(c.path)
	require.NoError(tb, err)
	defer f.Close()
	const key = int64(len(cidPrefix) + sha256.Size)
	var b [key]byte
	all := make([]place, c.blocks)
	for i, at := range rand.New(rand.NewPCG(1, 2)).Perm(c.blocks) {
		offset := c.first + int64(at)*(c.prefix+key+int64(c.size)) + c.prefix
		_, err := f.ReadAt(b[:], offset)
		require.NoError(tb, err)
		all[i].offset = offset + key
		_, all[i].cid, err = cid.CidFromBytes(b[:])
		require.NoError(tb, err)
	}
	return all
}

// A deal gives out parts of the same length, in turn, from the first again after
// the last, so that no contender finds in the caches what another has just read.
type deal[T any] struct {
	all []T
	at  int
}

func (d *deal[T]) next(n int) []T {
	if d.at+n > len(d.all) {
		d.at = 0
	}
	d.at += n
	return d.all[d.at-n : d.at]
}
