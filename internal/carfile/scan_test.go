package carfile_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/filecoin-project/dagstore/internal/carfile"
	"github.com/filecoin-project/dagstore/internal/cartest"
	"github.com/filecoin-project/dagstore/internal/guard"
)

func TestEveryBlockIsFoundInEveryContainer(t *testing.T) {
	for _, blocks := range [][]cartest.Block{
		nil, cartest.Blocks(1, 0, 1), mixed(40, 100, 2), mixed(1000, 300, 3), mixed(30, 8000, 8),
		slices.Concat(cartest.BigBlocks(1, 300<<10, 4), mixed(30, 50, 5), cartest.BigBlocks(1, 256<<10, 6), mixed(300, 500, 7)),
	} {
		for name, file := range containers(cartest.V1(nil, blocks)) {
			t.Run(name, func(t *testing.T) { requireBlocks(t, file, blocks) })
		}
	}
}

func TestCopiesOfABlockAreAllVisitedInTheOrderOfTheFile(t *testing.T) {
	blocks := mixed(7, 10, 1)
	blocks = slices.Concat(blocks, blocks, blocks[:3], blocks)
	requireBlocks(t, cartest.V1(nil, blocks), blocks)
}

func TestLongestAllowedCidIsRead(t *testing.T) {
	blocks := []cartest.Block{cartest.Identity(make([]byte, 2043)), cartest.Identity(nil)}
	require.Equal(t, carfile.MaxCid, blocks[0].Cid.ByteLen())
	for range 300 {
		blocks = append(blocks, blocks[0])
	}
	requireBlocks(t, cartest.V1(nil, blocks), blocks)
}

func TestOddlyEncodedHeaderDoesNotMoveTheBlocks(t *testing.T) {
	blocks := cartest.Blocks(4, 50, 1)
	body := cartest.V1(nil, blocks)[len(cartest.Header(1, blocks[0].Cid)):]
	odd := "\xa2\x67version\x18\x01\x65roots\x98\x00" // 1 and [] in longer forms, keys swapped
	v1 := slices.Concat([]byte{byte(len(odd))}, []byte(odd), body)
	for _, file := range containers(v1) {
		requireBlocks(t, file, blocks)
	}
}

func TestWhatFollowsTheZeroOfAPieceIsNotASection(t *testing.T) {
	blocks := mixed(20, 30, 1)
	more := cartest.Section(cartest.Blocks(1, 30, 2)[0])
	requireBlocks(t, slices.Concat(cartest.V1(nil, blocks), []byte{0}, more), blocks)
}

func TestRealCarsOfGoCar(t *testing.T) {
	for name, good := range map[string]bool{
		"sample-v1.car": true, "sample-wrapped-v2.car": true, "sample-v1-with-zero-len-section.car": true,
		"sample-rw-bs-v2.car": true, "sample-v1-noidentity.car": true, "sample-v2-indexless.car": true,
		"sample-unixfs-v2.car": true, "sample-v1-with-zero-len-section2.car": true,
		"sample-corrupt-pragma.car": false, "sample-rootless-v42.car": false,
		"sample-v1-tailing-corrupt-section.car": false, "sample-v2-corrupt-data-and-index.car": false,
	} {
		file := cartest.ReadReal(t, name)
		got, err := sections(file)
		if !good {
			require.Error(t, err, name)
			continue
		}
		require.NoError(t, err, name)
		want, err := goCar(file)
		require.NoError(t, err, name)
		require.Equal(t, want, records(got), name)
		pushed, err := streamed(file, func() int { return 777 })
		require.NoError(t, err, name)
		require.Equal(t, got, pushed, name)
		require.NoError(t, verified(file, 2), name)
	}
}

// brokenReader fails or panics from an offset on.
type brokenReader struct {
	io.ReaderAt
	from int64
	fail func() error
}

func (r brokenReader) ReadAt(p []byte, off int64) (int, error) {
	if off+int64(len(p)) > r.from {
		return 0, r.fail()
	}
	return r.ReaderAt.ReadAt(p, off)
}

func TestFailingReaderIsNotMistakenForABadCar(t *testing.T) {
	boom := errors.New("boom")
	for _, size := range []int{1000, 300 << 10} {
		file := padded(cartest.V1(nil, cartest.BigBlocks((2<<20)/size, size, 1)), 7)
		for _, from := range []int64{5, 30, 60, 80, 300 << 10, int64(len(file)) - 1} {
			for _, verify := range []int{0, 2} {
				r := brokenReader{bytes.NewReader(file), from, func() error { return boom }}
				o := carfile.Options{Verify: verify}
				err := carfile.Scan(t.Context(), r, int64(len(file)), o, nothing)
				require.ErrorIs(t, err, boom)
				require.NotErrorIs(t, err, carfile.ErrMalformed)
				require.NotErrorIs(t, err, carfile.ErrTruncated)

				r.fail = func() error { panic("boom") }
				err = carfile.Scan(t.Context(), r, int64(len(file)), o, nothing)
				var p *guard.PanicError
				require.ErrorAs(t, err, &p)
			}
		}
	}
}

func TestPanickingReaderGivesAnErrorEverywhere(t *testing.T) {
	r := brokenReader{nil, 0, func() error { panic("boom") }}
	var p *guard.PanicError
	_, err := carfile.Locate(r, 100)
	require.ErrorAs(t, err, &p)
	_, err = carfile.Find(r, 100)
	require.ErrorAs(t, err, &p)
	var head carfile.Head
	_, err = carfile.SectionAt(r, carfile.Payload{Size: 100, Header: 70}, 80, &head)
	require.ErrorAs(t, err, &p)
}

func TestCancelledScanStops(t *testing.T) {
	small := slices.Concat(cartest.Header(1), bytes.Repeat(cartest.Section(cartest.Raw(nil)), 20_000))
	for name, c := range map[string]struct {
		file  []byte
		after int // sections it is cancelled
		more  int // may be visited still
	}{
		"small sections": {small, 3000, 1100},
		"big sections":   {cartest.V1(nil, cartest.BigBlocks(50, 300<<10, 1)), 1, 5},
	} {
		for _, verify := range []int{0, 2} {
			ctx, cancel := context.WithCancel(t.Context())
			visited := 0
			visit := func(*carfile.Section) error {
				if visited++; visited == c.after {
					cancel()
				}
				return nil
			}
			r := bytes.NewReader(c.file)
			require.ErrorIs(t, carfile.Scan(ctx, r, r.Size(), carfile.Options{Verify: verify}, visit), context.Canceled, name)
			require.Less(t, visited, c.after+c.more, name)
			visited = 0
			require.ErrorIs(t, carfile.Scan(ctx, r, r.Size(), carfile.Options{Verify: verify}, visit), context.Canceled, name)
			require.Zero(t, visited, name)
		}
	}
}

func TestVisitorsErrorComesBackAsItIs(t *testing.T) {
	file := cartest.V1(nil, cartest.Blocks(3, 10, 1))
	fail := func(*carfile.Section) error { return io.EOF }
	for _, verify := range []int{0, 2} {
		err := carfile.Scan(t.Context(), bytes.NewReader(file), int64(len(file)), carfile.Options{Verify: verify}, fail)
		require.True(t, err == io.EOF) //nolint:errorlint // as it is
	}
	s := carfile.NewStream(nil, fail)
	_, err := s.Write(file)
	require.True(t, err == io.EOF) //nolint:errorlint // as it is
	_, err = s.Write(file)
	require.True(t, err == io.EOF)        //nolint:errorlint // it stays
	require.True(t, s.Finish() == io.EOF) //nolint:errorlint // it stays
}

func TestProgressIsReportedOnceInAMebibyteAndAtTheEnd(t *testing.T) {
	for name, blocks := range map[string][]cartest.Block{
		"small": cartest.BigBlocks(10_000, 200, 1), "medium": cartest.BigBlocks(130, 20<<10, 1), "big": cartest.BigBlocks(2, 3<<20, 1),
		"none": nil,
	} {
		v1 := cartest.V1(nil, blocks)
		for container, file := range map[string][]byte{
			"": v1, "padded": cartest.Padded(v1, 5000), "v2": cartest.V2(v1, cartest.V2Options{DataPadding: 7, Index: []byte("not read")}),
		} {
			t.Run(name+" "+container, func(t *testing.T) {
				size := int64(len(file))
				var all []carfile.Progress
				progress := func(p carfile.Progress) { all = append(all, p) }
				check := func(err error) {
					require.NoError(t, err)
					require.LessOrEqual(t, int64(len(all)), size>>20+1)
					require.GreaterOrEqual(t, int64(len(all)), min(size>>20, int64(len(blocks)))*2/3+1)
					require.True(t, slices.IsSortedFunc(all, func(a, b carfile.Progress) int { return int(a.Blocks - b.Blocks) }))
					require.True(t, slices.IsSortedFunc(all, func(a, b carfile.Progress) int { return int(a.Bytes - b.Bytes) }))
					require.Equal(t, carfile.Progress{Bytes: size, Blocks: int64(len(blocks))}, all[len(all)-1])
					all = nil
				}
				for _, verify := range []int{0, 2} {
					o := carfile.Options{Progress: progress, Verify: verify}
					check(carfile.Scan(t.Context(), bytes.NewReader(file), size, o, nothing))
				}
				s := carfile.NewStream(progress, nothing)
				_, err := io.CopyBuffer(struct{ io.Writer }{s}, struct{ io.Reader }{bytes.NewReader(file)}, make([]byte, 64<<10))
				require.NoError(t, err)
				check(s.Finish())
			})
		}
	}
}

func TestProgressIsThePositionInTheFile(t *testing.T) {
	file := padded(cartest.V1(nil, cartest.BigBlocks(10_000, 300, 1)), 5000)
	var end, last int64
	progress := func(p carfile.Progress) {
		last = p.Bytes
		require.True(t, last == end || last == int64(len(file)))
	}
	visit := func(s *carfile.Section) error {
		end = 51 + 5000 + s.DataOffset + s.DataSize
		return nil
	}
	require.NoError(t, carfile.Scan(t.Context(), bytes.NewReader(file), int64(len(file)), carfile.Options{Progress: progress}, visit))
	require.Equal(t, int64(len(file)), last)
}

func TestPanickingProgressOrVisitGivesAnError(t *testing.T) {
	file := cartest.V1(nil, cartest.Blocks(3, 10, 1))
	var p *guard.PanicError
	for _, verify := range []int{0, 2} {
		boom := carfile.Options{Verify: verify, Progress: func(carfile.Progress) { panic("boom") }}
		require.ErrorAs(t, carfile.Scan(t.Context(), bytes.NewReader(file), int64(len(file)), boom, nothing), &p)
		boom.Progress = nil
		err := carfile.Scan(t.Context(), bytes.NewReader(file), int64(len(file)), boom, func(*carfile.Section) error { panic("boom") })
		require.ErrorAs(t, err, &p)
	}
	s := carfile.NewStream(nil, func(*carfile.Section) error { panic("boom") })
	_, err := s.Write(file)
	require.ErrorAs(t, err, &p)
	s = carfile.NewStream(func(carfile.Progress) { panic("boom") }, nothing)
	_, err = s.Write(file)
	require.NoError(t, err)
	require.ErrorAs(t, s.Finish(), &p)
}
