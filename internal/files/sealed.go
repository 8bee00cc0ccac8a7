package files

import (
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"strings"
)

// A sealed text is lines that are each ended by a newline. The last is the CRC-32C
// (Castagnoli) of those before, with their newlines, in 8 hexadecimal digits of lower
// case.

// maxSealed is more bytes than the file of a sealed text has.
const maxSealed = 256

// Seal returns lines, each with its newline, as a sealed text.
func Seal(lines string) string {
	sum := crc32.Checksum([]byte(lines), crc32.MakeTable(crc32.Castagnoli))
	return fmt.Sprintf("%s%08x\n", lines, sum)
}

// Unseal returns the lines of a sealed text without the newlines and the checksum. It
// returns false for a text that is not what Seal has returned.
func Unseal(text string) (lines []string, ok bool) {
	const sum = 9 // bytes of the last line
	all := text[:max(0, len(text)-sum)]
	if !strings.HasSuffix(all, "\n") || Seal(all) != text {
		return nil, false
	}
	return strings.Split(strings.TrimSuffix(all, "\n"), "\n"), true
}

// ReplaceText is Replace for a sealed text.
func ReplaceText(fsys FS, path, text string) error {
	return Replace(fsys, path, func(w io.Writer) error {
		_, err := io.WriteString(w, text)
		return err
	})
}

// ReadText returns the text of a file that ReplaceText has made, or the beginning of a
// longer one.
func ReadText(fsys FS, path string) (string, error) {
	f, err := fsys.Open(path)
	if err != nil {
		return "", err
	}
	b, err := io.ReadAll(io.LimitReader(f, maxSealed))
	return string(b), errors.Join(err, f.Close())
}
