package indexbuild_test

import (
	"context"
	"fmt"
	"github.com/filecoin-project/dagstore/internal/files"
	"github.com/filecoin-project/dagstore/internal/indexbuild"
	"io"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"
)

type counter struct {
	n     int64
	calls int64
}

func (c *counter) Write(p []byte) (int, error) { c.n += int64(len(p)); c.calls++; return len(p), nil }

var _ io.Writer = (*counter)(nil)

func TestRSS(t *testing.T) {
	spec := os.Getenv("RSS")
	if spec == "" {
		t.Skip()
	}
	f := strings.Split(spec, ",")
	n, _ := strconv.Atoi(f[0])
	mem, _ := strconv.Atoi(f[1])
	kind := f[2]
	b := indexbuild.New(files.OS, t.TempDir(), indexbuild.NewBudget(int64(mem)<<20))
	var s digests
	d := make([]byte, 32)
	t0 := time.Now()
	c0 := cpu()
	for i := range n {
		s.next(d)
		var err error
		switch kind {
		case "usual":
			err = b.Add(0x12, d, uint64(i))
		case "codes":
			err = b.Add(uint64(s)>>3, nil, uint64(i))
		case "dup":
			err = b.Add(0x12, make([]byte, 32)[:32], uint64(i))
		case "prefix":
			d[0] = 7
			err = b.Add(0x12, d, uint64(i))
		case "rand":
			err = b.Add(0x12, d, uint64(s))
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	t1 := time.Now()
	c1 := cpu()
	var c counter
	if err := b.WriteTo(context.Background(), &c); err != nil {
		t.Fatal(err)
	}
	t2 := time.Now()
	c2 := cpu()
	st, _ := os.ReadFile("/proc/self/status")
	hwm := ""
	for _, l := range strings.Split(string(st), "\n") {
		if strings.HasPrefix(l, "VmHWM") || strings.HasPrefix(l, "RssAnon") {
			hwm += l + " "
		}
	}
	fmt.Printf("%s runs %v: add %v cpu %.2fs; write %v cpu %.2fs; %d bytes %d writes; %s\n", spec, len(b.Runs()), t1.Sub(t0), (c1-c0)/1e9, t2.Sub(t1), (c2-c1)/1e9, c.n, c.calls, hwm)
	b.Close()
}
