package bench

import (
	"bufio"
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"testing"

	"github.com/multiformats/go-multihash"
	"github.com/stretchr/testify/require"

	"github.com/filecoin-project/dagstore/internal/inverted"
)

// A process with this variable works on the top-level index in this folder until it
// is killed.
const toplevelFolder = "DAGSTORE_TOPLEVEL_FOLDER"

// ready is what a child answers when it has opened its index.
const ready = -1

// An order is what a child is to do with a shard.
type order struct {
	Shard  int
	Remove bool
	span   // what to add
}

// A span is some multihashes by their numbers.
type span struct{ From, To uint64 }

func (s span) len() int { return int(s.To - s.From) }

// The first multihashes are in all shards.
var everywhere = span{0, 3}

// appendMultihash appends a numbered multihash, which has the form of sha2-256.
func appendMultihash(dst []byte, number uint64) []byte {
	dst = append(dst, multihash.SHA2_256, 32)
	for i := range uint64(4) {
		x := (4*number + i) * 0x9e3779b97f4a7c15
		x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
		x = (x ^ x>>27) * 0x94d049bb133111eb
		dst = binary.LittleEndian.AppendUint64(dst, x^x>>31)
	}
	return dst
}

func multihashes(spans ...span) func(func([]byte) error) error {
	return func(yield func([]byte) error) error {
		var mh []byte
		for _, s := range spans {
			for number := s.From; number < s.To; number++ {
				mh = appendMultihash(mh[:0], number)
				if err := yield(mh); err != nil {
					return err
				}
			}
		}
		return nil
	}
}

func toplevelKey(shard int) string { return fmt.Sprintf("shard-%d", shard) }

// TestTopLevelChild is what the crash test of the top-level index runs as a process.
func TestTopLevelChild(t *testing.T) {
	dir := os.Getenv(toplevelFolder)
	if dir == "" {
		t.Skip("it is a part of another test")
	}
	obey(dir, os.Stdin, os.NewFile(3, "answers"))
}

// obey does what it is told, all at once, and answers the number of the shard when it
// is done. It ends with the process.
func obey(dir string, orders io.Reader, answers io.Writer) {
	fail := func(err error) {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	ctx := context.Background()
	x, err := inverted.Open(ctx, dir, inverted.Options{})
	if err != nil {
		fail(err)
	}
	fmt.Fprintln(answers, ready)
	for d := json.NewDecoder(orders); ; {
		var o order
		if err := d.Decode(&o); err != nil {
			fail(err)
		}
		go func() {
			if err := o.do(ctx, x); err != nil {
				fail(err)
			}
			fmt.Fprintln(answers, o.Shard) // short writes to a pipe are not torn
		}()
	}
}

func (o order) do(ctx context.Context, x *inverted.Index) error {
	if o.Remove {
		return x.Remove(ctx, toplevelKey(o.Shard))
	}
	return x.Add(ctx, toplevelKey(o.Shard), multihashes(everywhere, o.span))
}

// A child is a process that obeys.
type child struct {
	cmd     *exec.Cmd
	orders  *json.Encoder
	answers *bufio.Scanner
	pipes   []io.Closer
	stderr  *os.File
}

func startChild(tb testing.TB, dir string) *child {
	tb.Helper()
	cmd := exec.Command(os.Args[0], "-test.run=^TestTopLevelChild$", "-test.timeout=0")
	cmd.Env = append(os.Environ(), toplevelFolder+"="+dir)
	stderr, err := os.CreateTemp(tb.TempDir(), "stderr")
	require.NoError(tb, err)
	cmd.Stderr = stderr
	in, err := cmd.StdinPipe()
	require.NoError(tb, err)
	out, answers, err := os.Pipe()
	require.NoError(tb, err)
	cmd.ExtraFiles = []*os.File{answers}
	require.NoError(tb, cmd.Start())
	require.NoError(tb, answers.Close())
	return &child{cmd, json.NewEncoder(in), bufio.NewScanner(out), []io.Closer{in, out}, stderr}
}

// requireKilled waits for the end of a child that is killed.
func (c *child) requireKilled(tb testing.TB) {
	tb.Helper()
	err := c.cmd.Wait()
	for _, p := range c.pipes {
		_ = p.Close() // Wait has closed some
	}
	complaints, readErr := os.ReadFile(c.stderr.Name())
	require.NoError(tb, readErr)
	require.NoError(tb, c.stderr.Close())
	var exit *exec.ExitError
	require.ErrorAs(tb, err, &exit, "the child ended by itself: %s", complaints)
	require.Equal(tb, -1, exit.ExitCode(), "the child was not killed: %s", complaints)
}
