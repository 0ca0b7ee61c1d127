package client

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/umbra-iot/umbra/shadow"
)

// connection is one answer of a scripted server.
type connection struct {
	status int    // 0: the server is not there
	text   string // sent at once
	stays  bool   // then nothing more comes, else the connection ends
}

// script is a transport that gives its connections in turn, the last one again and again.
type script struct {
	connections []connection
	requests    []string // path, query and last event ID
}

func (s *script) RoundTrip(req *http.Request) (*http.Response, error) {
	c := s.connections[min(len(s.requests), len(s.connections)-1)]
	s.requests = append(s.requests, req.URL.RequestURI()+" "+req.Header.Get("Last-Event-ID"))
	if c.status == 0 {
		return nil, errors.New("nobody is there")
	}
	r, w := io.Pipe()
	go func() {
		_, _ = io.WriteString(w, c.text)
		if c.stays {
			<-req.Context().Done()
			w.CloseWithError(req.Context().Err())
		}
		w.Close()
	}()
	header := http.Header{"Content-Type": {"text/event-stream; charset=utf-8"}}
	return &http.Response{StatusCode: c.status, Header: header, Body: r, Request: req}, nil
}

// watch collects what Watch tells until it ends, and how long that takes.
func watch(t *testing.T, s *script, w Watch, limit time.Duration) (events, pauses []string, took time.Duration, err error) {
	t.Helper()
	c, err := New(Options{})
	if err != nil {
		t.Fatal(err)
	}
	c.http.Transport = s
	w.Lost = func(err error, pause time.Duration) {
		pauses = append(pauses, strings.TrimPrefix(err.Error(), "cannot reach http://127.0.0.1:8080: ")+" "+pause.String())
	}
	ctx, cancel := context.WithTimeoutCause(t.Context(), limit, errLimit)
	defer cancel()
	begin := time.Now()
	err = c.Watch(ctx, w, func(e Event) error {
		events = append(events, e.Type+" "+e.ID+" "+string(e.Data))
		if string(e.Data) == "end" {
			return errEnd
		}
		return nil
	})
	return events, pauses, time.Since(begin), err
}

var (
	errLimit = errors.New("limit")
	errEnd   = errors.New("end")
)

func TestWatchParsesAndResumes(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := &script{connections: []connection{
			{status: 200, text: ": hello\nid: 3\n\nevent: update\nid: 4\ndata: {\ndata: }\n\nevent: lost\ndata: x\n"},
			{status: 0},
			{status: 503},
			{status: 200, text: "id:5\n\n"},
			{status: 200, text: "event:delete\r\nid:6\r\ndata:end\r\n\r\n", stays: true},
		}}
		w := Watch{Shadow: shadow.ID{Thing: "lamp", Name: "n"}, Snapshot: true}
		events, pauses, _, err := watch(t, s, w, time.Minute)
		if !errors.Is(err, errEnd) {
			t.Errorf("Watch = %v, want %v", err, errEnd)
		}
		if diff := cmp.Diff([]string{"update 4 {\n}", "delete 6 end"}, events); diff != "" {
			t.Errorf("events (-want +got):\n%s", diff)
		}
		wantPauses := []string{
			"the server closed the connection 250ms", "nobody is there 500ms",
			"service unavailable 1s", "the server closed the connection 250ms",
		}
		if diff := cmp.Diff(wantPauses, pauses); diff != "" {
			t.Errorf("pauses (-want +got):\n%s", diff)
		}
		path := "/v1/things/lamp/events?name=n"
		wantRequests := []string{path + "&snapshot=true ", path + " 4", path + " 4", path + " 4", path + " 5"}
		if diff := cmp.Diff(wantRequests, s.requests); diff != "" {
			t.Errorf("requests (-want +got):\n%s", diff)
		}
	})
}

func TestWatchLeavesSilentConnection(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := &script{connections: []connection{
			{status: 200, text: ": alive\n\n", stays: true},
			{status: 200, text: "data: end\n\n", stays: true},
		}}
		_, pauses, took, err := watch(t, s, Watch{Prefix: "la"}, time.Hour)
		if !errors.Is(err, errEnd) || took != silence+retryFirst || len(pauses) != 1 {
			t.Errorf("Watch = %v after %v with pauses %q, want %v after %v", err, took, pauses, errEnd, silence+retryFirst)
		}
		if got := s.requests[0]; got != "/v1/events?prefix=la " {
			t.Errorf("request = %q, want that of all things with a prefix", got)
		}
	})
}

func TestWatchEnds(t *testing.T) {
	t.Parallel()
	refused := func(status int) func(error) bool {
		return func(err error) bool {
			e, ok := errors.AsType[*Error](err)
			return ok && e.Status == status
		}
	}
	tests := map[string]struct {
		connections []connection
		want        func(error) bool
	}{
		"never there":       {[]connection{{status: 0}}, func(err error) bool { _, ok := errors.AsType[*UnreachableError](err); return ok }},
		"refused":           {[]connection{{status: 400}}, refused(400)},
		"refused later":     {[]connection{{status: 200}, {status: 403}}, refused(403)},
		"broken at first":   {[]connection{{status: 500}}, refused(500)},
		"context ends":      {[]connection{{status: 200, stays: true}}, func(err error) bool { return errors.Is(err, errLimit) }},
		"ends in the pause": {[]connection{{status: 200}, {status: 0}}, func(err error) bool { return errors.Is(err, errLimit) }},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				_, _, _, err := watch(t, &script{connections: tt.connections}, Watch{}, 31*time.Second)
				if !tt.want(err) {
					t.Errorf("Watch = %v", err)
				}
			})
		})
	}
}
