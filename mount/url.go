package mount

import (
	"errors"
	"fmt"
	"net/url"
	"strings"
)

// ParseURL parses the text of a mount's URL. It differs from [url.Parse] in that
// it also reads what v0.7 wrote: there mounts put paths and base64 into the
// host, where [url.URL.String] escapes characters that url.Parse then refuses,
// as in file://%2Fdata%2Fa.car. The Host of such a URL is unescaped here.
func ParseURL(s string) (*url.URL, error) {
	u, err := url.Parse(s)
	if err == nil {
		return u, nil
	}
	scheme, rest, ok := strings.Cut(s, "://")
	if !ok {
		return nil, err
	}
	end := strings.IndexAny(rest, "/?#@")
	if end < 0 {
		end = len(rest)
	}
	host, hostErr := url.PathUnescape(rest[:end])
	if hostErr != nil || strings.HasPrefix(rest[end:], "@") {
		return nil, err
	}
	repaired, restErr := url.Parse(scheme + "://host" + rest[end:])
	if restErr != nil {
		return nil, err
	}
	repaired.Host = host
	return repaired, nil
}

// lostPath is the host that v0.7's FSMount wrote when it could not tell the
// name of its file.
const lostPath = "irrecoverable"

// pathURL returns the URL form of a path; see FileMount.
func pathURL(path string) *url.URL {
	switch {
	case strings.HasPrefix(path, "/"):
		return &url.URL{Path: path}
	case plainHost(path) && path != lostPath:
		return &url.URL{Host: path}
	default:
		return &url.URL{Opaque: url.PathEscape(path)}
	}
}

// urlPath is the inverse of pathURL. It takes v0.7's form too, which is the path
// as the host.
func urlPath(u *url.URL) (string, error) {
	switch {
	case u == nil:
		return "", errors.New("no URL")
	case u.User != nil || u.RawQuery != "" || u.Fragment != "":
		return "", fmt.Errorf("URL %q is more than a path: escape '@', '?' and '#' in it", u)
	case u.Opaque != "":
		return url.PathUnescape(u.Opaque)
	case u.Host != "" && u.Path != "":
		return "", fmt.Errorf("URL %q has a host: write local paths with three slashes", u)
	case u.Host != "":
		return u.Host, nil
	case u.Path != "":
		return u.Path, nil
	default:
		return "", fmt.Errorf("URL %q has no path", u)
	}
}

// plainHost tells whether a path survives as the host of a URL, however old the
// parser.
func plainHost(path string) bool {
	for i := range len(path) {
		c := path[i]
		alphanumeric := 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9'
		if !alphanumeric && (i == 0 || c != '.' && c != '_' && c != '-') {
			return false
		}
	}
	return path != ""
}
