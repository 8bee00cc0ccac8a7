package mount

import (
	"errors"
	"fmt"
	"net/url"
	"reflect"
	"strings"
	"sync"

	"github.com/filecoin-project/dagstore/internal/guard"
)

var (
	// ErrUnrecognizedScheme is returned for a URL whose scheme was not
	// registered.
	ErrUnrecognizedScheme = errors.New("unrecognized mount scheme")

	// ErrUnrecognizedType is returned for a mount whose type was not registered.
	ErrUnrecognizedType = errors.New("unrecognized mount type")
)

// A Registry knows types of mounts, each by a scheme of URLs and by a template.
// It turns mounts into URLs and URLs into mounts. It is safe for concurrent use.
type Registry struct {
	mu        sync.RWMutex
	templates map[string]Mount // by lower-case scheme, as url.Parse returns them
	schemes   map[reflect.Type]string
}

// NewRegistry returns an empty registry.
func NewRegistry() *Registry {
	return &Registry{templates: map[string]Mount{}, schemes: map[reflect.Type]string{}}
}

// Register adds a type of mounts. Every mount of it will have URLs with this
// scheme and will be restored from a clone of this template (see
// [Registry.Instantiate]), which is not to be changed afterwards. A scheme and a
// type can be registered once.
func (r *Registry) Register(scheme string, template Mount) error {
	if scheme == "" {
		return errors.New("register mount: empty scheme")
	}
	if isNil(template) {
		return fmt.Errorf("register mount %s: nil template", scheme)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if old, ok := r.templates[strings.ToLower(scheme)]; ok {
		return fmt.Errorf("register mount %s: the scheme is registered already, for %T", scheme, old)
	}
	t := reflect.TypeOf(template)
	if old, ok := r.schemes[t]; ok {
		return fmt.Errorf("register mount %s: %s is registered already, as %s", scheme, t, old)
	}
	r.templates[strings.ToLower(scheme)] = template
	r.schemes[t] = scheme
	return nil
}

// Instantiate returns the mount that a URL tells of: a clone of the scheme's
// template on which Deserialize was called. An unknown scheme is
// [ErrUnrecognizedScheme].
//
// A clone has all fields of the template, exported or not. Mounts in fields, in
// embedded ones, and in slices and arrays are cloned too; locks and atomic
// values of package sync start at zero; any other pointer, interface, map or
// slice is shared with the template. A mount with other needs implements
// [Cloner].
func (r *Registry) Instantiate(u *url.URL) (Mount, error) {
	if u == nil {
		return nil, errors.New("instantiate mount: no URL")
	}
	r.mu.RLock()
	template, ok := r.templates[strings.ToLower(u.Scheme)]
	r.mu.RUnlock()
	if !ok {
		return nil, fmt.Errorf("%w: %q; register a template for it before the store is made", ErrUnrecognizedScheme, u.Scheme)
	}
	m, err := instantiate(template, *u)
	if err != nil {
		return nil, fmt.Errorf("instantiate mount %s: %w", u.Scheme, err)
	}
	return m, nil
}

// Represent returns the URL of a mount, with the scheme of its type. An unknown
// type is [ErrUnrecognizedType]. An [Upgrader] is represented by its underlying
// mount.
func (r *Registry) Represent(mount Mount) (*url.URL, error) {
	if u, ok := mount.(*Upgrader); ok && u != nil {
		mount = u.underlying
	}
	r.mu.RLock()
	scheme, ok := r.schemes[reflect.TypeOf(mount)]
	r.mu.RUnlock()
	if !ok {
		return nil, fmt.Errorf("%w: %T; register a template of this type before the store is made", ErrUnrecognizedType, mount)
	}
	var u *url.URL
	err := guard.Call(func() error {
		u = mount.Serialize()
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("represent mount %s: %w", scheme, err)
	}
	if u == nil {
		return nil, fmt.Errorf("represent mount %s: Serialize of %T returned no URL", scheme, mount)
	}
	represented := *u
	represented.Scheme = scheme
	return &represented, nil
}

func isNil(m Mount) bool {
	v := reflect.ValueOf(m)
	switch v.Kind() {
	case reflect.Invalid:
		return true
	case reflect.Pointer, reflect.Map, reflect.Slice, reflect.Func, reflect.Chan:
		return v.IsNil()
	default:
		return false
	}
}
