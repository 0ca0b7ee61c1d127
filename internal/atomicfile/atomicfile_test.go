package atomicfile_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/umbra-iot/umbra/internal/atomicfile"
)

// holds fails the test unless a file has this content and mode, and is alone in its directory but for others.
func holds(t *testing.T, name, content string, mode fs.FileMode, others ...string) {
	t.Helper()
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	info, err := os.Lstat(name)
	if err != nil {
		t.Fatal(err)
	}
	if string(text) != content || info.Mode() != mode {
		t.Errorf("%s has %q and mode %v, want %q and %v", name, text, info.Mode(), content, mode)
	}
	list, err := os.ReadDir(filepath.Dir(name))
	if err != nil || len(list) != 1+len(others) {
		t.Errorf("beside %s there are %v, %v", name, list, err)
	}
}

func TestWrite(t *testing.T) {
	t.Parallel()
	name := filepath.Join(t.TempDir(), "file")
	write := func(content string) {
		t.Helper()
		if err := atomicfile.Write(name, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("new")
	holds(t, name, "new", 0o600)
	if err := os.Chmod(name, 0o640); err != nil {
		t.Fatal(err)
	}
	write("replaced")
	holds(t, name, "replaced", 0o640)
}

func TestLinks(t *testing.T) {
	t.Parallel()
	dir, elsewhere := t.TempDir(), t.TempDir()
	file, link, second := filepath.Join(elsewhere, "file"), filepath.Join(dir, "link"), filepath.Join(dir, "second")
	for name, to := range map[string]string{link: file, second: "link"} {
		if err := os.Symlink(to, name); err != nil {
			t.Fatal(err)
		}
	}
	if err := atomicfile.Write(second, []byte("x"), 0o600); err == nil {
		t.Error("a link that leads to no file is replaced")
	}
	if err := os.WriteFile(file, []byte("old"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := atomicfile.Write(second, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	holds(t, file, "x", 0o600)
	if to, err := os.Readlink(second); err != nil || to != "link" {
		t.Errorf("the link leads to %s, %v", to, err)
	}
	if list, err := os.ReadDir(dir); err != nil || len(list) != 2 {
		t.Errorf("beside the links there are %v, %v", list, err)
	}
}
