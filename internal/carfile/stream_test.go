package carfile_test

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/filecoin-project/dagstore/internal/carfile"
	"github.com/filecoin-project/dagstore/internal/cartest"
)

// requireStreamAgrees checks that a Stream that gets the file in these writes
// finds what Scan does. It may visit one section more, the one that is cut; and a
// CARv2 that Scan refuses because the file is too short for its header it visits
// as far as it goes.
func requireStreamAgrees(t testing.TB, file []byte, next func() int) {
	t.Helper()
	want, scanErr := sections(file)
	got, err := streamed(file, next)
	if scanErr == nil {
		require.NoError(t, err, "%x", file)
		require.Equal(t, want, got)
		return
	}
	var e *carfile.Error
	require.ErrorAs(t, err, &e, "%x: %v", file, scanErr)
	if errors.Is(scanErr, carfile.ErrMalformed) {
		require.ErrorIs(t, err, carfile.ErrMalformed)
	}
	require.GreaterOrEqual(t, len(got), len(want))
	require.True(t, slices.Equal(want, got[:len(want)]))
	require.ErrorAs(t, scanErr, &e)
	if e.Part == "section" {
		require.LessOrEqual(t, len(got), len(want)+1)
	}
}

func TestStreamFindsWhatScanFindsHoweverItIsWritten(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	long := []cartest.Block{cartest.Identity(make([]byte, 2043)), cartest.Identity(make([]byte, 1000)), cartest.Raw(make([]byte, 10_000))}
	for _, blocks := range [][]cartest.Block{
		nil, mixed(50, 100, 1), slices.Concat(long, mixed(20, 30, 2), long), slices.Repeat([]cartest.Block{cartest.Identity(nil)}, 300),
	} {
		for _, file := range containers(cartest.V1(nil, blocks)) {
			for range 5 {
				requireStreamAgrees(t, file, randomSplits(r))
			}
		}
	}
}

func TestStreamRefusesWhatScanRefuses(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	v1 := cartest.V1(nil, mixed(12, 20, 1))
	for _, whole := range [][]byte{v1, cartest.Padded(v1, 9), cartest.V2(v1, cartest.V2Options{DataPadding: 7, Index: []byte("not read")})} {
		for range 500 {
			requireStreamAgrees(t, mutated(r, whole), randomSplits(r))
		}
	}
}

func TestBadCarIsRefusedWhileItIsStillBeingWritten(t *testing.T) {
	good := cartest.V1(nil, cartest.Blocks(3, 100, 1))
	for name, file := range map[string][]byte{
		"bad section":            slices.Concat(good, []byte{1, 1}),
		"bad header":             cartest.Header(3),
		"header of 32 MiB":       slices.Concat(uvarint(32<<20+1), make([]byte, 100)),
		"CARv2 without data":     slices.Concat(padded(good, 0)[:11], make([]byte, 40)),
		"CARv2, section too big": cartest.V2(good, cartest.V2Options{DataSize: uint64(len(good) - 1)}),
	} {
		s := carfile.NewStream(nil, nothing)
		_, err := s.Write(slices.Concat(file, make([]byte, 51)))
		var e *carfile.Error
		require.ErrorAs(t, err, &e, name)
		n, again := s.Write([]byte("more"))
		require.Zero(t, n)
		require.Equal(t, err, again, "it stays")
		require.Equal(t, err, s.Finish(), "it stays")
	}
}

func TestWhatFollowsTheSectionsIsCountedButNotLookedAt(t *testing.T) {
	junk := bytes.Repeat([]byte{0xff}, 5<<20)
	blocks := cartest.Blocks(3, 100, 1)
	v1 := cartest.V1(nil, blocks)
	for _, file := range [][]byte{slices.Concat(cartest.Padded(v1, 1), junk), slices.Concat(padded(v1, 7), junk)} {
		var last carfile.Progress
		reports := 0
		s := carfile.NewStream(func(p carfile.Progress) { last, reports = p, reports+1 }, nothing)
		var n int64
		require.Less(t, allocated(func() {
			var err error
			n, err = io.Copy(s, bytes.NewReader(file))
			require.NoError(t, err)
			require.Equal(t, int64(len(file)), n)
			require.NoError(t, s.Finish())
		}), int64(1<<20), "nor kept")
		require.NoError(t, s.Finish(), "again")
		require.Equal(t, carfile.Progress{Bytes: n, Blocks: 3}, last)
		_, err := s.Write([]byte("more"))
		require.Error(t, err)
	}
}

func TestStreamKeepsNoBlocks(t *testing.T) {
	file := cartest.V1(nil, cartest.BigBlocks(3, 4<<20, 1))
	s := carfile.NewStream(nil, nothing)
	got := allocated(func() {
		for piece := range slices.Chunk(file, 100_000) {
			_, err := s.Write(piece)
			require.NoError(t, err)
		}
		require.NoError(t, s.Finish())
	})
	require.Less(t, got, int64(64<<10))
}

// FuzzStream: writes of any lengths, and windows of any size, find the same.
func FuzzStream(f *testing.F) {
	v1 := cartest.V1(nil, mixed(6, 20, 1))
	for _, file := range containers(v1) {
		f.Add(file, uint64(1))
	}
	f.Fuzz(func(t *testing.T, file []byte, seed uint64) {
		r := rand.New(rand.NewPCG(seed, 0))
		requireStreamAgrees(t, file, randomSplits(r))
		want, wantErr := sections(file)
		var got []found
		err := carfile.ScanWindows(t.Context(), bytes.NewReader(file), int64(len(file)), randomWindows(r, 100), 0, into(&got))
		require.Equal(t, want, got)
		require.Equal(t, wantErr, err)
		if err == nil {
			p, err := carfile.Find(bytes.NewReader(file), int64(len(file)))
			require.NoError(t, err)
			var head carfile.Head
			for _, s := range want {
				again, err := carfile.SectionAt(bytes.NewReader(file), p, uint64(s.Offset), &head)
				require.NoError(t, err)
				require.Equal(t, s, copied(&again))
			}
		}
	})
}
