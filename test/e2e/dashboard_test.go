package e2e_test

import (
	"io"
	"net/http"
	"strconv"
	"strings"
	"testing"

	"github.com/umbra-iot/umbra/internal/umbradtest"
)

// chromium is the browser that the tests use.
const chromium = "chromium-headless-shell"

// TestDashboard uses the dashboard in a browser: as an administrator, and as a device that may see nothing but its own.
func TestDashboard(t *testing.T) {
	t.Parallel()
	n, browser := newNode(t, "npm"), umbradtest.Tool(t, chromium)
	l := startLogin(t, "--store=memory:")
	n.run(t, "dashboard.js", browser, l.URL(), l.adminPassword, l.token)
}

// TestDashboardWarns has the dashboard say loudly that everybody is let in, and that the server is gone.
func TestDashboardWarns(t *testing.T) {
	t.Parallel()
	n, browser := newNode(t, "npm"), umbradtest.Tool(t, chromium)
	u := umbradtest.Start(t, "--store=memory:", "--allow-anonymous", "--listeners=http://0.0.0.0:0")
	n.run(t, "warnings.js", browser, u.URL(), strconv.Itoa(u.PID()), "anybody who reaches this address may read and change everything (allow-anonymous)")
}

// TestDashboardFiles asks for the page without a browser: it is there for everybody, unless it is switched off, and it asks
// nobody's browser for a password.
func TestDashboardFiles(t *testing.T) {
	t.Parallel()
	l := startLogin(t, "--store=memory:", "--listeners=ws://127.0.0.1:0")
	nobody := func(*http.Request) {}
	for path, want := range map[string]int{
		"/": 200, "/dashboard": 200, "/dashboard/": 200, "/dashboard/pages/thing.js": 200,
		"/dashboard/pages/": 404, "/dashboard/static/main.js": 404, "/dashboard/..%2fdashboard.go": 404, "/dashboard.html": 401, "/v1/things": 401,
	} {
		if status, body := l.do(t, http.MethodGet, path, "", nobody); status != want {
			t.Errorf("GET %s = %d %.100s, want %d", path, status, body, want)
		}
	}
	if status, _ := l.do(t, http.MethodPost, "/dashboard/", "", nobody); status != http.StatusMethodNotAllowed {
		t.Errorf("POST = %d", status)
	}
	if status, _ := l.do(t, http.MethodGet, "/dashboard/", "", func(r *http.Request) { r.URL.Host = l.Addr("ws") }); status != http.StatusNotFound {
		t.Errorf("a listener for WebSockets alone answers %d", status)
	}
	if got := challenges(t, l.URL()+"/v1/things", false); !strings.Contains(got, "Basic") {
		t.Errorf("the challenges are %s", got)
	}
	if got := challenges(t, l.URL()+"/v1/things", true); got != `Bearer realm="umbra"` {
		t.Errorf("the challenges for a page are %s", got)
	}
	off := umbradtest.Start(t, "--store=memory:", "--dashboard=false")
	resp, err := http.Get(off.URL() + "/dashboard/")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusNotFound {
		t.Errorf("a dashboard that is off answers %d", resp.StatusCode)
	}
}

// challenges returns how a server asks who makes a request, which the script of a page makes, or not.
func challenges(t *testing.T, url string, byPage bool) string {
	t.Helper()
	req, err := http.NewRequestWithContext(wait(t), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	if byPage {
		req.Header.Set("X-Requested-With", "umbra-dashboard")
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	_, _ = io.Copy(io.Discard, resp.Body)
	return strings.Join(resp.Header.Values("WWW-Authenticate"), ", ")
}
