package audit_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/umbra-iot/umbra/internal/audit"
)

// rotating is a log with small files, of which four are kept.
type rotating struct {
	*audit.Log
	t     *testing.T
	name  string
	count int
}

func newRotating(t *testing.T) *rotating {
	t.Helper()
	name := filepath.Join(t.TempDir(), "audit.jsonl")
	return &rotating{Log: open(t, audit.Options{File: name, FileBytes: 300, Files: 4}), t: t, name: name}
}

// add adds n records, about two of which go into a file.
func (r *rotating) add(n int) {
	for range n {
		r.Add(audit.Record{Principal: "user:alice", Action: "umbra:PutPolicy", Resource: fmt.Sprintf("policy/%03d", r.count), Outcome: audit.Done})
		r.count++
	}
}

// holds fails the test unless the files have the last n records, and no others.
func (r *rotating) holds(n int) {
	r.t.Helper()
	var got []string
	for i := 3; i >= 0; i-- {
		name := r.name
		if i > 0 {
			name = fmt.Sprintf("%s.%d", r.name, i)
		}
		text, err := os.ReadFile(name)
		if err != nil && !os.IsNotExist(err) {
			continue // a directory of the test
		}
		for line := range strings.Lines(string(text)) {
			_, rest, _ := strings.Cut(line, "policy/")
			got = append(got, rest[:3])
		}
	}
	var want []string
	for i := r.count - n; i < r.count; i++ {
		want = append(want, fmt.Sprintf("%03d", i))
	}
	if strings.Join(got, " ") != strings.Join(want, " ") {
		r.t.Errorf("the files have the records %s, want %s", got, want)
	}
}

// While files cannot be renamed the log goes on in the one that is open, and loses nothing.
func TestRotationWithoutRenames(t *testing.T) {
	t.Parallel()
	r := newRotating(t)
	r.add(6)
	r.holds(6)
	blocked := r.name + ".3"
	if err := os.MkdirAll(filepath.Join(blocked, "x"), 0o700); err != nil {
		t.Fatal(err)
	}
	r.add(6)
	r.holds(12)
	if err := os.RemoveAll(blocked); err != nil {
		t.Fatal(err)
	}
	r.add(1)
	r.holds(13)
}

// So it is while no file can be opened, and those that were rotated stay where they are.
func TestRotationWithoutDescriptors(t *testing.T) {
	t.Parallel()
	const child = "UMBRA_TEST_ROTATION"
	if os.Getenv(child) == "" { // the limit is one of the process
		cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^"+t.Name()+"$", "-test.v")
		cmd.Env = append(os.Environ(), child+"=1")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("%v\n%s", err, out)
		}
		return
	}
	r := newRotating(t)
	r.add(6)
	var before syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &before); err != nil {
		t.Fatal(err)
	}
	none := syscall.Rlimit{Cur: 3, Max: before.Max}
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &none); err != nil {
		t.Fatal(err)
	}
	r.add(6)
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &before); err != nil {
		t.Fatal(err)
	}
	r.holds(12)
	r.add(1)
	r.holds(13)
}
