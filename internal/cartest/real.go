package cartest

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

var goCarFolder = sync.OnceValues(func() (string, error) {
	out, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "github.com/ipld/go-car/v2").Output()
	return strings.TrimSpace(string(out)), err
})

// Real returns the path of a CAR that others made, by its name in the testdata
// of go-car's module, such as sample-v1.car.
func Real(t testing.TB, name string) string {
	t.Helper()
	dir, err := goCarFolder()
	if err != nil {
		t.Fatalf("where go-car lies: %v", err)
	}
	path := filepath.Join(dir, "testdata", name)
	if _, err := os.Stat(path); err != nil {
		t.Fatalf("a CAR of go-car: %v", err)
	}
	return path
}

// ReadReal returns the bytes of the CAR that Real names.
func ReadReal(t testing.TB, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(Real(t, name))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// Write writes data to a new file in a folder of the test and returns its path.
func Write(t testing.TB, name string, data []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}
