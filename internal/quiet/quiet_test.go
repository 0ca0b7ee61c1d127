package quiet_test

import (
	"bytes"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/umbra-iot/umbra/internal/quiet"
)

func TestLog(t *testing.T) {
	t.Parallel()
	now := time.Unix(1_800_000_000, 0)
	var out bytes.Buffer
	l := quiet.New(slog.New(slog.NewTextHandler(&out, nil)), func() time.Time { return now })
	say := func(n int, source, text string) {
		for range n {
			l.Log(t.Context(), slog.LevelWarn, source, text, "source", source)
		}
	}
	check := func(step string, want ...string) {
		t.Helper()
		var got []string
		for line := range strings.Lines(out.String()) {
			_, rest, _ := strings.Cut(line, "msg=")
			got = append(got, strings.TrimSpace(rest))
		}
		if strings.Join(got, "\n") != strings.Join(want, "\n") {
			t.Errorf("%s: %d lines, %q, want %q", step, len(got), got, want)
		}
		out.Reset()
	}
	say(5, "a", "x")
	check("the first ones", "x source=a", "x source=a", "x source=a", "x source=a", "x source=a")
	say(7, "a", "x")
	say(1, "b", "x")
	say(1, "a", "y")
	check("another source, another message", "x source=b not_logged_before=7", "y source=a")
	now = now.Add(quiet.Window)
	say(1, "a", "x")
	say(6, "b", "x")
	check("the next window", append([]string{"x source=a"}, strings.Split(strings.Repeat("x source=b;", 5), ";")[:5]...)...)
	now = now.Add(quiet.Window)
	say(1, "b", "x")
	check("what was left out in the window before", "x source=b not_logged_before=1")
	for i := range 1000 {
		say(1, fmt.Sprint("s", i), "x")
	}
	if n := strings.Count(out.String(), "\n"); n != quiet.InAll-1 {
		t.Errorf("a thousand sources are %d lines, want %d", n, quiet.InAll-1)
	}
	out.Reset()
	l.Log(t.Context(), slog.LevelDebug, "c", "z")
	check("a level that is not logged")
	l.Log(t.Context(), slog.LevelWarn, "c", "z", "text", strings.Repeat("x", 65000))
	check("a long text", "z text="+strings.Repeat("x", quiet.TextBytes)+"…")
}
