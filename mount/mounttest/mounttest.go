// Package mounttest tests implementations of [mount.Mount] against the contract
// that stores rely on.
package mounttest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/iotest"

	"github.com/filecoin-project/dagstore/mount"
)

// A Harness makes the mounts to test.
type Harness struct {
	// New returns a mount whose source has this content, which may be empty. It
	// registers with t what is to be cleaned up.
	New func(t *testing.T, content []byte) mount.Mount

	// Missing returns a mount whose source does not exist. Nil skips the tests
	// of it.
	Missing func(t *testing.T) mount.Mount

	// Template is what would be registered for the mounts of New, under Scheme.
	// Nil skips the tests of URLs, for mounts that have none.
	Template mount.Mount
	Scheme   string
}

// Run runs a subtest for each sentence of the contract.
func Run(t *testing.T, h Harness) {
	for _, test := range []struct {
		name string
		run  func(*testing.T, Harness)
	}{
		{"readers deliver the content", testContent},
		{"claims of Info are true", testClaims},
		{"Stat tells the size", testStat},
		{"fetches are independent", testIndependence},
		{"fetches may run at once", testConcurrency},
		{"a context that is done hangs nothing", testDoneContext},
		{"closing twice is harmless", testClosingTwice},
		{"a missing source is told", testMissing},
		{"the URL brings the mount back", testURL},
		{"clones of the template are independent", testClones},
	} {
		t.Run(test.name, func(t *testing.T) { test.run(t, h) })
	}
}

func testContent(t *testing.T, h Harness) {
	for _, size := range []int{0, 1, 3000, 300_000} {
		t.Run(fmt.Sprint(size, " bytes"), func(t *testing.T) {
			content := random(size)
			wantContent(t, h.New(t, content), content)
		})
	}
}

func testClaims(t *testing.T, h Harness) {
	content := random(3000)
	m := h.New(t, content)
	info := m.Info()
	if !info.AccessSequential {
		t.Error("Info does not claim sequential access, without which no mount is of use")
	}
	if m.Info() != info {
		t.Error("Info changes")
	}
	if info.AccessSequential && info.AccessSeek && info.AccessRandom {
		check(t, "TestReader", iotest.TestReader(fetch(t, m), content))
	}
	if info.AccessSeek {
		r := fetch(t, m)
		if at, err := r.Seek(-1000, io.SeekEnd); err != nil || at != 2000 {
			t.Fatalf("Seek = %d, %v; want 2000", at, err)
		}
		wantRest(t, r, content[2000:])
	}
	if info.AccessRandom {
		r := fetch(t, m)
		part := make([]byte, 1000)
		if n, err := r.ReadAt(part, 1500); err != nil || !bytes.Equal(part, content[1500:2500]) {
			t.Fatalf("ReadAt = %d, %v; or other bytes", n, err)
		}
		if n, err := r.ReadAt(part, 2500); err != io.EOF || n != 500 { //nolint:errorlint // io.ReaderAt asks for io.EOF itself
			t.Fatalf("ReadAt across the end = %d, %v; want 500, EOF", n, err)
		}
	}
}

func testStat(t *testing.T, h Harness) {
	for _, size := range []int{0, 3000} {
		st, err := h.New(t, random(size)).Stat(t.Context())
		check(t, "Stat", err)
		if !st.Exists || st.Size != int64(size) && st.Size != 0 {
			t.Errorf("Stat = %+v; want existing, of %d bytes, or 0 for unknown", st, size)
		}
	}
}

func testIndependence(t *testing.T, h Harness) {
	content := random(3000)
	m := h.New(t, content)
	one, other := fetch(t, m), fetch(t, m)
	_, err := io.CopyN(io.Discard, one, 1000)
	check(t, "Read", err)
	check(t, "Close", one.Close())
	wantRest(t, other, content)
	wantContent(t, m, content)
}

func testConcurrency(t *testing.T, h Harness) {
	content := random(3000)
	m := h.New(t, content)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			_, err := m.Stat(t.Context())
			check(t, "Stat", err)
			r, err := m.Fetch(t.Context())
			if check(t, "Fetch", err) {
				wantRest(t, r, content)
				check(t, "Close", r.Close())
			}
		})
	}
	wg.Wait()
}

func testDoneContext(t *testing.T, h Harness) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	r, err := h.New(t, random(3000)).Fetch(ctx)
	switch {
	case err != nil && !errors.Is(err, context.Canceled):
		t.Error("Fetch with a cancelled context returned another error:", err)
	case err == nil && r == nil:
		t.Error("Fetch returned neither a reader nor an error")
	case err == nil:
		check(t, "Close", r.Close())
	}
}

func testClosingTwice(t *testing.T, h Harness) {
	m := h.New(t, random(3000))
	r := fetch(t, m)
	check(t, "Close of a reader", r.Close())
	_ = r.Close() // may be an error
	check(t, "Close of a mount", m.Close())
	_ = m.Close()
}

func testMissing(t *testing.T, h Harness) {
	if h.Missing == nil {
		t.Skip("the harness makes no such mount")
	}
	m := h.Missing(t)
	if st, err := m.Stat(t.Context()); err == nil && st.Exists {
		t.Error("Stat tells of data that is not there")
	}
	r, err := m.Fetch(t.Context())
	if err == nil {
		// Some sources tell only when they are read.
		_, err = io.ReadAll(sequential{r})
		_ = r.Close()
	}
	if err == nil {
		t.Error("data that is not there was fetched without an error")
	}
}

func testURL(t *testing.T, h Harness) {
	reg := registry(t, h)
	for _, size := range []int{0, 1, 3000} {
		content := random(size)
		m := h.New(t, content)
		text := represent(t, reg, m)
		if again := represent(t, reg, m); again != text {
			t.Errorf("the URL changes from %q to %q", text, again)
		}
		restored := instantiate(t, reg, text)
		if again := represent(t, reg, restored); again != text {
			t.Errorf("the URL of the restored mount is %q, not %q", again, text)
		}
		wantContent(t, restored, content)
	}
}

func testClones(t *testing.T, h Harness) {
	reg := registry(t, h)
	var texts []string
	var contents [][]byte
	for range 3 {
		contents = append(contents, random(100))
		texts = append(texts, represent(t, reg, h.New(t, contents[len(contents)-1])))
	}
	var restored []mount.Mount
	for _, text := range texts {
		restored = append(restored, instantiate(t, reg, text))
	}
	for i, m := range restored {
		if text := represent(t, reg, m); text != texts[i] {
			t.Errorf("mount %d became that of another URL: %q, not %q", i, text, texts[i])
		}
		wantContent(t, m, contents[i])
	}
}

func registry(t *testing.T, h Harness) *mount.Registry {
	t.Helper()
	if h.Template == nil {
		t.Skip("the harness has no template")
	}
	reg := mount.NewRegistry()
	require(t, "Register", reg.Register(h.Scheme, h.Template))
	return reg
}

func represent(t *testing.T, reg *mount.Registry, m mount.Mount) string {
	t.Helper()
	u, err := reg.Represent(m)
	require(t, "Represent", err)
	return u.String()
}

func instantiate(t *testing.T, reg *mount.Registry, text string) mount.Mount {
	t.Helper()
	u, err := mount.ParseURL(text)
	require(t, "ParseURL", err)
	m, err := reg.Instantiate(u)
	require(t, "Instantiate", err)
	t.Cleanup(func() { _ = m.Close() })
	return m
}

func fetch(t *testing.T, m mount.Mount) mount.Reader {
	t.Helper()
	r, err := m.Fetch(t.Context())
	require(t, "Fetch", err)
	t.Cleanup(func() { _ = r.Close() })
	return r
}

func wantContent(t *testing.T, m mount.Mount, content []byte) {
	t.Helper()
	wantRest(t, fetch(t, m), content)
}

func wantRest(t *testing.T, r mount.Reader, rest []byte) {
	t.Helper()
	if got, err := io.ReadAll(sequential{r}); err != nil || !bytes.Equal(got, rest) {
		t.Errorf("read %d bytes, %v; want %d bytes, or they differ", len(got), err, len(rest))
	}
}

// check tells of an error, and whether there is none.
func check(t *testing.T, what string, err error) bool {
	t.Helper()
	if err != nil {
		t.Errorf("%s: %v", what, err)
	}
	return err == nil
}

// require ends the test if there is an error.
func require(t *testing.T, what string, err error) {
	t.Helper()
	if !check(t, what, err) {
		t.FailNow()
	}
}

// sequential hides everything but Read, which is all that every mount has.
type sequential struct{ io.Reader }

func random(size int) []byte {
	content := make([]byte, size)
	for i := range content {
		content[i] = byte(rand.Uint32())
	}
	return content
}
