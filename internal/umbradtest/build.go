package umbradtest

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
)

// Binary returns the path of umbrad, built from the source tree of the test. A test with the race
// detector gets a umbrad with the race detector.
func Binary(tb testing.TB) string {
	tb.Helper()
	return built(tb, buildUmbrad)
}

func built(tb testing.TB, build func() (string, error)) string {
	tb.Helper()
	path, err := build()
	if err != nil {
		tb.Fatal(err)
	}
	return path
}

// Build builds a program of this module, such as "./examples/lamp", and returns its path.
func Build(tb testing.TB, pkg string) string {
	tb.Helper()
	once, _ := builds.LoadOrStore(pkg, sync.OnceValues(func() (string, error) { return build(pkg) }))
	return built(tb, once.(func() (string, error)))
}

// Root returns the top directory of the module. The result of a test that calls it (or builds a
// program) is not taken from go test's cache after a change of any source file.
func Root(tb testing.TB) string {
	tb.Helper()
	root, err := moduleRoot()
	if err != nil {
		tb.Fatal(err)
	}
	if err := noteSources(root); err != nil {
		tb.Fatal("walking the sources: ", err)
	}
	return root
}

// Each of these builds at most once in a test process.
var (
	buildUmbrad  = sync.OnceValues(func() (string, error) { return build("./cmd/umbrad") })
	buildTorture = sync.OnceValues(func() (string, error) { return build("./cmd/umbrad", "torture") })
	builds       sync.Map // by package: func() (string, error)
)

// build puts the program, built with the given tags, into bin/test of the module, where the next test process finds it
// again: go build leaves a binary alone that is up to date.
func build(pkg string, tags ...string) (string, error) {
	root, err := moduleRoot()
	if err != nil {
		return "", err
	}
	if err := noteSources(root); err != nil {
		return "", fmt.Errorf("walking the sources: %w", err)
	}
	dir := filepath.Join(root, "bin", "test")
	args := []string{"build"}
	if race {
		dir += "-race"
		args = append(args, "-race")
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", err
	}
	unlock, err := lock(filepath.Join(dir, ".lock"))
	if err != nil {
		return "", err
	}
	defer unlock()
	path := filepath.Join(dir, strings.Join(append([]string{filepath.Base(pkg)}, tags...), "-"))
	cmd := exec.Command("go", append(args, "-tags", strings.Join(tags, ","), "-o", path, pkg)...)
	cmd.Dir = root
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("go build %s: %w\n%s", pkg, err, out)
	}
	return path, nil
}

func moduleRoot() (string, error) {
	out, err := exec.Command("go", "env", "GOMOD").Output()
	if err != nil {
		return "", fmt.Errorf("go env GOMOD: %w", err)
	}
	return filepath.Dir(strings.TrimSpace(string(out))), nil
}

// noteSources reads the directories of the module: what a test reads is part of the key under which
// go test caches its result, so a change of any source file makes the test run again.
func noteSources(root string) error {
	skip := []string{".git", "bin", "node_modules", "umbra-data"}
	return filepath.WalkDir(root, func(_ string, d fs.DirEntry, err error) error {
		switch {
		case errors.Is(err, fs.ErrNotExist): // another test's temporary directory
			return nil
		case err == nil && d.IsDir() && slices.Contains(skip, d.Name()):
			return fs.SkipDir
		}
		return err
	})
}

// lock keeps the test processes of one go test run from building at the same time.
func lock(path string) (unlock func(), err error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX); err != nil {
		f.Close()
		return nil, fmt.Errorf("locking %s: %w", path, err)
	}
	return func() { f.Close() }, nil
}
