package rest_test

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/umbra-iot/umbra/internal/auth"
	"github.com/umbra-iot/umbra/internal/rest"
)

// Warnings are for those who may see metrics. Nobody else is told, or refused: the state is for all.
func TestWarningsAreForOperators(t *testing.T) {
	t.Parallel()
	alice := &auth.Principal{ID: "user:alice", Kind: auth.User}
	for name, tt := range map[string]struct {
		rights may // nil: there is no authentication
		who    *auth.Principal
		told   bool
	}{
		"without authentication": {nil, nil, true},
		"operator":               {func(action, _ string) bool { return action == "umbra:GetMetrics" }, alice, true},
		"user":                   {func(action, _ string) bool { return action != "umbra:GetMetrics" }, alice, false},
		"stranger":               {func(string, string) bool { return true }, nil, false},
		"anonymous":              {func(string, string) bool { return true }, auth.Nobody(), false},
	} {
		handler := rest.New(rest.Options{
			Things: newServer(t).things, Warnings: func() []string { return []string{"a weakness"} },
			Rights: func() func(*http.Request) auth.Rights {
				if tt.rights == nil {
					return nil
				}
				return func(*http.Request) auth.Rights { return tt.rights }
			}(),
		})
		known := rest.Recognize(func(*http.Request) (*auth.Principal, error) {
			if tt.who == nil {
				return nil, auth.ErrDenied
			}
			return tt.who, nil
		}, handler)
		w := httptest.NewRecorder()
		known.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/readyz?verbose", nil))
		if told := strings.Contains(w.Body.String(), "a weakness"); w.Code != http.StatusOK || told != tt.told {
			t.Errorf("%s: %d %s", name, w.Code, w.Body)
		}
	}
}

func TestHealth(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	s.want(200, "GET", "/livez", "")
	s.want(200, "GET", "/readyz", "")
	s.store.SetDown(errors.New("secret"))
	deadline := time.Now().Add(patience)
	for s.do("GET", "/readyz", "").status != 503 { // the answer is kept for a moment
		if time.Now().After(deadline) {
			t.Fatal("readyz stays 200")
		}
	}
	if a := s.do("GET", "/readyz?verbose", ""); a.status != 503 || !strings.Contains(a.body, `"name":"store","ok":false`) || strings.Contains(a.body, "secret") {
		t.Errorf("readyz?verbose = %d %s, want 503 and a store that is not ok", a.status, a.body)
	}
	s.want(200, "GET", "/livez", "")
	s.store.SetDown(nil)
	for s.do("GET", "/readyz?verbose", "").status != 200 {
		if time.Now().After(deadline) {
			t.Fatal("readyz stays 503")
		}
	}
}
