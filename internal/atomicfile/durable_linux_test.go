package atomicfile_test

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/umbra-iot/umbra/internal/atomicfile"
	"github.com/umbra-iot/umbra/internal/umbradtest"
)

// Variables that make a process of the test write a file, and how.
const (
	writes  = "UMBRA_TEST_WRITE"
	creates = "UMBRA_TEST_CREATE"
)

func TestMain(m *testing.M) {
	for variable, do := range map[string]func(string, []byte, fs.FileMode) error{writes: atomicfile.Write, creates: atomicfile.Create} {
		if name := os.Getenv(variable); name != "" {
			if err := do(name, []byte("new"), 0o600); err != nil {
				fmt.Fprintln(os.Stderr, err)
				os.Exit(1)
			}
			os.Exit(0)
		}
	}
	os.Exit(m.Run())
}

// child runs a command that ends with the program of the test, which writes the file called name as variable says.
func child(t *testing.T, variable, name string, command ...string) ([]byte, error) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), command[0], append(command[1:], self)...)
	cmd.Env = append(os.Environ(), variable+"="+name)
	return cmd.CombinedOutput()
}

// A file that cannot be written leaves nothing, or what was there.
func TestFullDisk(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	name := filepath.Join(dir, "file")
	full := []string{"sh", "-c", `ulimit -f 0 && exec "$0"`}
	for _, variable := range []string{writes, creates} {
		if out, err := child(t, variable, name, full...); err == nil || !strings.Contains(string(out), "too large") {
			t.Errorf("%s: %v, %s", variable, err, out)
		}
		if list, err := os.ReadDir(dir); err != nil || len(list) != 0 {
			t.Errorf("%s leaves %v, %v", variable, list, err)
		}
	}
	if err := os.WriteFile(name, []byte("old"), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := child(t, writes, name, full...); err == nil {
		t.Errorf("a file is replaced by %s", out)
	}
	holds(t, name, "old", 0o600)
}

// The directory is synced when the file has its name.
func TestNamesOutliveAPowerCut(t *testing.T) {
	t.Parallel()
	strace := umbradtest.Tool(t, "strace")
	for variable, named := range map[string]string{writes: `rename(at2?)?\(.*"%s"`, creates: `openat\(.*"%s", .*O_EXCL`} {
		dir := t.TempDir()
		name, trace := filepath.Join(dir, "file"), filepath.Join(t.TempDir(), "trace")
		if out, err := child(t, variable, name, strace, "-f", "-y", "-o", trace); err != nil {
			umbradtest.Skip(t, "strace cannot trace: %v, %s", err, out)
		}
		calls, err := os.ReadFile(trace)
		if err != nil {
			t.Fatal(err)
		}
		settled := fmt.Sprintf(named+`.*\n(?s:.*)fsync\(\d+<%s>`, regexp.QuoteMeta(name), regexp.QuoteMeta(dir))
		if !regexp.MustCompile(settled).Match(calls) {
			t.Errorf("%s does not sync the directory:\n%s", variable, calls)
		}
	}
}

func TestCreate(t *testing.T) {
	t.Parallel()
	name := filepath.Join(t.TempDir(), "file")
	if err := atomicfile.Create(name, []byte("new"), 0o640); err != nil {
		t.Fatal(err)
	}
	holds(t, name, "new", 0o640)
	if err := atomicfile.Create(name, []byte("other"), 0o600); !errors.Is(err, fs.ErrExist) {
		t.Errorf("Create of a file that is there = %v", err)
	}
	holds(t, name, "new", 0o640)
}
