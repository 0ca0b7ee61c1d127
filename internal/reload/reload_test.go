package reload_test

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"github.com/umbra-iot/umbra/internal/reload"
)

func TestStampOf(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	a, b := filepath.Join(dir, "a"), filepath.Join(dir, "b")
	stamps := map[reload.Stamp]string{}
	at := time.Now()
	for _, step := range []struct {
		what string
		do   func() error
	}{
		{"none is there", func() error { return nil }},
		{"one is there", func() error { return os.WriteFile(a, []byte("x"), 0o600) }},
		{"another one is", func() error { return os.Rename(a, b) }},
		{"it is longer", func() error { return os.WriteFile(b, []byte("xx"), 0o600) }},
		{"it is newer", func() error { return os.Chtimes(b, at, at.Add(time.Second)) }},
	} {
		if err := step.do(); err != nil {
			t.Fatal(err)
		}
		s := reload.StampOf(os.Stat, a, b)
		if before, ok := stamps[s]; ok {
			t.Errorf("when %s, the stamp is that of when %s", step.what, before)
		}
		if s != reload.StampOf(os.Stat, a, b) {
			t.Errorf("when %s, the stamp is another one each time", step.what)
		}
		stamps[s] = step.what
	}
}

// A failed read is due until one succeeds, and is told once a minute.
func TestState(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		full, bad := errors.New("too many open files"), errors.New("syntax error")
		var s reload.State
		for i, step := range []struct {
			after time.Duration
			stamp reload.Stamp
			due   bool
			err   error // of the read, when it is due
			tell  bool
		}{
			{0, "", true, full, true},
			{time.Second, "", true, full, false},
			{time.Second, "", true, nil, false},
			{time.Second, "", false, nil, false},
			{time.Second, "1", true, full, true},
			{time.Second, "1", true, bad, false},
			{time.Second, "2", true, bad, true},
			{59 * time.Second, "2", true, full, false},
			{time.Second, "2", true, full, true},
			{time.Second, "2", true, full, false},
			{time.Second, "2", true, nil, false},
			{time.Hour, "2", false, nil, false},
			{time.Second, "1", true, full, true},
		} {
			time.Sleep(step.after)
			if i > 0 && s.Due(step.stamp) != step.due {
				t.Errorf("step %d: Due = %t", i, !step.due)
			}
			if !step.due {
				continue
			}
			if tell := s.Done(step.stamp, step.err); tell != step.tell || !errors.Is(s.Problem(), step.err) {
				t.Errorf("step %d: Done = %t, Problem() = %v", i, tell, s.Problem())
			}
		}
	})
}
