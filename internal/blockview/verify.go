package blockview

import (
	"github.com/ipfs/go-cid"

	"github.com/filecoin-project/dagstore/internal/carfile"
	"github.com/filecoin-project/dagstore/internal/fullindex"
	"github.com/filecoin-project/dagstore/internal/guard"
)

// checkHash computes the hash of data anew. The digest in c may be shorter than
// the function gives. The error is carfile.ErrHashMismatch, or says why there
// is no hash.
func checkHash(c cid.Cid, data []byte) (err error) {
	defer guard.Recover(&err) // others may have registered the function

	code, digest, _, ok := fullindex.MultihashOf(c)
	if !ok {
		return errNoMultihash
	}
	return carfile.CheckBlock(code, digest, data)
}
