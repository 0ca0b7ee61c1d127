package rest_test

import (
	"bytes"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/umbra-iot/umbra/internal/quiet"
	"github.com/umbra-iot/umbra/internal/rest"
)

func TestRefuseOtherHosts(t *testing.T) {
	t.Parallel()
	listed := []string{"umbra.example", "*.Home", "host-?"}
	for _, tt := range []struct {
		host     string
		names    []string
		accepted bool
	}{
		{"127.0.0.1:8080", nil, true},
		{"127.0.0.1", nil, true},
		{"192.0.2.7:8080", nil, true},
		{"[::1]:8080", nil, true},
		{"[::1]", nil, true},
		{"localhost:8080", nil, true},
		{"LocalHost", nil, true},
		{"localhost.", nil, true},
		{"a.b.localhost:8080", nil, true},
		{"evil.example:8080", nil, false},
		{"evil.example", listed, false},
		{"localhost.evil.example", nil, false},
		{"notlocalhost", nil, false},
		{"127.0.0.1.evil.example", nil, false},
		{"127.0.0.1@evil.example", nil, false},
		{"0x7f000001.evil.example", nil, false},
		{"", nil, false},
		{"umbra.example:8443", listed, true},
		{"Umbra.Example.", listed, true},
		{"umbra.example.evil", listed, false},
		{"a.home", listed, true},
		{"home", listed, false},
		{"host-1", listed, true},
		{"host-12", listed, false},
		{"evil.example", []string{"*"}, true},
		{"", []string{"*"}, true},
	} {
		r := httptest.NewRequest(http.MethodGet, "/things/lamp/shadow", nil)
		r.Host = tt.host
		w, want := httptest.NewRecorder(), http.StatusMisdirectedRequest
		if tt.accepted {
			want = http.StatusNoContent
		}
		rest.RefuseOtherHosts(tt.names, slog.New(slog.DiscardHandler), noContent()).ServeHTTP(w, r)
		if w.Code != want || !tt.accepted && !strings.Contains(w.Body.String(), "setting hosts") {
			t.Errorf("host %q with the names %q: %d %s, want %d", tt.host, tt.names, w.Code, w.Body, want)
		}
	}
}

func noContent() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) })
}

// TestRefusalsOfHosts looks at the answers in both forms, and at the log after many of them.
func TestRefusalsOfHosts(t *testing.T) {
	t.Parallel()
	var log bytes.Buffer
	h := rest.RefuseOtherHosts(nil, slog.New(slog.NewTextHandler(&log, nil)), noContent())
	for path, want := range map[string]string{"/v1/things": "application/problem+json", "/things/lamp/shadow": "application/json"} {
		for range quiet.PerSource {
			r := httptest.NewRequest(http.MethodGet, path, nil)
			r.Host = strings.Repeat("x", 10_000)
			w := httptest.NewRecorder()
			h.ServeHTTP(w, r)
			if got := w.Header(); got.Get("Content-Type") != want || got.Get("x-amzn-ErrorType") != "MisdirectedRequestException:" {
				t.Errorf("%s is answered with the headers %v", path, got)
			}
		}
	}
	if n := strings.Count(log.String(), "\n"); n != quiet.PerSource || !strings.Contains(log.String(), "setting hosts") || log.Len() > 1000*n {
		t.Errorf("the log has %d lines: %.2000s", n, &log)
	}
}
