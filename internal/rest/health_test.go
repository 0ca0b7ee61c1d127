package rest_test

import (
	"errors"
	"strings"
	"testing"
	"time"
)

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
