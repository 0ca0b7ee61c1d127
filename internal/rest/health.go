package rest

import (
	"context"
	"net/http"
	"sync"
	"time"

	"github.com/umbra-iot/umbra/internal/auth"
)

const (
	readyTimeout = time.Second            // for the store to answer
	readyFresh   = 200 * time.Millisecond // how long an answer is good for
)

// readiness remembers for a moment whether the store answers, so that probes do not load it.
type readiness struct {
	mu      sync.Mutex // guards what follows; held while the store is asked, for at most readyTimeout
	checked time.Time
	ok      bool
}

// check is one element of the verbose answer.
type check struct {
	Name  string `json:"name"`
	OK    bool   `json:"ok"`
	Error string `json:"error,omitempty"`

	Warning string `json:"warning,omitempty"` // of a check that is OK all the same
}

// livez says that the process serves requests.
func (a *api) livez(w http.ResponseWriter, _ *http.Request) error {
	writeBody(w, http.StatusOK, contentText, []byte("ok\n"))
	return nil
}

const contentText = "text/plain; charset=utf-8"

// readyz says whether requests can be served: 503 while the store does not answer.
func (a *api) readyz(w http.ResponseWriter, r *http.Request) error {
	c := check{Name: "store", OK: a.storeReady(r)}
	status, text := http.StatusOK, "ok\n"
	if !c.OK {
		c.Error = "does not answer"
		status, text = http.StatusServiceUnavailable, "store does not answer\n"
	}
	if r.URL.Query().Has("verbose") {
		writeJSON(w, status, contentJSON, struct {
			Checks []check `json:"checks"`
		}{append([]check{c}, a.warnings(r)...)})
		return nil
	}
	writeBody(w, status, contentText, []byte(text))
	return nil
}

// warnings are what the settings leave open, and files and mappings that cannot be used, as checks. They are for
// operators: where there is authentication, for those who have proved who they are and may see metrics.
func (a *api) warnings(r *http.Request) []check {
	if a.Rights != nil && (auth.FromContext(r.Context()).IsAnonymous() || !auth.Allowed(rightsOf(r.Context()), auth.GetMetrics, "")) {
		return nil
	}
	var list []check
	if a.Warnings != nil {
		for _, text := range a.Warnings() {
			list = append(list, check{Name: "security", OK: true, Warning: text})
		}
	}
	if a.Mappings != nil {
		for _, text := range a.Mappings.Problems() {
			list = append(list, check{Name: "mappings", OK: true, Warning: text})
		}
	}
	return list
}

func (a *api) storeReady(r *http.Request) bool {
	a.ready.mu.Lock()
	defer a.ready.mu.Unlock()
	if time.Since(a.ready.checked) < readyFresh {
		return a.ready.ok
	}
	// Not the request's own context: others wait for this answer.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(r.Context()), readyTimeout)
	defer cancel()
	a.ready.ok, a.ready.checked = a.Things.Ready(ctx) == nil, time.Now()
	return a.ready.ok
}
