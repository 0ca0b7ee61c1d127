package umbradtest

import (
	"os"
	"os/exec"
	"testing"
)

// Skip skips a test for want of something that CI has to have: there it fails.
func Skip(tb testing.TB, format string, args ...any) {
	tb.Helper()
	if os.Getenv("CI") == "true" {
		tb.Fatalf(format, args...)
	}
	tb.Skipf(format, args...)
}

// Tool returns the path of a program that scripts/test-deps installs, or skips the test.
func Tool(tb testing.TB, name string) string {
	tb.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		Skip(tb, "%s is not installed: scripts/test-deps does that", name)
	}
	return path
}
