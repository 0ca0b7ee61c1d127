package authn_test

import (
	"bytes"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/umbra-iot/umbra/internal/auth"
	"github.com/umbra-iot/umbra/internal/auth/authn"
)

// Guesses are all counted; the log gets some of each address, some in all, and how many it did not get.
func TestFailedLoginsDoNotFloodTheLog(t *testing.T) {
	t.Parallel()
	now := time.Unix(1_800_000_000, 0)
	var log bytes.Buffer
	a := authn.New(authn.Options{
		Methods: methods(), Directory: directory(t, write(t).file), Now: func() time.Time { return now }, Log: slog.New(slog.NewTextHandler(&log, nil)),
	})
	guess := func(from netip.Addr) {
		t.Helper()
		shown := &auth.Credentials{Listener: "keys", ClientID: "c", Username: "alice", Password: []byte("guess"), HasPassword: true, Remote: from}
		if _, err := a.Authenticate(t.Context(), shown); err == nil {
			t.Fatal("a guess gets in")
		}
	}
	lines := func() int { return strings.Count(log.String(), "login failed") }

	one := netip.MustParseAddr("192.0.2.1")
	for range 1000 {
		guess(one)
	}
	if n := lines(); n != 5 {
		t.Errorf("a thousand guesses of one address are %d lines, want 5", n)
	}
	addr := netip.MustParseAddr("2001:db8::1")
	for range 1000 {
		addr = addr.Next()
		guess(addr)
	}
	if n := lines(); n != 100 {
		t.Errorf("guesses of a thousand more addresses are %d lines, want 100", n)
	}
	now = now.Add(10 * time.Second)
	guess(one)
	if !strings.Contains(log.String(), "not_logged_before=995\n") || !strings.Contains(log.String(), "not_logged_before=905\n") {
		t.Errorf("the log does not tell of what it left out:\n%s", log.String())
	}
	if strings.Contains(log.String(), "guess") {
		t.Error("a password is in the log")
	}
	if _, err := a.Request(httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/x?secret=1", http.NoBody), "keys", nil); err == nil || strings.Contains(log.String(), "secret") {
		t.Errorf("a request: %v", err)
	}
	if got, want := a.Failures(), (authn.Failures{None: 1, Denied: 2001}); got != want {
		t.Errorf("Failures() = %+v, want %+v", got, want)
	}
}
