package mounttest_test

import (
	"bytes"
	"context"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/filecoin-project/dagstore/mount"
	"github.com/filecoin-project/dagstore/mount/mounttest"
)

func files() mounttest.Harness {
	return mounttest.Harness{
		New: func(t *testing.T, content []byte) mount.Mount {
			path := filepath.Join(t.TempDir(), "a b.car")
			require.NoError(t, os.WriteFile(path, content, 0o600))
			return &mount.FileMount{Path: path}
		},
		Missing:  func(*testing.T) mount.Mount { return &mount.FileMount{Path: "/no/such/file"} },
		Template: &mount.FileMount{},
		Scheme:   "file",
	}
}

func TestSuitePassesAGoodMount(t *testing.T) { mounttest.Run(t, files()) }

func TestSuiteSkipsWhatTheHarnessLacks(t *testing.T) {
	mounttest.Run(t, mounttest.Harness{New: files().New})
}

// faulty is a mount of which some methods are replaced.
type faulty struct {
	mount.Mount
	fetch     func(context.Context) (mount.Reader, error)
	info      *mount.Info
	stat      *mount.Stat
	serialize *url.URL
}

func (f *faulty) Fetch(ctx context.Context) (mount.Reader, error) {
	if f.fetch != nil {
		return f.fetch(ctx)
	}
	return f.Mount.Fetch(ctx)
}

func (f *faulty) Info() mount.Info {
	if f.info != nil {
		return *f.info
	}
	return f.Mount.Info()
}

func (f *faulty) Stat(ctx context.Context) (mount.Stat, error) {
	if f.stat != nil {
		return *f.stat, nil
	}
	return f.Mount.Stat(ctx)
}

func (f *faulty) Serialize() *url.URL {
	if f.serialize != nil {
		return f.serialize
	}
	return f.Mount.Serialize()
}

// faults maps the subtest that has to fail to how a mount deserves it.
var faults = map[string]func(f *faulty, content []byte){
	"readers_deliver_the_content": func(f *faulty, content []byte) { f.Mount = &mount.BytesMount{Bytes: content[:len(content)/2]} },
	"claims_of_Info_are_true": func(f *faulty, content []byte) {
		f.fetch = func(context.Context) (mount.Reader, error) { return &oneWay{Reader: bytes.NewReader(content)}, nil }
	},
	"Stat_tells_the_size": func(f *faulty, content []byte) { f.stat = &mount.Stat{Exists: true, Size: int64(len(content)) + 1} },
	"fetches_are_independent": func(f *faulty, content []byte) {
		shared := bytes.NewReader(content)
		f.fetch = func(context.Context) (mount.Reader, error) {
			return &mount.NopCloser{Reader: shared, ReaderAt: shared, Seeker: shared}, nil
		}
	},
	"a_context_that_is_done_hangs_nothing": func(f *faulty, _ []byte) {
		f.fetch = func(ctx context.Context) (mount.Reader, error) {
			if ctx.Err() != nil {
				return nil, nil
			}
			return f.Mount.Fetch(ctx)
		}
	},
	"the_URL_brings_the_mount_back":          func(f *faulty, _ []byte) { f.serialize = &url.URL{Host: "a", Path: "/b"} },
	"clones_of_the_template_are_independent": func(f *faulty, _ []byte) { f.serialize = &url.URL{Host: "one-for-all"} },
}

// oneWay reads, but neither seeks nor reads at random.
type oneWay struct{ *bytes.Reader }

func (oneWay) Close() error                      { return nil }
func (oneWay) Seek(int64, int) (int64, error)    { return 0, mount.ErrSeekUnsupported }
func (oneWay) ReadAt([]byte, int64) (int, error) { return 0, mount.ErrRandomAccessUnsupported }

const faultVariable = "MOUNTTEST_FAULT"

// TestFaultyMount fails in the processes that TestSuiteFindsFaults starts.
func TestFaultyMount(t *testing.T) {
	breakIt, ok := faults[os.Getenv(faultVariable)]
	if !ok {
		t.Skip("runs for TestSuiteFindsFaults")
	}
	h := files()
	good := h.New
	h.New = func(t *testing.T, content []byte) mount.Mount {
		f := &faulty{Mount: good(t, content)}
		breakIt(f, content)
		return f
	}
	h.Template = &faulty{Mount: &mount.FileMount{}}
	mounttest.Run(t, h)
}

func TestSuiteFindsFaults(t *testing.T) {
	self, err := os.Executable()
	require.NoError(t, err)
	for name := range faults {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cmd := exec.CommandContext(t.Context(), self, "-test.run=^TestFaultyMount$/^"+name+"$")
			cmd.Env = append(os.Environ(), faultVariable+"="+name)
			out, err := cmd.CombinedOutput()
			var exit *exec.ExitError
			require.ErrorAs(t, err, &exit, "%s", out)
			require.Contains(t, string(out), "--- FAIL: TestFaultyMount/"+name)
			require.NotContains(t, string(out), "panic:")
		})
	}
}
