module github.com/filecoin-project/dagstore/cmd/dagstore

go 1.26.0

replace github.com/filecoin-project/dagstore => ../..

require (
	github.com/filecoin-project/dagstore v0.0.0-00010101000000-000000000000
	github.com/ipfs/go-ds-leveldb v0.5.3
	github.com/schollz/progressbar/v3 v3.19.1
	github.com/syndtr/goleveldb v1.0.1-0.20220721030215-126854af5e6d
)
