package mount

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"net/url"
	"strings"
)

// BytesMount is data in memory, which its URL carries whole: a record as large
// as the data is stored for each shard. It is meant for tests and small data.
//
// The URL is v0.7's, padded base64 as the host, where that parses, and otherwise
// unpadded base64url after the colon: bytes:_-8. Deserialize takes both, and
// v0.7's form that does not parse, if [ParseURL] parsed it.
type BytesMount struct {
	Bytes []byte // not to be changed
}

var _ Mount = (*BytesMount)(nil)

// Fetch returns a reader of the bytes.
func (b *BytesMount) Fetch(ctx context.Context) (Reader, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	r := bytes.NewReader(b.Bytes)
	return &NopCloser{Reader: r, ReaderAt: r, Seeker: r}, nil
}

// Info claims everything.
func (b *BytesMount) Info() Info {
	return Info{Kind: KindLocal, AccessSequential: true, AccessSeek: true, AccessRandom: true}
}

// Stat returns the number of bytes.
func (b *BytesMount) Stat(ctx context.Context) (Stat, error) {
	if err := ctx.Err(); err != nil {
		return Stat{}, err
	}
	return Stat{Exists: true, Size: int64(len(b.Bytes)), Ready: true}, nil
}

// Serialize returns a URL with all the bytes.
func (b *BytesMount) Serialize() *url.URL {
	if host := base64.StdEncoding.EncodeToString(b.Bytes); !strings.Contains(host, "/") {
		return &url.URL{Host: host}
	}
	return &url.URL{Opaque: base64.RawURLEncoding.EncodeToString(b.Bytes)}
}

// Deserialize takes the bytes from the URL.
func (b *BytesMount) Deserialize(u *url.URL) (err error) {
	switch {
	case u == nil:
		return errors.New("no URL")
	case u.Path != "":
		return errors.New("the URL of bytes has no path")
	case u.Opaque != "":
		b.Bytes, err = base64.RawURLEncoding.DecodeString(u.Opaque)
	default:
		b.Bytes, err = base64.StdEncoding.DecodeString(u.Host)
	}
	return err
}

// Close does nothing.
func (b *BytesMount) Close() error { return nil }
