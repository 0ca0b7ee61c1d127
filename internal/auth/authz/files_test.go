package authz_test

import (
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/umbra-iot/umbra/internal/auth"
	"github.com/umbra-iot/umbra/internal/auth/authz"
)

// Files are read again when they have changed. What cannot be used leaves everything as it was, and is told of.
func TestFilesAreReadAgain(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "policies")
	write := func(name, text string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(os.Mkdir(dir, 0o700))
	write("x.json", onlyX)
	write("attachments.json", `{"user:alice": ["x"]}`)
	e, err := authz.New(authz.Options{Files: os.DirFS(dir)})
	must(err)
	rights := e.Rights(who("alice"), auth.Link{})
	told := 0
	e.OnChange(func() { told++ })
	check := func(step, allowed string, problems int, changes int) {
		t.Helper()
		e.Reload(false)
		for _, topic := range []string{"x", "yy"} {
			if got := rights.Allows(auth.Publish, topic); got != (topic == allowed) {
				t.Errorf("%s: publish on %s: %t", step, topic, got)
			}
		}
		if got := e.Problems(); len(got) != problems || told != changes {
			t.Errorf("%s: problems %q, %d changes, want %d", step, got, told, changes)
		}
	}
	check("at first", "x", 0, 0)
	write("x.json", strings.Replace(onlyX, "topic/x", "topic/yy", 1))
	check("a changed policy", "yy", 0, 1)
	check("nothing", "yy", 0, 1)
	write("x.json", `{"Version": "2012-10-17", "Statement": [`)
	check("a bad policy", "yy", 1, 1)
	check("the same", "yy", 1, 1)
	write("things.json", `{"a b": {}}`)
	check("a bad thing too", "yy", 1, 1)
	write("x.json", onlyX)
	check("only the thing is bad", "yy", 1, 1)
	must(os.Remove(filepath.Join(dir, "things.json")))
	check("all good again", "x", 0, 2)
	write("attachments.json", `{"alice": ["x"]}`)
	check("a target that is none", "x", 1, 2)
	must(os.Rename(dir, dir+"2"))
	check("the folder is gone", "x", 1, 2)
	must(os.Rename(dir+"2", dir))
	must(os.Remove(filepath.Join(dir, "attachments.json")))
	check("nothing attached", "", 0, 3)

	write("z.json", strings.Replace(onlyX, "topic/x", "topic/yy", 1)) // links that are swapped
	must(os.Rename(filepath.Join(dir, "z.json"), filepath.Join(dir, "target")))
	must(os.Remove(filepath.Join(dir, "x.json")))
	must(os.Symlink("target", filepath.Join(dir, "x.json")))
	write("attachments.json", `{"user:alice": ["x"]}`)
	check("a link", "yy", 0, 4)
	must(os.WriteFile(filepath.Join(dir, "target2"), []byte(onlyX), 0o600))
	must(os.Rename(filepath.Join(dir, "target2"), filepath.Join(dir, "target")))
	check("what a link leads to", "x", 0, 5)
}

// What is perhaps misspelt in a file is in the log, at the start and when the file changes.
func TestDoubtsOfFilesAreLogged(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	write := func(action string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, "x.json"), []byte(strings.Replace(onlyX, "iot:Publish", action, 1)), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	var log strings.Builder
	write("iot:Publsh")
	e, err := authz.New(authz.Options{Files: os.DirFS(dir), Log: slog.New(slog.NewTextHandler(&log, nil))})
	if err != nil {
		t.Fatal(err)
	}
	write("iot:Pubblish")
	e.Reload(false)
	for _, action := range []string{"iot:Publsh", "iot:Pubblish"} {
		if n := strings.Count(log.String(), action); n != 1 {
			t.Errorf("%s is %d times in the log:\n%s", action, n, log.String())
		}
	}
}

// closed is a folder whose files can be looked at, and not be read as long as err is there.
type closed struct {
	fs.FS
	err error
}

// ReadFile implements [fs.ReadFileFS].
func (c *closed) ReadFile(name string) ([]byte, error) {
	if c.err != nil {
		return nil, c.err
	}
	return fs.ReadFile(c.FS, name) //nolint:wrapcheck // a test
}

// A change of a file that cannot be read at that moment counts when it can, although the file does not change any more.
func TestFilesThatCannotBeReadForAWhile(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	write := func(name, text string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("x.json", onlyX)
	write("attachments.json", `{"user:alice": ["x"]}`)
	files := &closed{FS: os.DirFS(dir)}
	e, err := authz.New(authz.Options{Files: files})
	if err != nil {
		t.Fatal(err)
	}
	rights := e.Rights(who("alice"), auth.Link{})
	write("x.json", strings.Replace(onlyX, "Allow", "Deny", 1))
	files.err = errors.New("permission denied")
	e.Reload(false)
	if !rights.Allows(auth.Publish, "x") || len(e.Problems()) != 1 {
		t.Errorf("while the file cannot be read: %t, %q", rights.Allows(auth.Publish, "x"), e.Problems())
	}
	files.err = nil
	e.Reload(false)
	if rights.Allows(auth.Publish, "x") || len(e.Problems()) != 0 {
		t.Errorf("when it can be read again: %t, %q", rights.Allows(auth.Publish, "x"), e.Problems())
	}
}
