package indextest

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"github.com/ipfs/go-cid"
	carindex "github.com/ipld/go-car/v2/index"
	"github.com/multiformats/go-multicodec"
	"github.com/multiformats/go-multihash"

	"github.com/filecoin-project/dagstore/shard"
)

// hostileKeys are keys that are all different, and that something on the way to
// a disk or a datastore may mistake for one another or for a path.
func hostileKeys() []shard.Key {
	names := []string{
		"plain", "bafybeigdyrzt5sfp7udm7hu76uh7y26nf3efuylqabf3oclgtqy55fbzdi",
		"a/b", "a//b", "/a/b", "a/b/", "a/./b", "p/../a/b", "a\\b",
		".", "..", "../evil", "/etc/passwd", "/", "//", ".version", ".tmp-x",
		"%", "%2F", "%%", "a%2Fb", "%sha256-" + strings.Repeat("0", 64),
		"a.b", "a..b", "a.full.idx", "a b", " ", "~", "-", "con", "nul\x00", "nul", "new\nline",
		"\xff\xfe", "\xff", "\ufffd", "Schlüssel", "Schlu\u0308ssel", "鍵", "🔑",
		strings.Repeat("k", 300), strings.Repeat("k", 301), strings.Repeat("/", 300),
		strings.Repeat("n", 5000), strings.Repeat("n", 4999) + "m", strings.Repeat("\x00", 5000),
	}
	keys := make([]shard.Key, len(names))
	for i, n := range names {
		keys[i] = shard.KeyFromString(n)
	}
	return keys
}

// quoted returns a key for messages.
func quoted(key shard.Key) string {
	s := key.String()
	if len(s) > 40 {
		return fmt.Sprintf("%q... (%d bytes)", s[:40], len(s))
	}
	return fmt.Sprintf("%q", s)
}

func sum(t testing.TB, data string) multihash.Multihash {
	t.Helper()
	mh, err := multihash.Sum([]byte(data), multihash.SHA2_256, -1)
	check(t, err)
	return mh
}

func encode(t testing.TB, digest string, code uint64) multihash.Multihash {
	t.Helper()
	mh, err := multihash.Encode([]byte(digest), code)
	check(t, err)
	return mh
}

// hostileMultihashes are different multihashes that look alike to code that
// takes their bytes for paths (defect 12).
func hostileMultihashes(t testing.TB) []multihash.Multihash {
	victim := sum(t, "victim")
	sha := func(digest string) multihash.Multihash { return encode(t, digest, multihash.SHA2_256) }
	id := func(data string) multihash.Multihash { return encode(t, data, multihash.IDENTITY) }
	return []multihash.Multihash{
		victim,
		id("/../" + string(victim)), id("/../../" + string(victim)), id("/" + string(victim)),
		sha("ABCDEFGHIJKLMNOP//QRSTUVWXYZ0123"), sha("ABCDEFGHIJKLMNOP/QRSTUVWXYZ0123/"),
		sha("ABCDEFGHIJKLMNOPQRSTUVWXYZ01234/"), sha("/BCDEFGHIJKLMNOPQRSTUVWXYZ012345"),
		sha(strings.Repeat("\x00", 32)), sha(strings.Repeat("\xff", 32)),
		id(""), id("/"), id("//"), id("."), id(".."), id("a/b"), id("a//b"), id("a/b/"), id("\x00"),
		id(strings.Repeat("x", 300)), id(strings.Repeat("x", 299) + "y"), id(strings.Repeat("/", 5000)),
		id(strings.Repeat("x", 126)), id(strings.Repeat("x", 127)),
	}
}

// makeIndex returns an index with n records that are different for each seed.
func makeIndex(t testing.TB, seed string, n int) carindex.Index {
	t.Helper()
	idx, err := carindex.New(multicodec.CarMultihashIndexSorted)
	check(t, err)
	recs := make([]carindex.Record, n)
	for i := range recs {
		c := cid.NewCidV1(cid.Raw, sum(t, fmt.Sprint(seed, "/", i)))
		recs[i] = carindex.Record{Cid: c, Offset: uint64(i)*100 + 59}
	}
	check(t, idx.Load(recs))
	return idx
}

// serialised returns the bytes of an index.
func serialised(t testing.TB, idx carindex.Index) []byte {
	t.Helper()
	if idx == nil {
		t.Fatal("the index is nil")
	}
	var b bytes.Buffer
	_, err := carindex.WriteTo(idx, &b)
	check(t, err)
	return b.Bytes()
}

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
