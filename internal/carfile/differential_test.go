package carfile_test

import (
	"bytes"
	"maps"
	"math/rand/v2"
	"regexp"
	"slices"
	"testing"

	"github.com/ipfs/go-cid"
	"github.com/multiformats/go-multihash"
	"github.com/stretchr/testify/require"

	"github.com/filecoin-project/dagstore/internal/carfile"
	"github.com/filecoin-project/dagstore/internal/cartest"
)

// stricter has, for each point of the list in limits.go, the errors of what is
// refused although go-car may accept it.
var stricter = map[string]*regexp.Regexp{
	"a section ends behind the payload": regexp.MustCompile(
		`^[a-z]+ car: (?:unexpected EOF: )?section at offset \d+: (\d+ bytes long, only \d+ are left|the payload ends in its length)$`),
	"a section is shorter than its CID": regexp.MustCompile(
		`^[a-z]+ car: (?:unexpected EOF: )?section at offset \d+: no CID in its \d+ bytes: it is shorter than its CID$`),
	"the data of a CARv2 is not in the file": regexp.MustCompile(
		`^[a-z]+ car: (?:unexpected EOF: )?header at offset 11: \d+ bytes of data at offset \d+ do not fit into the file of \d+ bytes$`),
	"the data of a CARv2 is cut in its header": regexp.MustCompile(
		`^[a-z]+ car: (?:unexpected EOF: )?header at offset \d+: (\d+ bytes long, only -?\d+ are left|no length)$`),
	"the pragma has another encoding": regexp.MustCompile(
		`^[a-z]+ car: (?:unexpected EOF: )?header at offset 0: version 2 where 1 is expected$`),
}

// requireGoCarAgrees checks that go-car finds the same in a file that is accepted.
// If one is refused that go-car accepts, it returns why.
func requireGoCarAgrees(t testing.TB, file []byte) (accepted bool, why string) {
	t.Helper()
	got, err := sections(file)
	if err != nil {
		if _, goCarErr := goCar(file); goCarErr != nil {
			return false, ""
		}
		for why, is := range stricter {
			if is.MatchString(err.Error()) {
				return false, why
			}
		}
		require.NoError(t, err, "refused for a reason that limits.go does not tell, but go-car accepts %x", file)
	}
	p, err := carfile.Locate(bytes.NewReader(file), int64(len(file)))
	require.NoError(t, err)
	want, err := goCar(file[p.Offset:][:p.Size])
	require.NoError(t, err, "accepted, but go-car refuses %x", file)
	require.Equal(t, want, records(got), "%x", file)
	return true, ""
}

// randomBlock returns a block of any kind, often a copy of one before.
func randomBlock(r *rand.Rand, before []cartest.Block) cartest.Block {
	data := cartest.Bytes(r, r.IntN(60))
	codecs := []uint64{0, cid.Raw, cid.DagCBOR, 0x300, 0x12345, 0x300003, 1<<63 - 1}
	codec := codecs[r.IntN(len(codecs))]
	hash := []uint64{1, 0x12, 0x7f, 0x80, 0xb220, 0x3fff, 0x4000, 0x1fffff, 0x200000, 0xfffffff, 1<<63 - 1}
	switch r.IntN(6) {
	case 0:
		return cartest.V0(data)
	case 1:
		return withCodec(codec, cartest.Identity(data))
	case 2:
		if len(before) > 0 {
			return withCodec(codec, before[r.IntN(len(before))])
		}
	case 3:
		return withCodec(codec, cartest.Hashed(data, multihash.SHA2_512, r.IntN(65)))
	case 4:
		return cartest.Block{Cid: cartest.Cid(hash[r.IntN(len(hash))], cartest.Bytes(r, r.IntN(129))), Data: data}
	}
	return cartest.Raw(data)
}

func TestCarsOfAllKindsAreReadAsGoCarReadsThem(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	for range 50 {
		var blocks []cartest.Block
		for range r.IntN(150) {
			blocks = append(blocks, randomBlock(r, blocks))
		}
		for name, file := range containers(cartest.V1(nil, blocks)) {
			all, err := sections(file)
			require.NoError(t, err, name)
			require.Len(t, all, len(blocks), name)
			requireGoCarAgrees(t, file)
		}
	}
}

// mutated returns a copy of file with some bytes changed, cut out or repeated.
func mutated(r *rand.Rand, file []byte) []byte {
	file = slices.Clone(file)
	for range 1 + r.IntN(3) {
		if len(file) == 0 {
			break
		}
		at := r.IntN(len(file))
		to := min(len(file), at+1+r.IntN(8))
		switch r.IntN(5) {
		case 0:
			file[at] ^= 1 << r.IntN(8)
		case 1:
			file[at] = byte(r.Uint32())
		case 2:
			file = slices.Delete(file, at, to)
		case 3:
			file = slices.Insert(file, at, slices.Clone(file[at:to])...)
		case 4:
			file = file[:at]
		}
	}
	return file
}

// TestDamagedCarIsRefusedOrReadAsGoCarReadsIt: what v0.7 indexed right keeps its
// blocks, and nothing is found that is not there.
func TestDamagedCarIsRefusedOrReadAsGoCarReadsIt(t *testing.T) {
	v1 := cartest.V1(nil, mixed(12, 20, 1))
	copies := cartest.V1(nil, slices.Concat(mixed(4, 10, 2), mixed(4, 10, 2)))
	small := []cartest.Block{{Cid: cartest.Cid(1, nil)}, {Cid: cartest.Cid(0x7f, []byte{1})}, cartest.Identity(nil)}
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	refused := map[string]int{}
	accepted, tried := 0, 0
	for _, whole := range [][]byte{
		v1, copies, cartest.Padded(v1, 9), cartest.V1(nil, slices.Concat(small, small, small)),
		cartest.V2(v1, cartest.V2Options{DataPadding: 7, Index: []byte("not read")}),
	} {
		good, _ := requireGoCarAgrees(t, whole)
		require.True(t, good)
		for range 500 {
			tried++
			good, why := requireGoCarAgrees(t, mutated(r, whole))
			if good {
				accepted++
			} else if why != "" {
				refused[why]++
			}
		}
	}
	t.Logf("accepted %d of %d, refused but accepted by go-car: %v", accepted, tried, refused)
	require.Greater(t, accepted, tried/20)
	require.Less(t, accepted, tried)
}

// TestListOfWhatIsRefusedIsNoLongerThanItMustBe has an example for each point
// of the list in limits.go, which go-car accepts.
func TestListOfWhatIsRefusedIsNoLongerThanItMustBe(t *testing.T) {
	v1 := cartest.V1(nil, cartest.Blocks(3, 100, 1))
	header := len(cartest.Header(1, cartest.Blocks(1, 100, 1)[0].Cid))
	size := uint64(len(v1))
	odd := slices.Concat([]byte("\x0b\xa1\x67version\x18\x02"), cartest.V2(v1, cartest.V2Options{DataOffset: 52})[11:])
	examples := map[string][]byte{
		"a section ends behind the payload":        v1[:len(v1)-1],
		"a section is shorter than its CID":        slices.Concat(cartest.Header(1), []byte{3, 1, 0x55, 0, 0}),
		"the data of a CARv2 is not in the file":   cartest.V2(v1, cartest.V2Options{DataSize: size + 1}),
		"the data of a CARv2 is cut in its header": cartest.V2(v1, cartest.V2Options{DataSize: uint64(header) - 1}),
		"the pragma has another encoding":          odd,
	}
	for why, file := range examples {
		accepted, found := requireGoCarAgrees(t, file)
		require.False(t, accepted, why)
		require.Equal(t, why, found)
	}
	require.Equal(t, slices.Sorted(maps.Keys(stricter)), slices.Sorted(maps.Keys(examples)))
}

func FuzzGoCarAgrees(f *testing.F) {
	v1 := cartest.V1(nil, mixed(6, 20, 1))
	f.Add(v1)
	f.Add(padded(cartest.Padded(v1, 3), 7))
	f.Fuzz(func(t *testing.T, file []byte) { requireGoCarAgrees(t, file) })
}
