// Package testdata has small real CARs for the tests of programs that use the
// store. README.md says where they come from.
package testdata

import (
	"embed"

	"github.com/ipfs/go-cid"
)

// FS holds the files, under their plain names.
//
//go:embed *.car
var FS embed.FS

// The names of two files in FS that hold the same blocks, as a CARv1 and as a
// CARv2 with an index.
const (
	FSPathCARv1 = "sample-v1.car"
	FSPathCARv2 = "sample-wrapped-v2.car"
)

// CARv1 is the content of FSPathCARv1. Do not change it.
//
//go:embed sample-v1.car
var CARv1 []byte

// CARv2 is the content of FSPathCARv2. Do not change it.
//
//go:embed sample-wrapped-v2.car
var CARv2 []byte

// RootCID is the root of both.
var RootCID = cid.MustParse("bafy2bzaced4ueelaegfs5fqu4tzsh6ywbbpfk3cxppupmxfdhbpbhzawfw5oy")
