package rest_test

import (
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/umbra-iot/umbra/internal/rest"
)

func TestRefuseOtherSites(t *testing.T) {
	t.Parallel()
	const own = "umbra.example:8080"
	listed := []string{"https://app.example", "*.Friends.example:8443"}
	for _, tt := range []struct {
		method, origin, site string // the headers Origin and Sec-Fetch-Site
		origins              []string
		accepted             bool
	}{
		{"POST", "", "", nil, true}, // no browser
		{"POST", "http://" + own, "", nil, true},
		{"POST", "http://" + own, "same-origin", nil, true},
		{"POST", "https://evil.example", "", nil, false},
		{"DELETE", "https://evil.example", "cross-site", nil, false},
		{"PATCH", "http://umbra.example:3000", "same-site", nil, false},
		{"PUT", "", "cross-site", nil, false},
		{"POST", "null", "", listed, false},
		{"POST", "http://" + own + ".evil.example", "", nil, false},
		{"GET", "https://evil.example", "cross-site", nil, true},
		{"POST", "https://app.example", "cross-site", listed, true},
		{"POST", "http://app.example", "cross-site", listed, false},
		{"POST", "https://a.friends.example:8443", "", listed, true},
		{"POST", "https://app.example.evil", "", listed, false},
		{"POST", "https://evil.example", "cross-site", []string{"*"}, true},
	} {
		r := httptest.NewRequest(tt.method, "/things/lamp/shadow", strings.NewReader("{}"))
		r.Host = own
		for name, value := range map[string]string{"Origin": tt.origin, "Sec-Fetch-Site": tt.site} {
			if value != "" {
				r.Header.Set(name, value)
			}
		}
		w, want := httptest.NewRecorder(), http.StatusForbidden
		if tt.accepted {
			want = http.StatusNoContent
		}
		rest.RefuseOtherSites(tt.origins, slog.New(slog.DiscardHandler), noContent()).ServeHTTP(w, r)
		if w.Code != want || !tt.accepted && !strings.Contains(w.Body.String(), "websocket-origins") {
			t.Errorf("%+v: %d %s, want %d", tt, w.Code, w.Body, want)
		}
	}
}
