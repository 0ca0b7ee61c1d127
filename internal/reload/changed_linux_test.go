package reload_test

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/umbra-iot/umbra/internal/reload"
)

// A file that takes the place of another one is seen, although both have the same size and time.
func TestStampOfFilesWithTheSameTime(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	name, next := filepath.Join(dir, "name"), filepath.Join(dir, "next")
	replace := func(text string) reload.Stamp {
		t.Helper()
		fixed := time.Unix(1, 0)
		if err := errors.Join(os.WriteFile(next, []byte(text), 0o600), os.Chtimes(next, fixed, fixed), os.Rename(next, name)); err != nil {
			t.Fatal(err)
		}
		return reload.StampOf(os.Stat, name)
	}
	old := replace("a")
	for deadline := time.Now().Add(time.Minute); replace("b") == old; { // until the clock of the file system has gone on
		if time.Now().After(deadline) {
			t.Fatal("the stamp stays the same")
		}
	}
}
