package blockview

import (
	"errors"
	"io"
	"math/rand/v2"
	"testing"

	"github.com/multiformats/go-multihash"
	"github.com/stretchr/testify/require"

	"github.com/filecoin-project/dagstore/internal/cartest"
	"github.com/filecoin-project/dagstore/internal/mapped"
)

// Sizes around all limits of how much is read at once, long CIDs among them,
// with the last section at the very end of the data.
func TestDataThatIsNotMappedGivesTheSameBlocks(t *testing.T) {
	var made []cartest.Block
	r := rand.New(rand.NewPCG(1, 1))
	add := func(size int, code uint64, digest []byte) {
		made = append(made, cartest.Block{Cid: cartest.Cid(code, digest), Data: cartest.Bytes(r, size)})
	}
	for _, size := range []int{0, 1, 80, 91, 92, 93, 127, 128, 129, 4000, 4057, 4058, 4059, 4060, 4061, 4095, 4096, 4097, 9000} {
		add(size, multihash.BLAKE3, cartest.Bytes(r, 32))
		add(size, multihash.BLAKE3, cartest.Bytes(r, 123))
		add(size, multihash.BLAKE3, cartest.Bytes(r, 124))
		add(size, multihash.BLAKE3, cartest.Bytes(r, 2000))
	}
	for i := range made {
		car := cartest.V1(nil, append(made[i+1:len(made):len(made)], made[:i+1]...))
		mappedData, file := open(t, car)
		require.NoError(t, mappedData.Map())
		idx := index(t, mappedData)
		inMapping, read := newBlocks(t, mappedData, idx), newBlocks(t, unmapped(t, file.Name()), idx)
		for _, want := range []cartest.Block{made[i], made[(i+1)%len(made)]} {
			requireBlock(t, inMapping, want)
			requireBlock(t, read, want)
		}
	}
}

// A meter counts reads.
type meter struct {
	mapped.Source
	reads, bytes int
}

func (m *meter) ReadAt(p []byte, off int64) (int, error) {
	m.reads++
	m.bytes += len(p)
	return m.Source.ReadAt(p, off)
}

func TestASmallBlockCostsOneRead(t *testing.T) {
	made := append(cartest.Blocks(1, 300, 1), cartest.Blocks(1, 100_000, 2)...)
	data, file := open(t, cartest.V1(nil, append(made, cartest.Blocks(100, 300, 3)...)))
	source := &meter{Source: file}
	metered, err := mapped.Open(source)
	require.NoError(t, err)
	b := newBlocks(t, metered, index(t, data))
	cost := func(call func()) (reads, bytes int) {
		source.reads, source.bytes = 0, 0
		call()
		return source.reads, source.bytes
	}
	reads, bytes := cost(func() { _, _ = b.Get(t.Context(), made[0].Cid) })
	require.Equal(t, []int{1, blockReach}, []int{reads, bytes})
	reads, bytes = cost(func() { _, _ = b.Has(t.Context(), made[0].Cid) })
	require.Equal(t, []int{1, headReach}, []int{reads, bytes})
	reads, bytes = cost(func() { _, _ = b.GetSize(t.Context(), made[1].Cid) })
	require.Equal(t, []int{1, headReach}, []int{reads, bytes})
	reads, bytes = cost(func() { _, _ = b.Get(t.Context(), made[1].Cid) })
	require.Equal(t, 2, reads)
	require.Less(t, bytes, 101_000, "nothing is read twice")
	reads, _ = cost(func() { _ = b.View(t.Context(), made[1].Cid, func([]byte) error { return nil }) })
	require.Equal(t, 2, reads)
	reads, _ = cost(func() { _, _ = b.Has(t.Context(), cartest.Raw([]byte("absent")).Cid) })
	require.Zero(t, reads)
}

// A frail file fails after some reads.
type frail struct {
	mapped.Source
	left int
}

func (f *frail) ReadAt(p []byte, off int64) (int, error) {
	if f.left--; f.left < 0 {
		return 0, errDisk
	}
	return f.Source.ReadAt(p, off)
}

func TestEachReadMayFail(t *testing.T) {
	made := cartest.Blocks(2, 9000, 1)
	data, file := open(t, cartest.V1(nil, made))
	source := &frail{file, 1000}
	broken, err := mapped.Open(source)
	require.NoError(t, err)
	b := newBlocks(t, broken, index(t, data))
	for reads := range 2 {
		source.left = reads
		_, err = b.Get(t.Context(), made[0].Cid)
		require.ErrorIs(t, err, errDisk)
		source.left = reads
		require.ErrorIs(t, b.View(t.Context(), made[0].Cid, notCalled(t)), errDisk)
	}
	source.left = 0
	_, err = b.Has(t.Context(), made[0].Cid)
	require.ErrorIs(t, err, errDisk)
	source.left = 1000
	requireBlock(t, b, made[0])
}

func TestAFileThatIsCutAndNotMappedIsTruncated(t *testing.T) {
	made := cartest.Blocks(3, 9000, 1)
	car := cartest.V1(nil, made)
	for _, cut := range []int64{1, 5000, 9000, 9030, 10_000} {
		data, file := open(t, car)
		b := newBlocks(t, data, index(t, data))
		require.NoError(t, file.Truncate(int64(len(car))-cut))
		_, err := b.Get(t.Context(), made[2].Cid)
		require.ErrorIs(t, err, io.ErrUnexpectedEOF)
		require.ErrorIs(t, b.View(t.Context(), made[2].Cid, notCalled(t)), io.ErrUnexpectedEOF)
		requireBlock(t, b, made[0])
	}
}

// A bomb of a source panics.
type panickingSource struct {
	mapped.Source
	armed bool
}

func (p *panickingSource) ReadAt(b []byte, off int64) (int, error) {
	if p.armed {
		panic(errors.New("bug of a mount"))
	}
	return p.Source.ReadAt(b, off)
}

func TestASourceThatPanicsDoesNotKillTheProcess(t *testing.T) {
	made := cartest.Blocks(1, 100, 1)
	data, file := open(t, cartest.V1(nil, made))
	source := &panickingSource{Source: file}
	broken, err := mapped.Open(source)
	require.NoError(t, err)
	b := newBlocks(t, broken, index(t, data))
	source.armed = true
	require.ErrorContains(t, requireErrorLoosely(t, b, made[0]), "bug of a mount")
}

// requireErrorLoosely is requireError for errors that hold a stack.
func requireErrorLoosely(t *testing.T, b *Blocks, want cartest.Block) error {
	t.Helper()
	_, err := b.GetSize(t.Context(), want.Cid)
	require.Error(t, err)
	_, err = b.Has(t.Context(), want.Cid)
	require.Error(t, err)
	require.Error(t, b.View(t.Context(), want.Cid, notCalled(t)))
	_, err = b.Get(t.Context(), want.Cid)
	return err
}
