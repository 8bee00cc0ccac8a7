package inverted

import (
	"crypto/rand"
	"encoding/binary"
	"math/bits"

	"github.com/dchest/siphash"

	"github.com/filecoin-project/dagstore/internal/layer"
)

const keySize = 16

// A secret is what fingerprints are made with. Who does not know it cannot make
// multihashes with equal fingerprints, and by chance there are none.
type secret struct{ k0, k1 uint64 }

func newSecret() secret {
	var b [keySize]byte
	_, _ = rand.Read(b[:]) // it never fails
	return secretFrom(&b)
}

func secretFrom(b *[keySize]byte) secret {
	return secret{binary.LittleEndian.Uint64(b[:8]), binary.LittleEndian.Uint64(b[8:])}
}

func (s secret) append(dst []byte) []byte {
	dst = binary.LittleEndian.AppendUint64(dst, s.k0)
	return binary.LittleEndian.AppendUint64(dst, s.k1)
}

// fingerprint returns the fingerprint of all bytes of a multihash: equal digests of
// different hash functions differ.
func (s secret) fingerprint(mh []byte) layer.Fingerprint {
	hi, lo := siphash.Hash128(s.k0, s.k1, mh)
	return layer.Fingerprint{Hi: hi, Lo: lo}
}

// sortFingerprints sorts fps with the help of scratch, which has at least as many.
// It counts on them being uniform: it puts each where it belongs but for a few
// places, and then moves it there.
func sortFingerprints(fps, scratch []layer.Fingerprint) {
	if len(fps) < 2 {
		return
	}
	scratch = scratch[:len(fps)]
	shift := 64 - max(bits.Len(uint(len(fps)))-3, 1)
	starts := make([]uint32, 1<<(64-shift)+1)
	for _, f := range fps {
		starts[f.Hi>>shift+1]++
	}
	for i := 1; i < len(starts); i++ {
		starts[i] += starts[i-1]
	}
	copy(scratch, fps)
	for _, f := range scratch {
		at := &starts[f.Hi>>shift]
		fps[*at] = f
		*at++
	}
	insertionSort(fps)
}

func insertionSort(fps []layer.Fingerprint) {
	for i := 1; i < len(fps); i++ {
		f := fps[i]
		at := i
		for ; at > 0 && f.Compare(fps[at-1]) < 0; at-- {
			fps[at] = fps[at-1]
		}
		fps[at] = f
	}
}
