package carfile

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"

	"github.com/multiformats/go-multihash"
	hashes "github.com/multiformats/go-multihash/core"
)

// pieceSize is how much is read at once of a block that is in no window.
const pieceSize = 256 << 10

// A blockHash is what one goroutine of a verifier hashes with.
type blockHash struct {
	*verifier
	piece []byte // a buffer, made when it is needed
	sum   []byte // the same

	// The function used last, which nearly always is the next one, too.
	hash   hash.Hash
	code   uint64
	length int // of the digest
}

// compare checks that the block of a section of the job is what its CID says.
func (b *blockHash) compare(ctx context.Context, j job, s *Section) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if s.Code == multihash.IDENTITY && s.DataSize != int64(len(s.Digest)) {
		return sectionError(ErrHashMismatch, s.Offset, "%d bytes under an identity CID of %d", s.DataSize, len(s.Digest))
	}
	block := j.window[min(s.DataOffset-j.start, int64(len(j.window))):]
	block = block[:min(s.DataSize, int64(len(block)))]
	if s.Code == multihash.SHA2_256 && int64(len(block)) == s.DataSize {
		sum := sha256.Sum256(block)
		return matches(s, sum[:])
	}
	if err := b.setFunction(s); err != nil {
		return err
	}
	_, _ = b.hash.Write(block) // a hash never fails
	if err := b.writeRest(ctx, s, int64(len(block))); err != nil {
		return err
	}
	b.sum = b.hash.Sum(b.sum[:0])
	return matches(s, b.sum)
}

// matches checks the digest of a section. It may be cut: then it is compared as
// far as it goes, as go-multihash does.
func matches(s *Section, sum []byte) error {
	if !bytes.HasPrefix(sum, s.Digest) {
		return sectionError(ErrHashMismatch, s.Offset, "its block does not match its hash")
	}
	return nil
}

// setFunction sets hash to the hash function of a section.
func (b *blockHash) setFunction(s *Section) error {
	if b.hash != nil && b.code == s.Code && b.length == len(s.Digest) {
		b.hash.Reset()
		return nil
	}
	b.code, b.length = s.Code, len(s.Digest)
	if s.Code == multihash.SHA2_256 {
		b.hash = sha256.New()
		return nil
	}
	var err error
	if b.hash, err = newHash(s.Code, len(s.Digest)); err != nil {
		return &Error{Part: "section", Offset: s.Offset, Reason: "its block is not verified", Err: err}
	}
	return nil
}

// newHash returns a hash function for digests of a length. The error wraps
// ErrUnknownHash, or ErrHashMismatch if its digests are never so long.
func newHash(code uint64, length int) (hash.Hash, error) {
	// The length matters to functions that can give more than they do by default.
	h, err := hashes.GetVariableHasher(code, cmp.Or(length, -1))
	switch {
	case errors.Is(err, hashes.ErrLenTooLarge):
		return nil, fmt.Errorf("%w: hash function 0x%x gives no digest of %d bytes", ErrHashMismatch, code, length)
	case err != nil:
		return nil, fmt.Errorf("%w 0x%x: %w", ErrUnknownHash, code, err)
	}
	return h, nil
}

// CheckBlock compares a block with the multihash of its CID, as [Options.Verify]
// does. The error wraps ErrHashMismatch or ErrUnknownHash.
func CheckBlock(code uint64, digest string, block []byte) error {
	if code == multihash.SHA2_256 {
		sum := sha256.Sum256(block)
		return checkSum(digest, sum[:])
	}
	h, err := newHash(code, len(digest))
	if err != nil {
		return err
	}
	_, _ = h.Write(block) // a hash never fails
	if code == multihash.IDENTITY && len(block) != len(digest) {
		return ErrHashMismatch
	}
	return checkSum(digest, h.Sum(nil))
}

// checkSum compares a digest, which may be cut, as far as it goes.
func checkSum(digest string, sum []byte) error {
	if len(digest) > len(sum) || string(sum[:len(digest)]) != digest {
		return ErrHashMismatch
	}
	return nil
}

// writeRest reads and hashes what comes in a block after its first bytes. It gives
// up when an error is known of a section before this one.
func (b *blockHash) writeRest(ctx context.Context, s *Section, from int64) error {
	if from < s.DataSize && b.piece == nil {
		b.piece = make([]byte, pieceSize)
	}
	for from < s.DataSize && b.first.Load() > s.Offset {
		if err := ctx.Err(); err != nil {
			return err
		}
		piece := b.piece[:min(pieceSize, s.DataSize-from)]
		if err := readSection(b.r, piece, b.payload, s.DataOffset+from, s.Offset); err != nil {
			return err
		}
		_, _ = b.hash.Write(piece)
		from += int64(len(piece))
	}
	return nil
}
