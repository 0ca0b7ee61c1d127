package rest_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/umbra-iot/umbra/broker"
	"github.com/umbra-iot/umbra/internal/rest"
	"github.com/umbra-iot/umbra/shadow"
	"github.com/umbra-iot/umbra/statestore"
	"github.com/umbra-iot/umbra/statestore/memstore"
	"github.com/umbra-iot/umbra/statestore/storetest"
	"github.com/umbra-iot/umbra/test/mqtttest"
	"github.com/umbra-iot/umbra/things"
)

// patience bounds every wait of the tests.
const patience = 60 * time.Second

// server is the real service behind a real HTTP server. Every answer is held against openapi.json.
type server struct {
	t      *testing.T
	http   *httptest.Server
	store  *storetest.Faulty
	things *things.Service
	broker *broker.Broker
	feed   *rest.Feed
	spec   *spec

	serving sync.WaitGroup // of MQTT listeners
}

// setup changes what a test wants to have different.
type setup struct {
	store   statestore.Options
	broker  broker.Options
	shared  bool // other processes write to the store
	options rest.Options
}

// sharedStore is a store that other processes write to.
type sharedStore struct{ statestore.Store }

// Shared implements [statestore.Store].
func (sharedStore) Shared() bool { return true }

func newServer(t *testing.T, change ...func(*setup)) *server {
	t.Helper()
	var with setup
	for _, c := range change {
		c(&with)
	}
	s := &server{t: t, store: storetest.NewFaulty(memstore.New(with.store)), feed: rest.NewFeed(), spec: loadSpec(t)}
	var err error
	if s.broker, err = broker.New(with.broker); err != nil {
		t.Fatal(err)
	}
	var store statestore.Store = s.store
	if with.shared {
		store = sharedStore{store}
	}
	s.things = things.New(things.Options{Store: store, Publisher: things.Publishers{s.broker, s.feed}})
	s.broker.SetService(s.things)
	if err := s.things.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	s.broker.Start()
	with.options.Things, with.options.Broker, with.options.Feed = s.things, s.broker, s.feed
	s.http = httptest.NewUnstartedServer(rest.New(with.options))
	s.http.Config.ReadTimeout = with.options.RequestTimeout
	s.http.Start()
	t.Cleanup(func() {
		s.feed.Close()
		s.http.Close()
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if err := s.broker.Shutdown(ctx); err != nil {
			t.Errorf("Shutdown() = %v", err)
		}
		s.serving.Wait()
		if err := s.things.Close(ctx); err != nil {
			t.Errorf("Close() = %v", err)
		}
	})
	return s
}

// mqtt connects an MQTT client to the broker, until the test ends.
func (s *server) mqtt(o mqtttest.Options) *mqtttest.Client {
	s.t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		s.t.Fatal(err)
	}
	s.serving.Go(func() {
		if err := s.broker.ServeTCP(l); err != nil && !errors.Is(err, net.ErrClosed) {
			s.t.Errorf("ServeTCP() = %v", err)
		}
	})
	ctx, cancel := context.WithTimeout(s.t.Context(), patience)
	defer cancel()
	c, err := mqtttest.Dial(ctx, l.Addr().String(), o)
	if err != nil {
		s.t.Fatal(err)
	}
	return c
}

// answer is an HTTP answer.
type answer struct {
	status int
	header http.Header
	body   string
}

// do sends a request. header are names and values in turn.
func (s *server) do(method, path, body string, header ...string) answer {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), patience)
	defer cancel()
	var payload io.Reader
	if body != "" {
		payload = strings.NewReader(body)
	}
	req, err := http.NewRequestWithContext(ctx, method, s.http.URL+path, payload)
	if err != nil {
		s.t.Fatal(err)
	}
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := s.http.Client().Do(req)
	if err != nil {
		s.t.Fatalf("%s %s: %v", method, path, err)
	}
	defer resp.Body.Close()
	got, err := io.ReadAll(resp.Body)
	if err != nil {
		s.t.Fatalf("%s %s: %v", method, path, err)
	}
	a := answer{resp.StatusCode, resp.Header, string(got)}
	s.spec.check(s.t, req, a)
	return a
}

// want sends a request and checks the status of the answer.
func (s *server) want(status int, method, path, body string, header ...string) answer {
	s.t.Helper()
	a := s.do(method, path, body, header...)
	if a.status != status {
		s.t.Fatalf("%s %s %q = %d %s, want %d", method, path, body, a.status, a.body, status)
	}
	return a
}

// refused sends a request that has to be refused with an AWS error.
func (s *server) refused(status int, class, message, method, path, body string, header ...string) {
	s.t.Helper()
	a := s.want(status, method, path, body, header...)
	var got struct{ Message, TraceID string }
	if err := json.Unmarshal([]byte(a.body), &got); err != nil {
		s.t.Fatal(err)
	}
	if message != "" && got.Message != message {
		s.t.Errorf("message of %s %s %.60q = %q, want %q", method, path, body, got.Message, message)
	}
	if t := a.header.Get("x-amzn-ErrorType"); t != class+":" {
		s.t.Errorf("x-amzn-ErrorType of %s %s %.60q = %q, want %q", method, path, body, t, class+":")
	}
	if id := a.header.Get("x-amzn-RequestId"); id == "" || id != got.TraceID {
		s.t.Errorf("x-amzn-RequestId of %s %s = %q, traceId = %q, want the same", method, path, id, got.TraceID)
	}
}

// problem sends a request that has to be refused with a problem.
func (s *server) problem(status int, code, method, path, body string, header ...string) {
	s.t.Helper()
	a := s.want(status, method, path, body, header...)
	var got struct {
		Status        int
		Code, TraceID string
	}
	if err := json.Unmarshal([]byte(a.body), &got); err != nil {
		s.t.Fatal(err)
	}
	if ct := a.header.Get("Content-Type"); ct != "application/problem+json" {
		s.t.Errorf("Content-Type of %s %s = %q, want application/problem+json", method, path, ct)
	}
	if got.Status != status || got.Code != code || got.TraceID != a.header.Get("x-amzn-RequestId") {
		s.t.Errorf("%s %s = %s, want status %d, code %s, trace ID %s", method, path, a.body, status, code, a.header.Get("x-amzn-RequestId"))
	}
}

// update changes a shadow and returns its version.
func (s *server) update(id shadow.ID, state string) uint64 {
	s.t.Helper()
	a := s.want(http.StatusOK, "POST", "/things/"+id.Thing+"/shadow?name="+id.Name, `{"state":`+state+`}`)
	var got struct{ Version uint64 }
	if err := json.Unmarshal([]byte(a.body), &got); err != nil {
		s.t.Fatal(err)
	}
	return got.Version
}

// event is an event of a stream.
type event struct{ kind, id, data string }

// events is an open stream.
type events struct {
	t    *testing.T
	scan *bufio.Scanner
	mark string // last ID that came, with an event or without
}

// watch opens a stream, and returns when it stands. It ends with the test.
func (s *server) watch(path string, header ...string) *events {
	s.t.Helper()
	return s.stream(http.MethodGet, path, "", header...)
}

func (s *server) stream(method, path, body string, header ...string) *events {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), patience)
	s.t.Cleanup(cancel)
	req, err := http.NewRequestWithContext(ctx, method, s.http.URL+path, strings.NewReader(body))
	if err != nil {
		s.t.Fatal(err)
	}
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := s.http.Client().Do(req)
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { resp.Body.Close() })
	if ct := resp.Header.Get("Content-Type"); resp.StatusCode != http.StatusOK || ct != "text/event-stream" {
		s.t.Fatalf("%s %s = %d %s, want 200 text/event-stream", method, path, resp.StatusCode, ct)
	}
	return &events{t: s.t, scan: bufio.NewScanner(resp.Body)}
}

// block reads to the next empty line. ok is false at the end of the stream.
func (e *events) block() (ev event, ok bool) {
	for e.scan.Scan() {
		line := e.scan.Text()
		switch name, value, _ := strings.Cut(line, ": "); name {
		case "event":
			ev.kind = value
		case "id":
			ev.id, e.mark = value, value
		case "data":
			ev.data = value
		}
		if line == "" {
			return ev, true
		}
	}
	return ev, false
}

// next returns the next event, checked against its schema.
func (e *events) next() event {
	e.t.Helper()
	for {
		ev, ok := e.block()
		if !ok {
			e.t.Fatalf("stream ended: %v", e.scan.Err())
		}
		if ev.kind == "" {
			continue
		}
		if ev.kind == "update" || ev.kind == "delete" {
			validate(e.t, "change-event", ev.data)
		}
		return ev
	}
}

// begun waits until the stream tells where it stands.
func (e *events) begun() *events {
	e.t.Helper()
	for e.mark == "" {
		if _, ok := e.block(); !ok {
			e.t.Fatalf("stream ended: %v", e.scan.Err())
		}
	}
	return e
}

// end waits for the end of the stream.
func (e *events) end() {
	e.t.Helper()
	for {
		if _, ok := e.block(); ok {
			continue
		}
		if err := e.scan.Err(); err != nil {
			e.t.Errorf("the stream does not end: %v", err)
		}
		return
	}
}
