package cartest

import (
	"bytes"
	"io"
	"slices"
	"testing"

	car "github.com/ipld/go-car/v2"
	"github.com/multiformats/go-multihash"
	"github.com/stretchr/testify/require"
)

func TestGoCarReadsTheBlocksBack(t *testing.T) {
	blocks := append(Blocks(5, 100, 1),
		Identity([]byte("hello")), V0([]byte("old")), Identity(bytes.Repeat([]byte("x"), 300)),
		Hashed([]byte("short"), multihash.SHA2_512, 20))
	for _, in := range [][]Block{nil, blocks, slices.Clone(blocks)[7:]} {
		v1 := V1(nil, in)
		for _, file := range [][]byte{v1, V2(v1, V2Options{}), V2(v1, V2Options{DataPadding: 7}), V2(v1, V2Options{DataPadding: 1413})} {
			r, err := car.NewBlockReader(bytes.NewReader(file))
			require.NoError(t, err)
			for _, want := range in {
				got, err := r.Next()
				require.NoError(t, err)
				require.Equal(t, want.Cid, got.Cid())
				require.Equal(t, want.Data, got.RawData())
			}
			_, err = r.Next()
			require.ErrorIs(t, err, io.EOF)
			require.Len(t, r.Roots, min(1, len(in)))
		}
	}
}

func TestSameArgumentsSameBytes(t *testing.T) {
	require.Equal(t, V1(nil, Blocks(3, 64, 9)), V1(nil, Blocks(3, 64, 9)))
	require.NotEqual(t, V1(nil, Blocks(3, 64, 9)), V1(nil, Blocks(3, 64, 8)))
}

func TestHeaderMayLie(t *testing.T) {
	v1 := V1(nil, Blocks(1, 10, 1))
	file := V2(v1, V2Options{Index: []byte("index"), IndexPadding: 3, DataSize: 1 << 60})
	r, err := car.NewReader(bytes.NewReader(file))
	require.NoError(t, err)
	require.Equal(t, uint64(51), r.Header.DataOffset)
	require.Equal(t, uint64(1<<60), r.Header.DataSize)
	require.Equal(t, []byte("index"), file[r.Header.IndexOffset:])
	require.Equal(t, append(slices.Clone(v1), 0, 0), Padded(v1, 2))
}

func TestRealCarsAreThere(t *testing.T) {
	file := ReadReal(t, "sample-v1.car")
	require.NotEmpty(t, file)
	require.FileExists(t, Write(t, "copy.car", file))
}

func TestUnknownHashIsAMistakeOfTheTest(t *testing.T) {
	require.Panics(t, func() { Hashed(nil, 0x7fffff, -1) })
	require.Equal(t, byte(0x7f), Cid(0x7f, []byte{1}).Bytes()[2])
}

func TestBigBlocksAreTrueAndRepeatable(t *testing.T) {
	blocks := BigBlocks(2, 1<<20, 3)
	require.Equal(t, blocks, BigBlocks(2, 1<<20, 3))
	require.NotEqual(t, blocks[0], blocks[1])
	require.Equal(t, Raw(blocks[1].Data), blocks[1])
}
