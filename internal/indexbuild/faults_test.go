package indexbuild_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/filecoin-project/dagstore/internal/fault"
	"github.com/filecoin-project/dagstore/internal/files"
	"github.com/filecoin-project/dagstore/internal/indexbuild"
)

// attempt adds the records and writes the index. It returns the first error.
func attempt(b *indexbuild.Builder, records []record, w io.Writer) error {
	for _, r := range records {
		if err := b.Add(r.code, r.digest, r.offset); err != nil {
			return err
		}
	}
	return b.WriteTo(context.Background(), w)
}

func TestFailureOfTheTemporaryFileIsReportedAndLeavesNothing(t *testing.T) {
	records := random(rand.New(rand.NewPCG(3, 6)), 700)
	want := goCar(t, records)
	dir := t.TempDir()
	for _, kind := range []fault.Kind{fault.Create, fault.Write, fault.Read, fault.Remove, fault.Close} {
		fired := 0
		for n := 0; ; n++ {
			inj := fault.OnIndex(n).Match(fault.Is(kind))
			if n%2 == 1 {
				inj.Short()
			}
			budget := indexbuild.NewBudget(1)
			b := indexbuild.NewLimited(fault.FS(files.OS, inj), dir, budget, small)
			var out bytes.Buffer
			err := attempt(b, records, &out)
			if inj.Fired() == 0 || kind == fault.Remove {
				require.NoError(t, err)
				require.Equal(t, want, out.Bytes())
			} else {
				require.ErrorIs(t, err, fault.ErrInjected)
				require.Equal(t, err, b.Add(1, nil, 1), "the error stays")
				require.Equal(t, err, b.WriteTo(context.Background(), io.Discard), "the error stays")
			}
			err = b.Close()
			require.Equal(t, kind == fault.Close && inj.Fired() > 0, err != nil, "%v", err)
			require.NoError(t, b.Close())
			requireEmpty(t, dir)
			require.Zero(t, budget.Used())
			if inj.Fired() == 0 {
				break
			}
			fired++
		}
		t.Log(kind, fired)
		require.NotZero(t, fired, kind)
	}
}

func TestFullDiskIsReported(t *testing.T) {
	records := random(rand.New(rand.NewPCG(3, 6)), 700)
	dir := t.TempDir()
	inj := fault.From(3).Match(fault.Is(fault.Write)).WithError(syscall.ENOSPC).Short()
	b := indexbuild.NewLimited(fault.FS(files.OS, inj), dir, indexbuild.NewBudget(1), small)
	require.ErrorIs(t, attempt(b, records, io.Discard), syscall.ENOSPC)
	require.NoError(t, b.Close())
	requireEmpty(t, dir)
}

// badWriter fails at the n-th write, or writes half of it and says nothing.
type badWriter struct {
	bytes.Buffer
	n   int
	err error
}

func (w *badWriter) Write(p []byte) (int, error) {
	if w.n--; w.n >= 0 {
		return w.Buffer.Write(p)
	}
	n, _ := w.Buffer.Write(p[:len(p)/2])
	return n, w.err
}

func TestIndexCanBeWrittenAgainAfterItsWriterFailed(t *testing.T) {
	records := usual(1500)
	want := goCar(t, records)
	for _, memory := range []int64{0, 1} {
		b := indexbuild.NewLimited(files.OS, t.TempDir(), indexbuild.NewBudget(memory), small)
		defer b.Close()
		build(t, b, records)
		for n := 0; ; n++ {
			err := b.WriteTo(context.Background(), &badWriter{n: n, err: io.ErrClosedPipe})
			if err == nil {
				break
			}
			require.ErrorIs(t, err, io.ErrClosedPipe)
			require.ErrorIs(t, b.WriteTo(context.Background(), &badWriter{n: n}), io.ErrShortWrite)
			require.Equal(t, want, written(t, b))
		}
	}
}

// tampered is a file system whose files are other ones when they are read.
type tampered struct {
	files.FS
	read func(f files.File, p []byte, at int64) (int, error)
}

func (s tampered) CreateTemp(dir string) (files.File, error) {
	f, err := s.FS.CreateTemp(dir)
	return tamperedFile{f, s.read}, err
}

type tamperedFile struct {
	files.File
	read func(f files.File, p []byte, at int64) (int, error)
}

func (f tamperedFile) ReadAt(p []byte, at int64) (int, error) { return f.read(f.File, p, at) }

func TestDamageOfTheTemporaryFileIsAnErrorNotAPanic(t *testing.T) {
	records := random(rand.New(rand.NewPCG(3, 8)), 1500)
	for name, read := range map[string]func(f files.File, p []byte, at int64) (int, error){
		"cut":   func(f files.File, p []byte, at int64) (int, error) { return f.ReadAt(p[:len(p)-1], at) },
		"empty": func(files.File, []byte, int64) (int, error) { return 0, io.EOF },
		"zeros": func(_ files.File, p []byte, _ int64) (int, error) { clear(p); return len(p), nil },
		"noise": func(_ files.File, p []byte, at int64) (int, error) {
			for i := range p {
				p[i] = byte(at+int64(i)) | 0x80
			}
			return len(p), nil
		},
	} {
		b := indexbuild.NewLimited(tampered{files.OS, read}, t.TempDir(), indexbuild.NewBudget(1), small)
		err := attempt(b, records, io.Discard)
		require.Error(t, err, name)
		require.True(t, errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, indexbuild.ErrDamaged), "%s: %v", name, err)
		require.NoError(t, b.Close())
	}
}
