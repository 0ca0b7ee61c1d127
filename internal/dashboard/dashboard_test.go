package dashboard_test

import (
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/umbra-iot/umbra/internal/dashboard"
)

func get(path string, header ...string) *http.Response {
	r := httptest.NewRequest(http.MethodGet, path, nil)
	for i := 0; i+1 < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	dashboard.Handler().ServeHTTP(w, r)
	return w.Result()
}

// TestHandler has the browser keep what has not changed, and confines it to this server.
func TestHandler(t *testing.T) {
	t.Parallel()
	page := get(dashboard.Root)
	defer page.Body.Close()
	if page.StatusCode != http.StatusOK || page.Header.Get("Content-Type") != "text/html; charset=utf-8" {
		t.Errorf("GET %s = %d, %s", dashboard.Root, page.StatusCode, page.Header.Get("Content-Type"))
	}
	again := get(dashboard.Root, "If-None-Match", page.Header.Get("ETag"))
	defer again.Body.Close()
	if again.StatusCode != http.StatusNotModified {
		t.Errorf("the same again is %d", again.StatusCode)
	}
	for _, path := range []string{dashboard.Root, dashboard.Root + "main.js", dashboard.Root + "none"} {
		resp := get(path)
		defer resp.Body.Close()
		csp := resp.Header.Get("Content-Security-Policy")
		if !strings.HasPrefix(csp, "default-src 'none'; ") || strings.Contains(csp, "unsafe") || !strings.Contains(csp, "frame-ancestors 'none'") {
			t.Errorf("Content-Security-Policy of %s is %q", path, csp)
		}
		if resp.Header.Get("X-Content-Type-Options") != "nosniff" {
			t.Errorf("the type of %s can be guessed", path)
		}
		if resp.Header.Get("Cross-Origin-Resource-Policy") != "same-origin" {
			t.Errorf("other sites can load %s, and so learn that it is there", path)
		}
	}
}

// TestNothingFromElsewhere looks for what the policy would keep the browser from, and for text that would become HTML.
func TestNothingFromElsewhere(t *testing.T) {
	t.Parallel()
	bad := regexp.MustCompile(`https?://|innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(|\son[a-z]+=|\sstyle=`)
	files, err := filepath.Glob("static/*")
	if err != nil {
		t.Fatal(err)
	}
	pages, err := filepath.Glob("static/pages/*")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range append(files, pages...) {
		text, err := os.ReadFile(name)
		if err != nil || filepath.Ext(name) == ".svg" {
			continue // a folder, or a picture
		}
		if found := bad.Find(text); found != nil {
			t.Errorf("%s has %q", name, found)
		}
	}
	if len(files) < 5 || len(pages) < 5 {
		t.Errorf("%d files and %d pages", len(files), len(pages))
	}
}
