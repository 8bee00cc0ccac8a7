package keyname

import (
	"path/filepath"
	"strings"
	"testing"

	ds "github.com/ipfs/go-datastore"
	"github.com/stretchr/testify/require"
)

const sha = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

func TestSafeKeysKeepTheNameThatV07GaveThem(t *testing.T) {
	for _, key := range []string{
		"a", "bafkreigh2akiscaildcqabsyg3dfr6chu3fgpregiymsck7e7aqa4s52zy", "QmZq", "a b", "a:b", "a%2Fb",
		"...", "..a", "a..", "-", "~", "ключ", "a\u0085b", "sha256-" + sha, "a?b#c", strings.Repeat("x", 300),
	} {
		require.Equal(t, key, Escape(key))
		back, err := Unescape(key)
		require.NoError(t, err)
		require.Equal(t, key, back)
	}
}

func TestUnsafeKeysAreEscaped(t *testing.T) {
	for key, name := range map[string]string{
		"":               "%",
		".":              "%.",
		"..":             "%..",
		"%":              "%%25",
		"%.":             "%%25.",
		"%41":            "%%2541",
		"a/b":            "%a%2Fb",
		"../../x":        "%..%2F..%2Fx",
		`a\b`:            "%a%5Cb",
		"a\x00":          "%a%00",
		"a\nb c":         "%a%0Ab%20c",
		"\x7f":           "%%7F",
		"\xff":           "%%FF",
		"%sha256-" + sha: "%%25sha256-" + sha,
	} {
		require.Equal(t, name, Escape(key))
		back, err := Unescape(name)
		require.NoError(t, err)
		require.Equal(t, key, back)
	}
}

func TestUnescapeRefusesWhatEscapeDoesNotReturn(t *testing.T) {
	for _, name := range []string{
		"%a", "%a%2fb", "%a%2", "%a%", "%a%2G", "%%41%2F", "%a/b", "a/b", "a\x00", "%sha256-" + sha, "%é%2F", "%a b%2F",
	} {
		_, err := Unescape(name)
		require.Error(t, err, "%q", name)
	}
}

// Defect 11: long keys failed when their files were made.
func TestLongKeysFitAFileName(t *testing.T) {
	require.Equal(t, strings.Repeat("x", MaxFile), File(strings.Repeat("x", MaxFile)))
	for _, key := range []string{strings.Repeat("x", MaxFile+1), strings.Repeat("/", MaxFile/3+1)} {
		require.True(t, IsDigest(File(key)))
	}
	require.NotEqual(t, File(strings.Repeat("x", 300)), File(strings.Repeat("x", 301)))
	for _, name := range []string{"", "%", "%sha256-", "sha256-" + sha, "%sha256-" + sha + "0", "%sha256-" + strings.ToUpper(sha), Escape("%sha256-" + sha)} {
		require.False(t, IsDigest(name), "%q", name)
	}
}

// Defect 11: six keys became two at restart, and some reached other folders.
func FuzzNoTwoKeysShareAName(f *testing.F) {
	for _, key := range []string{"", "x", "/x", "x/", "a//b", "a/b", "p/../x", "..", "%", "%25", "\xff", "\ufffd", strings.Repeat("é/", 200)} {
		f.Add(key, key+"/")
	}
	f.Fuzz(func(t *testing.T, a, b string) {
		name := Escape(a)
		back, err := Unescape(name)
		require.NoError(t, err)
		require.Equal(t, a, back)
		require.Equal(t, a == b, name == Escape(b))
		require.Equal(t, a == b, File(a) == File(b))
		require.False(t, IsDigest(name))
		require.Equal(t, "/dagstore/"+name, ds.NewKey("/dagstore").ChildString(name).String())

		file := File(a)
		require.LessOrEqual(t, len(file), MaxFile)
		require.NotEmpty(t, file)
		require.Equal(t, file, filepath.Base(file))
		require.False(t, strings.ContainsAny(file, "/\\\x00"))
		require.NotContains(t, []string{".", ".."}, file)

		if key, err := Unescape(b); err == nil {
			require.Equal(t, b, Escape(key))
		}
	})
}
