package carfile

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
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
	// The length matters to functions that can give more than they do by default.
	b.hash, err = hashes.GetVariableHasher(s.Code, cmp.Or(len(s.Digest), -1))
	switch {
	case errors.Is(err, hashes.ErrLenTooLarge):
		return sectionError(ErrHashMismatch, s.Offset, "its digest of %d bytes is longer than its hash function gives", len(s.Digest))
	case err != nil:
		return sectionError(ErrUnknownHash, s.Offset, "%v", err)
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
