package mount_test

import (
	"encoding/base64"
	"net/url"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/stretchr/testify/require"

	"github.com/filecoin-project/dagstore/mount"
)

func newRegistry(t *testing.T) *mount.Registry {
	reg := mount.NewRegistry()
	require.NoError(t, reg.Register("file", &mount.FileMount{}))
	require.NoError(t, reg.Register("fs", &mount.FSMount{FS: fstest.MapFS{}}))
	require.NoError(t, reg.Register("bytes", &mount.BytesMount{}))
	return reg
}

// throughText returns what a restart makes of a mount.
func throughText(t *testing.T, reg *mount.Registry, m mount.Mount) mount.Mount {
	t.Helper()
	u, err := reg.Represent(m)
	require.NoError(t, err)
	plain, err := url.Parse(u.String())
	require.NoError(t, err)
	parsed, err := mount.ParseURL(u.String())
	require.NoError(t, err)
	require.Equal(t, plain, parsed)
	restored, err := reg.Instantiate(parsed)
	require.NoError(t, err)
	return restored
}

// fromText returns the mount that a record tells of.
func fromText(t *testing.T, text string) (mount.Mount, error) {
	t.Helper()
	u, err := mount.ParseURL(text)
	require.NoError(t, err)
	return newRegistry(t).Instantiate(u)
}

var paths = []string{
	"/data/a.car", "rel.car", "irrecoverable", "dir/a.car", "./a", "../a", "a:b", "a:80", "/a:b", "a b", "/a b", "100%", "/100%25", "%41",
	"a?b=c", "/a?b=c", "a#b", "/a#b", "user@host", "[a", "[::1]", "файл", "/файл", "\xff", "/\xff\x00", `C:\a`, `\\x\y`, "//a", "/", "*", "/*", "~", "a+b&c;d",
	"-a", ".", "..", strings.Repeat("/x", 1000),
}

// Defect 1: every path with a slash, a space or a colon was lost at restart.
func TestEveryPathSurvivesARestart(t *testing.T) {
	reg := newRegistry(t)
	for _, path := range paths {
		require.Equal(t, &mount.FileMount{Path: path}, throughText(t, reg, &mount.FileMount{Path: path}))
		require.Equal(t, &mount.FSMount{FS: fstest.MapFS{}, Path: path}, throughText(t, reg, &mount.FSMount{FS: fstest.MapFS{}, Path: path}))
	}
}

// Defect 1: practically every CAR in a BytesMount was lost at restart.
func TestAnyBytesSurviveARestart(t *testing.T) {
	reg := newRegistry(t)
	all := make([]byte, 256)
	for i := range all {
		all[i] = byte(i)
	}
	for _, b := range [][]byte{{}, {0}, {0xff}, {0xff, 0xff, 0xff}, {0xfb, 0xef}, all, []byte("hello")} {
		require.Equal(t, &mount.BytesMount{Bytes: b}, throughText(t, reg, &mount.BytesMount{Bytes: b}))
	}
}

// Defect 1: records that v0.7 wrote and could not read.
func TestRecordsOfV07AreRead(t *testing.T) {
	for _, path := range paths {
		text := (&url.URL{Scheme: "file", Host: path}).String()
		m, err := fromText(t, text)
		require.NoError(t, err, text)
		require.Equal(t, &mount.FileMount{Path: path}, m, text)

		text = (&url.URL{Scheme: "fs", Host: path}).String()
		m, err = fromText(t, text)
		if path == "irrecoverable" {
			require.ErrorContains(t, err, "register it anew")
			continue
		}
		require.NoError(t, err, text)
		require.Equal(t, path, m.(*mount.FSMount).Path, text)
	}
	for _, b := range [][]byte{[]byte("hello"), {0xff, 0xff, 0xff}, {0xfb, 0xef, 0xbe, 0xfb}, make([]byte, 10_000)} {
		text := (&url.URL{Scheme: "bytes", Host: base64.StdEncoding.EncodeToString(b)}).String()
		m, err := fromText(t, text)
		require.NoError(t, err, text)
		require.Equal(t, &mount.BytesMount{Bytes: b}, m, text)
	}
}

// What v0.7 could read back, it can read back from us.
func TestPlainURLsAreThoseOfV07(t *testing.T) {
	reg := newRegistry(t)
	for text, m := range map[string]mount.Mount{
		"file://rel.car":       &mount.FileMount{Path: "rel.car"},
		"fs://sample-v1.car":   &mount.FSMount{Path: "sample-v1.car"},
		"bytes://aGVsbG8=":     &mount.BytesMount{Bytes: []byte("hello")},
		"file:///data/a.car":   &mount.FileMount{Path: "/data/a.car"},
		"file:dir%2Fa%20b.car": &mount.FileMount{Path: "dir/a b.car"},
		"bytes:____":           &mount.BytesMount{Bytes: []byte{0xff, 0xff, 0xff}},
	} {
		u, err := reg.Represent(m)
		require.NoError(t, err)
		require.Equal(t, text, u.String())
	}
}

// Defect 22m: a file that was missing for a moment was lost for ever.
func TestURLOfFSMountDoesNotDependOnTheFile(t *testing.T) {
	u := (&mount.FSMount{FS: fstest.MapFS{}, Path: "dir/a.car"}).Serialize()
	require.Equal(t, (&mount.FSMount{FS: fstest.MapFS{"dir/a.car": {}}, Path: "dir/a.car"}).Serialize(), u)
}

func TestURLsThatTellNoMountAreRefused(t *testing.T) {
	for _, text := range []string{
		"file:", "file://", "file://host/path", "file://user@host", "file:///a?b", "file:///a#b", "file:%zz", "fs:",
		"bytes://!", "bytes:!", "bytes://aGVsbG8=/a",
	} {
		_, err := fromText(t, text)
		require.Error(t, err, text)
	}
	for _, m := range []mount.Mount{&mount.FileMount{}, &mount.FSMount{}, &mount.BytesMount{}} {
		require.Error(t, m.Deserialize(nil))
	}
	for _, text := range []string{"", ":", "%", "file://%zz", "file://%2Fa@%2Fb", "1://%2F", "file://%2F/%zz", "://%2Fa"} {
		u, err := mount.ParseURL(text)
		if text == "" {
			require.NoError(t, err)
			continue
		}
		require.Error(t, err, text)
		require.Nil(t, u)
	}
}

func TestRepairKeepsTheRestOfTheURL(t *testing.T) {
	u, err := mount.ParseURL("lotus://%2Fa%20b/path?q=1#f")
	require.NoError(t, err)
	require.Equal(t, &url.URL{Scheme: "lotus", Host: "/a b", Path: "/path", RawQuery: "q=1", Fragment: "f"}, u)
}

func FuzzNoPathIsLostAtRestart(f *testing.F) {
	for _, path := range paths {
		f.Add(path)
	}
	f.Fuzz(func(t *testing.T, path string) {
		reg := newRegistry(t)
		require.Equal(t, &mount.BytesMount{Bytes: []byte(path)}, throughText(t, reg, &mount.BytesMount{Bytes: []byte(path)}))
		if path == "" {
			return
		}
		require.Equal(t, &mount.FileMount{Path: path}, throughText(t, reg, &mount.FileMount{Path: path}))
		require.Equal(t, path, throughText(t, reg, &mount.FSMount{Path: path}).(*mount.FSMount).Path)

		m, err := fromText(t, (&url.URL{Scheme: "file", Host: path}).String())
		require.NoError(t, err)
		require.Equal(t, &mount.FileMount{Path: path}, m, "v0.7's form")
	})
}

func FuzzURLsOfRecords(f *testing.F) {
	for _, text := range []string{"file:///a", "file://%2Fa", "file:a%2Fb", "bytes://aGVsbG8=", "fs://irrecoverable", "x://%2F@b/c?d#e", "file://[", "bytes:_-8"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		u, err := mount.ParseURL(text)
		if err != nil {
			require.Nil(t, u)
			return
		}
		reg := newRegistry(t)
		m, err := reg.Instantiate(u)
		if err != nil {
			return
		}
		again := throughText(t, reg, m)
		require.Equal(t, m.Serialize(), again.Serialize())
	})
}
