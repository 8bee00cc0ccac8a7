// Package keyname turns shard keys into names that are safe as file names and
// as datastore keys, without letting two keys share a name.
package keyname

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strings"
	"unicode/utf8"
)

// MaxFile is the longest name that [File] returns, in bytes: what a file system
// with names of at most 255 bytes leaves beside "transient-" and ".complete".
const MaxFile = 236

// marker begins every name that is not the key itself.
const marker = "%"

const digestPrefix = marker + "sha256-"

// Escape returns the name of a key. It is injective. A safe key is its own
// name, as in v0.7; any other becomes "%" followed by its bytes, of which all
// but letters, digits, '.', '_' and '-' are written as %XX.
//
// Unsafe are: the empty key, "." and "..", keys that start with '%', and keys
// with a slash, a backslash, an ASCII control character or bytes that are not
// UTF-8.
func Escape(key string) string {
	if safe(key) {
		return key
	}
	var b strings.Builder
	b.Grow(len(marker) + 3*len(key))
	b.WriteString(marker)
	for i := range len(key) {
		if c := key[i]; literal(c) {
			b.WriteByte(c)
		} else {
			fmt.Fprintf(&b, "%%%02X", c)
		}
	}
	return b.String()
}

// Unescape is the inverse of [Escape]. A name that Escape does not return is an
// error.
func Unescape(name string) (string, error) {
	if safe(name) {
		return name, nil
	}
	escaped, marked := strings.CutPrefix(name, marker)
	if !marked {
		return "", fmt.Errorf("%q is not the name of a key", name)
	}
	key := make([]byte, 0, len(escaped))
	for i := 0; i < len(escaped); i++ {
		if escaped[i] != '%' {
			key = append(key, escaped[i])
			continue
		}
		c, err := hex.DecodeString(escaped[i+1 : min(i+3, len(escaped))])
		if err != nil || len(c) != 1 {
			return "", fmt.Errorf("%q is not the name of a key: bad escape at byte %d", name, i+1)
		}
		key = append(key, c[0])
		i += 2
	}
	if Escape(string(key)) != name {
		return "", fmt.Errorf("%q is not the name of a key: it is not written as keys are", name)
	}
	return string(key), nil
}

// File returns the name of a key for use in file names: [Escape], unless that
// is longer than [MaxFile] bytes; then "%sha256-" and the lower-case
// hexadecimal SHA-256 of the key, which cannot be turned back into the key.
func File(key string) string {
	if name := Escape(key); len(name) <= MaxFile {
		return name
	}
	digest := sha256.Sum256([]byte(key))
	return digestPrefix + hex.EncodeToString(digest[:])
}

// IsDigest tells whether a name is one that [File] gives to a key too long.
// Escape never returns such a name.
func IsDigest(name string) bool {
	digest, ok := strings.CutPrefix(name, digestPrefix)
	if !ok || len(digest) != 2*sha256.Size {
		return false
	}
	return strings.Trim(digest, "0123456789abcdef") == ""
}

func safe(key string) bool {
	if key == "" || key == "." || key == ".." || key[0] == '%' || !utf8.ValidString(key) {
		return false
	}
	for i := range len(key) {
		if c := key[i]; c < ' ' || c == 0x7f || c == '/' || c == '\\' {
			return false
		}
	}
	return true
}

func literal(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '.' || c == '_' || c == '-'
}
