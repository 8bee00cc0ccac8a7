package carfile

import "github.com/multiformats/go-varint"

// What is refused. Lengths are checked before anything of that length is
// allocated, so that a scan holds at most one window and one header.
//
//	what                               limit                        error
//	CARv1 header                       1 byte to 32 MiB             ErrMalformed
//	CID                                2 KiB, identity CIDs too     ErrMalformed
//	section, block                     none but the payload         ErrTruncated
//	number of sections                 none
//	varints                            63 bit, shortest form        ErrMalformed
//	CARv2 data offset                  51 or more, in the file      ErrMalformed, ErrTruncated
//	CARv2 data size                    1 or more, in the file       ErrMalformed, ErrTruncated
//
// Whatever is accepted, go-car indexes with the same records, if it is given the
// payload, ZeroLengthSectionAsEOF and StoreIdentityCIDs. What go-car indexes and
// this package refuses is:
//
//   - A section that ends behind the payload: a CAR that was cut in its last
//     block, or a CARv2 whose data size cuts a section, or the header. ErrTruncated.
//   - A section shorter than its CID, so that sections overlap. ErrMalformed.
//   - A CARv2 whose data does not fit into the file. ErrTruncated.
//   - A CARv2 whose pragma is not the 11 bytes that the specification prints but
//     another encoding of version 2. ErrMalformed.
//   - A file shorter than the size that was given for it. ErrTruncated.
const (
	// MaxHeader is the greatest length in bytes of a CARv1 header. It is go-car's.
	MaxHeader = 32 << 20
	// MaxCid is the greatest length in bytes of a CID. A longer one, which can
	// only be an identity CID or nonsense, makes the CAR malformed. It is go-car's.
	MaxCid = 2 << 10
	// MaxHead is the greatest length in bytes of what lies before a block in a
	// section: its length and its CID.
	MaxHead = maxVarint + MaxCid

	maxVarint = varint.MaxLenUvarint63
)
