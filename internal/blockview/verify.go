package blockview

import (
	"crypto/sha256"
	"fmt"

	"github.com/ipfs/go-cid"
	"github.com/multiformats/go-multihash"

	"github.com/filecoin-project/dagstore/internal/carfile"
	"github.com/filecoin-project/dagstore/internal/fullindex"
	"github.com/filecoin-project/dagstore/internal/guard"
)

// checkHash computes the hash of data anew. The digest in c may be shorter than
// the function gives. The error is carfile.ErrHashMismatch, or says why there
// is no hash.
func checkHash(c cid.Cid, data []byte) error {
	code, digest, _, ok := fullindex.MultihashOf(c)
	if !ok {
		return errNoMultihash
	}
	if code == multihash.SHA2_256 && len(digest) <= sha256.Size {
		sum := sha256.Sum256(data)
		return compare(digest, sum[:len(digest)])
	}
	return checkOther(code, digest, data)
}

// checkOther asks go-multihash for the hash. Functions may be registered with it
// by others, and panic.
func checkOther(code uint64, digest string, data []byte) (err error) {
	defer guard.Recover(&err)
	sum, err := multihash.Sum(data, code, len(digest))
	if err != nil {
		return fmt.Errorf("hash function 0x%x: %w", code, err)
	}
	return compare(digest, sum[len(sum)-len(digest):])
}

func compare(digest string, sum []byte) error {
	if string(sum) != digest {
		return carfile.ErrHashMismatch
	}
	return nil
}
