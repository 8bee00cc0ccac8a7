package mount

import (
	"errors"
	"fmt"
	"net/url"
	"reflect"
	"unsafe"

	"github.com/filecoin-project/dagstore/internal/guard"
)

// A Cloner is a mount that makes its clones itself; see [Registry.Instantiate].
type Cloner interface {
	// Clone returns a mount of the same type on which Deserialize can be called
	// without an effect on the receiver. It is called concurrently.
	Clone() Mount
}

// instantiate returns a clone of template that has deserialized u.
func instantiate(template Mount, u url.URL) (m Mount, err error) {
	defer guard.Recover(&err)
	clone, err := cloneMount(reflect.ValueOf(template), 0)
	if err != nil {
		return nil, err
	}
	m = clone.Interface().(Mount)
	if err := m.Deserialize(&u); err != nil {
		return nil, err
	}
	return m, nil
}

// maxNesting bounds mounts within mounts: a mount that holds itself would never
// end.
const maxNesting = 16

var mountType = reflect.TypeFor[Mount]()

// cloneMount clones the mount in v, which is not nil.
func cloneMount(v reflect.Value, depth int) (reflect.Value, error) {
	if depth > maxNesting {
		return v, errors.New("the template's mounts are nested too deeply; does one hold itself?")
	}
	if c, ok := v.Interface().(Cloner); ok {
		clone := c.Clone()
		if isNil(clone) || reflect.TypeOf(clone) != v.Type() {
			return v, fmt.Errorf("clone of %s returned %T", v.Type(), clone)
		}
		return reflect.ValueOf(clone), nil
	}
	if v.Kind() == reflect.Pointer {
		clone := reflect.New(v.Type().Elem())
		return clone, cloneInto(clone.Elem(), v.Elem(), depth)
	}
	// A struct in an interface is not addressable; its fields have to be.
	original, clone := reflect.New(v.Type()).Elem(), reflect.New(v.Type()).Elem()
	original.Set(v)
	return clone, cloneInto(clone, original, depth)
}

// cloneInto copies src to dst, both addressable and of one type.
func cloneInto(dst, src reflect.Value, depth int) error {
	switch src.Kind() {
	case reflect.Interface, reflect.Pointer:
		if !holdsMount(src) {
			break
		}
		held := src
		if src.Kind() == reflect.Interface {
			held = src.Elem()
		}
		clone, err := cloneMount(held, depth+1)
		if err == nil {
			dst.Set(clone)
		}
		return err
	case reflect.Struct:
		if path := src.Type().PkgPath(); path == "sync" || path == "sync/atomic" {
			return nil
		}
		for i := range src.NumField() {
			if err := cloneInto(exported(dst.Field(i)), exported(src.Field(i)), depth); err != nil {
				return err
			}
		}
		return nil
	case reflect.Slice:
		if src.IsNil() || !src.Type().Elem().Implements(mountType) {
			break
		}
		dst.Set(reflect.MakeSlice(src.Type(), src.Len(), src.Len()))
		return cloneElements(dst, src, depth)
	case reflect.Array:
		return cloneElements(dst, src, depth)
	}
	dst.Set(src)
	return nil
}

func cloneElements(dst, src reflect.Value, depth int) error {
	for i := range src.Len() {
		if err := cloneInto(dst.Index(i), src.Index(i), depth); err != nil {
			return err
		}
	}
	return nil
}

func holdsMount(v reflect.Value) bool {
	if v.IsNil() {
		return false
	}
	if v.Kind() == reflect.Interface {
		v = v.Elem()
	}
	return v.Type().Implements(mountType) && (v.Kind() != reflect.Pointer || !v.IsNil())
}

// exported returns a field as if its name were exported: reflect refuses to copy
// others, and a clone without them would be a mount that lacks its client.
func exported(field reflect.Value) reflect.Value {
	return reflect.NewAt(field.Type(), unsafe.Pointer(field.UnsafeAddr())).Elem()
}
