package inverted

import (
	"fmt"
	"hash/crc32"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/filecoin-project/dagstore/internal/layer"
)

func checksumOf(text string) string {
	return fmt.Sprintf("%08x\n", crc32.Checksum([]byte(text), castagnoli))
}

func TestFingerprintsAreSipHashAsItsAuthorsPublishedIt(t *testing.T) {
	var key [keySize]byte
	for i := range key {
		key[i] = byte(i)
	}
	// vectors_sip128 of the reference implementation: nothing, and bytes 0 to 14.
	s := secretFrom(&key)
	require.Equal(t, layer.Fingerprint{Hi: 0xe6a825ba047f81a3, Lo: 0x930255c71472f66d}, s.fingerprint(nil))
	require.Equal(t, key[:], s.append(nil))
}

func TestSortingSorts(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	for _, n := range []int{0, 1, 2, 3, 7, 100, 5000} {
		for name, next := range map[string]func() layer.Fingerprint{
			"uniform": func() layer.Fingerprint { return layer.Fingerprint{Hi: random.Uint64(), Lo: random.Uint64()} },
			"few":     func() layer.Fingerprint { return layer.Fingerprint{Hi: random.Uint64N(2) << 63, Lo: random.Uint64N(3)} },
			"equal":   func() layer.Fingerprint { return layer.Fingerprint{Hi: 1, Lo: 1} },
		} {
			fps := make([]layer.Fingerprint, n)
			for i := range fps {
				fps[i] = next()
			}
			want := slices.Clone(fps)
			slices.SortFunc(want, layer.Fingerprint.Compare)
			sortFingerprints(fps, make([]layer.Fingerprint, n))
			require.Equal(t, want, fps, "%d %s", n, name)
		}
	}
}
