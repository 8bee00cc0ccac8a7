package compat

import "github.com/filecoin-project/dagstore"

// A file is one that another project ships.
type file struct {
	module, name string
	sum          string // SHA-256
	blocks       int    // repeated ones included
	what         string
}

// cars are good CARs: CARv1 unless they are said to be CARv2, and all CIDs are
// version 1 unless they are said to be CIDv0.
var cars = []file{
	{goCar, "testdata/sample-v1.car", "a94c376598d06d2cf4061079c8b25f7d544a94766da710182c839f754951a730", 1049, "part of a chain; 1043 blake2b-256, 6 identity"},
	{goCar, "testdata/sample-v1-noidentity.car", "3e619d6a128e5dd760f9f5908b3eb38022dc36d88573f82359c0913c2e583a10", 1043, "the same without identity CIDs"},
	{goCar, "testdata/sample-wrapped-v2.car", "0e41236279febfd398ef836ea65f99a2c42596c212563304d2273ca852047ad9", 1049, "CARv2, index 0x0401 that lacks the identity CIDs"},
	{goCar, "testdata/sample-v2-indexless.car", "4c1b83a2160343b08e40e5e2cb5d85a57424e491f04d102d2490ea6c64dc660f", 1049, "CARv2 without an index"},
	{goCar, "testdata/sample-rw-bs-v2.car", "e38340d98291f9373eb39093490000585087c3e98e60e07513359b9e30502755", 3, "CARv2, data padding, index 0x0401; 3 roots; sha2-256"},
	{goCar, "testdata/sample-unixfs-v2.car", "d853bb976818df5ba74c14d9d0c391a81b04177e85bb3c429a7b9f6e7ff66e6b", 3, "CARv2, index 0x0401; UnixFS; sha2-256"},
	{goCar, "testdata/sample-v1-with-zero-len-section.car", "78660600384938581a990055b6dfa28145282dd6799428fcde1a1caaf16c5f71", 1049, "the first, zeros behind it"},
	{goCar, "testdata/sample-v1-with-zero-len-section2.car", "ad45335a1ea44536b87ca73e4f0fc1ad53b3eeeb0535d6c1e8fbef3f51ae1e3f", 20, "zeros behind it; UnixFS; blake2b-256"},
	{lotus, "build/genesis/mainnet.car", "17051d2099de3f02394d67e7fd213bfde81e71cbd7be7028ee9a18fbd308f2e4", 1222, "genesis of Filecoin; 1211 blake2b-256, 10 identity, 1 sha2-256"},
	{lotus, "build/genesis/calibnet.car", "1e1564dbfc6f0311b472166316d3480e05eb1371d095577622002077161849b8", 1207, "genesis; 1196 blake2b-256, 10 identity, 1 sha2-256"},
	{lotus, "build/genesis/interopnet.car", "75a586a241a69f7d3ae2b1aa729fe825d832c72a3a2e7d64b0e9f312dbf68d06", 13757, "genesis; 13746 blake2b-256, 10 identity, 1 sha2-256"},
	{lotus, "build/genesis/butterflynet.car", "42c52f4c774bd9fbb7b6bf9a5b6519fceec38ad43ca5c8c62e5a7d3f6f0b0790", 14021, "genesis, blocks to 1.5 MB; 14020 blake2b-256, 1 sha2-256"},
	{lotus, "itests/fixtures/adl_test.car", "e44135825f0a3780d8e20285dfcd0d83f14aaf85c8e06a4a88282f4a983e1eab", 6, "UnixFS; sha2-256"},
	{lotus, "markets/dagstore/fixtures/sample-rw-bs-v2.car", "a0d7b2581d72d0815a16ea8edfc484acb75d56d9c43f21facb0deda821f17c9d", 3, "CARv2, data padding, index 0x0400; 3 roots; sha2-256"},
	{kubo, "test/cli/fixtures/TestGatewayHAMTDirectory.car", "18fd71a8e1f8839b0f55705c0bfffdca6cd56540a0941024d802fc3c8ca810ae", 967, "part of a sharded directory; sha2-256"},
	{kubo, "test/cli/fixtures/TestGatewayMultiRange.car", "dfa3f46503e1d81ae2ea3c918ec8e21275ea0054d51c93ece21be1b33c9d967d", 20, "blocks of 256 KiB; sha2-256"},
	{kubo, "test/cli/fixtures/TestDagStat.car", "d8c2254684c07b80e54b4f8279f9c612f12c56af12cb26f1e1ac835475c9df33", 4, "DAG-CBOR; sha2-256"},
	{kubo, "test/cli/fixtures/TestDagStatCARv2.car", "b48d01ac961094cbac84814d3d0cf61c7478ce39076334ccba4e4d34ee71aa17", 4, "the same as CARv2, index 0x0401"},
	{kubo, "test/cli/fixtures/TestName.car", "47f2ba5c2115f114cfda8ca69de9e2d951c7d1bcce914561877dca5f57bbbc35", 4, "DAG-CBOR, DAG-PB, raw; sha2-256"},
	{kubo, "test/sharness/t0054-dag-car-import-export-data/partial-dag-scope-entity.car", "387cd026765804b2c53e02d21262a31dc16dcbf927065e276a37ba65bbff5903", 1, "one block of a DAG; CIDv0"},
	{kubo, "test/sharness/t0109-gateway-web-_redirects-data/redirects.car", "c58bf144c59eb17b52085fdebce164e5e3e2c995433f2f95534ea21abb4647a6", 32, "UnixFS; CIDv0"},
	{kubo, "test/sharness/t0114-gateway-subdomains/fixtures.car", "ad171ab9c87078fb155e44bb5be461beb13849efa233edffacca7c18b13d04c9", 11, "CIDv0 and v1, one block under both; 10 sha2-256, 1 sha2-512"},
	{kubo, "test/sharness/t0115-gateway-dir-listing/fixtures.car", "596430a2377a6656b4191a246e627c15ee3607cbaab95ed9a809624c2d842ff7", 10, "UnixFS; sha2-256"},
	{kubo, "test/sharness/t0116-gateway-cache/fixtures.car", "5b35b88e693004879123c522e0fac1250b80a5f439434591bb5e7a90959c9761", 5, "UnixFS; sha2-256"},
	{kubo, "test/sharness/t0400-api-no-gateway/fixtures.car", "7e2f7ddad50c6dc19c386d44b0da3abf17e273264a976fadffb77a637bf40a8d", 1, "UnixFS; CIDv0"},
	{indigo, "testing/testdata/fakermaker.repo.car", "eeaab399568b705a56dcbbc2e9c853bd8b93226909f828043330b3bf6ae450e8", 690, "repository of atproto, 8 blocks twice; sha2-256"},
	{indigo, "testing/testdata/paul_staging.repo.car", "378dd14164fb41154306f7ba93e639bf44f6bbd0be6e743b2fdaba36824aabd9", 458, "repository of atproto, 6 blocks twice; sha2-256"},
	{indigo, "testing/testdata/greenground.repo.car", "d90e22ed47ee63851fd999d5a6bfaadae30bc64393fa70430a391231bed045a5", 4, "repository of atproto; sha2-256"},
	{indigo, "testing/testdata/repo_slice.car", "d23fed9d9b009af43e9db2746d30af5a1c7b36052567af845971629b8a4fb796", 5, "part of a repository; sha2-256"},
	{indigo, "testing/testdata/bafyreieovfuizojpw3zresz7sx3nk4trm2by23pt5rxbey3jme4uo5ogiu.car", "905934ec56f383b2d9d74a540fe97945f8dc6044efecbda00470ade25fc267b5", 10, "repository of atproto, 1 block twice; sha2-256"},
	{boxo, "gateway/testdata/headers-test.car", "9893a123ff74bed673e32a6c0d60d003baedc9e2105ca9ff7fba3c1302bb1463", 249, "UnixFS and DAG-CBOR; sha2-256"},
	{boxo, "gateway/testdata/directory-with-multilayer-hamt-and-multiblock-files.car", "47aec090e067c8f56edca3acf76ef7ce5da46cbbe3edd3b069ff560bbe064563", 18, "UnixFS; sha2-256"},
	{boxo, "gateway/testdata/fixtures.car", "38aebd0246f1e0a1729886fffdb70ddb1e8b8d401a7262bbd106cd571a771647", 7, "UnixFS and DAG-CBOR; sha2-256"},
	{boxo, "gateway/testdata/unixfs-dir-with-mode-mtime.car", "0feff127e0149a685df40ebf5601595319094f6eb517f8e03d9c7eaef5155cc7", 10, "UnixFS; sha2-256"},
	{boxo, "gateway/testdata/dir-special-chars.car", "e319583add9a65456f87d1962f476019add2d03c61f335a2a7a611677c6a26a5", 6, "UnixFS; sha2-256"},
	{boxo, "gateway/testdata/ipns-hostname-redirects.car", "d7c54320acb7a927f3f84b7288e6b3f2941a4856db938c3e188c47086a4f877e", 3, "an empty block; sha2-256"},
	{boxo, "gateway/testdata/redirects-query-params.car", "4f01e08dd351fa08ef50f0236ddf3d0580b2d65f5680a5efbf878f0f3bdc30f6", 3, "UnixFS; sha2-256"},
	{boxo, "gateway/testdata/redirects-spa.car", "9399ac41a859f83dda14b08910bb32121401eb6f40927e619f67186ec6c2ce7f", 3, "UnixFS; sha2-256"},
	{boxo, "gateway/testdata/path_gateway_dag/dag-cbor-traversal.car", "1aadf249804397d3baa1e5633bcbec09d1a9a8a7e912f127b79424a56a21c271", 3, "DAG-CBOR; sha2-256"},
	{unixfsnode, "hamt/fixtures/wikipedia-cryptographic-hash-function.car", "7e0b7d764b52ad35f4264ae7e67f0e39522e0f873c7ed27e94f71bea723b5bed", 5, "sharded directory; sha2-256"},
	{unixfsnode, "file/fixtures/QmT78zSuBmuS4z925WZfrqQ1qHaJ56DQaTfyMUF7F8ff5o.car", "976adf3c2650c6581ec567cac8959f691c9eb9ce722e7ce8e1edbfb19c984534", 1, "UnixFS; CIDv0"},
	{unixfsnode, "file/fixtures/QmT8EC9sJq63SkDZ1mWLbWWyVV66PuqyHWpKkH4pcVyY4H.car", "0ecb66db01180d5d91f04e66aa0242b4ce4dbd02a8a72963834dc81627acaa13", 2, "UnixFS; CIDv0"},
	{indexProvider, "testdata/sample-v1-2.car", "a74102bb8e3fc6642aa4ae7335acb6fca55bf4bfc57e52fa1d0956ffbae2098a", 20, "UnixFS, CIDv0 and v1; sha2-256"},
	{indexProvider, "testdata/sample-wrapped-v2-2.car", "9fc6a97b7db55df2d9e31fb7fbd3d12171f2e984b94535a7ae9c79a7eea9b7cf", 20, "the same as CARv2, index 0x0401"},
	{indexProvider, "testdata/sample-wrapped-v2.car", "4c1f2055a351a2abf69af9c9467c95df5b2487c1ec6378552e83202be132b146", 1049, "go-car's first as CARv2, index 0x0400"},
	{dataSegment, "datasegment/testdata/sample_aggregate/cat.png.car", "387845a76a5a41e437dcddee3fe0d98ec30e987b1adc2476ac7e2698821aacee", 1, "one raw block of 392 KB; blake2b-256"},
	{dataSegment, "datasegment/testdata/sample_aggregate/Verifiable Data Aggregation.png.car", "cd320de5cf02025d49c773d11516e28c103fb0a3cb90e66aab4a3e2db1bc0e13", 1, "one raw block of 188 KB; blake2b-256"},
}

// refused are bad on purpose, each with the error for it.
var refused = []struct {
	file
	want error
}{
	{file{goCar, "testdata/sample-v1-tailing-corrupt-section.car", "7a7e805e797cd141ec607dd6c91dc07ff7f2d4888f720e0eda120158a6765b4a", 0, "ends in its last block; go-car indexes it"}, dagstore.ErrTruncatedCAR},
	{file{goCar, "testdata/sample-v2-corrupt-data-and-index.car", "dafe2fbd731ceffcce09239b578badd12299e1ed2413e87b8a8529dd5fa9f02e", 0, "data offset beyond the end"}, dagstore.ErrTruncatedCAR},
	{file{goCar, "testdata/sample-corrupt-pragma.car", "8a93b271a2d999151e659d0362993e46c0445f725344a8600729425aeb82ff41", 0, "ends in its header"}, dagstore.ErrTruncatedCAR},
	{file{goCar, "testdata/sample-rootless-v42.car", "77c117d7f164aa2652acc8aa9a846783a15a2a80d87aa27d26b9056fe1ce011b", 0, "version 42"}, dagstore.ErrMalformedCAR},
}

// indices are full indices without a CAR.
var indices = []file{
	{goCar, "testdata/sample-index.carindex", "3afd26abaaab6a0827f144841aa3dec9370a7f9e6fa3abcea93f399d81a1df17", 0, "0x0400"},
	{goCar, "testdata/sample-multihash-index-sorted.carindex", "f6422715c54a961982336e148dac677b22494c460711bde0e356a64e0d8fb273", 0, "0x0401"},
}
