package rest_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/umbra-iot/umbra/internal/rest"
	"github.com/umbra-iot/umbra/shadow"
	"github.com/umbra-iot/umbra/things"
)

const lampEvents = "/v1/things/lamp/events"

var lamp = shadow.ID{Thing: "lamp"}

// is checks the kind and ID of an event.
func (ev event) is(t *testing.T, kind, id string) {
	t.Helper()
	if ev.kind != kind || ev.id != id {
		t.Fatalf("event %.300v, want %s with ID %s", ev, kind, id)
	}
}

func TestShadowEvents(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	s.update(lamp, `{"desired":{"on":false}}`)
	e := s.watch(lampEvents).begun()
	if e.mark != "1" {
		t.Errorf("stream begins at %q, want 1", e.mark)
	}
	begin := time.Now().UnixMilli()
	s.want(200, "PATCH", "/v1/things/lamp/shadow", `{"state":{"desired":{"on":null,"text":"<&>"}},"clientToken":"t\""}`)
	s.update(shadow.ID{Thing: "lamp", Name: "other"}, `{}`)
	s.update(lamp, `null`)
	s.want(200, "DELETE", "/things/lamp/shadow", "")
	s.update(lamp, `{}`)

	ev := e.next()
	ev.is(t, "update", "2")
	var data struct {
		Timestamp int64
		State     json.RawMessage
		Token     string
	}
	if err := json.Unmarshal([]byte(ev.data), &data); err != nil {
		t.Fatal(err)
	}
	if data.Timestamp < begin || data.Timestamp > time.Now().UnixMilli() || string(data.State) != `{"desired":{"on":null,"text":"<&>"}}` || data.Token != `t"` {
		t.Errorf("data = %s, want the update", ev.data)
	}
	want := fmt.Sprintf(`{"thing":"lamp","name":"","version":2,"timestamp":%d,"op":"update","by":{"channel":"rest"},"state":%s,"token":"t\""}`, data.Timestamp, data.State)
	if ev.data != want {
		t.Errorf("data = %s, want %s", ev.data, want)
	}
	ev = e.next()
	ev.is(t, "update", "3")
	if !strings.Contains(ev.data, `"state":null`) {
		t.Errorf("data = %s, want a null state", ev.data)
	}
	e.next().is(t, "delete", "4")
	e.next().is(t, "update", "5")
}

func TestSnapshot(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	e := s.watch(lampEvents + "?snapshot=true")
	if ev := e.next(); ev != (event{"document", "0", "null"}) {
		t.Errorf("first event = %+v, want no document", ev)
	}
	s.update(lamp, `{"reported":{"a":1}}`)
	e.next().is(t, "update", "1")

	ev := s.watch(lampEvents + "?snapshot=true").next()
	ev.is(t, "document", "1")
	validate(t, "shadow-document", ev.data)

	s.want(200, "DELETE", "/things/lamp/shadow", "")
	if ev := s.watch(lampEvents + "?snapshot=true").next(); ev != (event{"document", "2", "null"}) {
		t.Errorf("first event after a delete = %+v, want no document, version 2", ev)
	}
}

func TestResume(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	for range 300 {
		s.update(lamp, `{}`)
	}
	for _, header := range [][]string{{"Last-Event-ID", "290"}, {}} {
		path := lampEvents
		if len(header) == 0 {
			path += "?lastEventId=290"
		}
		e := s.watch(path, header...)
		for v := 291; v <= 300; v++ {
			e.next().is(t, "update", strconv.Itoa(v))
		}
	}
	e := s.watch(lampEvents, "Last-Event-ID", "300").begun()
	s.update(lamp, `{}`)
	e.next().is(t, "update", "301")
	for _, id := range []string{"x", "-1", "1.5"} {
		s.problem(400, invalid, "GET", lampEvents, "", "Last-Event-ID", id)
	}
	s.problem(400, invalid, "GET", lampEvents+"?snapshot=x", "")
	s.problem(400, invalid, "GET", "/v1/things/a%2Fb/events", "")
}

// TestResumeOfWhatIsForgotten comes back with versions that the history does not lead on from.
func TestResumeOfWhatIsForgotten(t *testing.T) {
	t.Parallel()
	s := newServer(t, func(with *setup) { with.store.HistoryLimit = 3 })
	for range 10 {
		s.update(lamp, `{"reported":{"a":1}}`)
	}
	for _, last := range []string{"1", "5", "6", "11", "99", "18446744073709551615"} {
		e := s.watch(lampEvents, "Last-Event-ID", last)
		ev := e.next()
		ev.is(t, "reset", "10")
		validate(t, "shadow-document", ev.data)
	}
	seven := s.watch(lampEvents, "Last-Event-ID", "7")
	behind, ahead := s.watch(lampEvents, "Last-Event-ID", "1"), s.watch(lampEvents, "Last-Event-ID", "99")
	for v := 8; v <= 10; v++ {
		seven.next().is(t, "update", strconv.Itoa(v))
	}
	behind.next().is(t, "reset", "10")
	ahead.next().is(t, "reset", "10")
	s.update(lamp, `{}`)
	for _, e := range []*events{seven, behind, ahead} {
		e.next().is(t, "update", "11")
	}
}

// TestResumeFromZero shows all that the history has, and goes on from there.
func TestResumeFromZero(t *testing.T) {
	t.Parallel()
	s := newServer(t, func(with *setup) { with.store.HistoryLimit = 200 })
	none := s.watch(lampEvents, "Last-Event-ID", "0").begun()
	for range 299 {
		s.update(lamp, `{}`)
	}
	s.want(200, "DELETE", "/things/lamp/shadow", "")
	for _, path := range []string{lampEvents, lampEvents + "?snapshot=true"} {
		e := s.watch(path, "Last-Event-ID", "0")
		for v := 101; v <= 299; v++ {
			e.next().is(t, "update", strconv.Itoa(v))
		}
		e.next().is(t, "delete", "300")
	}
	if ev := none.next(); ev.kind != "update" {
		t.Errorf("stream that began before the shadow tells %+v, want an update", ev)
	}

	valve := shadow.ID{Thing: "valve"}
	s.watch("/v1/things/valve/events", "Last-Event-ID", "0").begun()
	s.update(valve, `{}`)
	s.watch("/v1/things/valve/events", "Last-Event-ID", "0").next().is(t, "update", "1")
}

// TestNoHistory checks that a service that keeps none still tells of every state.
func TestNoHistory(t *testing.T) {
	t.Parallel()
	s := newServer(t, func(with *setup) { with.store.HistoryLimit = -1 })
	s.update(lamp, `{}`)
	s.watch(lampEvents, "Last-Event-ID", "0").next().is(t, "reset", "1")
	e := s.watch(lampEvents).begun()
	s.update(lamp, `{}`)
	e.next().is(t, "reset", "2")
	s.want(200, "DELETE", "/things/lamp/shadow", "")
	if ev := e.next(); ev.kind != "reset" || ev.data != "null" {
		t.Errorf("event after a delete = %+v, want a reset to nothing", ev)
	}
	all := s.watch("/v1/events").begun()
	s.update(lamp, `{}`)
	all.next().is(t, "reset", all.mark)
}

// TestForeignChange writes behind the service's back, as another process does.
func TestForeignChange(t *testing.T) {
	t.Parallel()
	s := newServer(t, func(with *setup) { with.options.KeepAlive, with.shared = 10*time.Millisecond, true })
	s.update(lamp, `{}`)
	e := s.watch(lampEvents).begun()
	other := things.New(things.Options{Store: s.store, Publisher: things.Publishers{}})
	if res := other.Do(t.Context(), things.Request{ID: lamp, Op: shadow.OpUpdate, Payload: []byte(`{"state":{}}`), Author: shadow.Author{Channel: "mqtt", Principal: "p", ClientID: "c"}}); res.Err != nil {
		t.Fatal(res.Err)
	}
	ev := e.next()
	ev.is(t, "update", "2")
	if want := `"by":{"channel":"mqtt","principal":"p","clientId":"c"}`; !strings.Contains(ev.data, want) {
		t.Errorf("data = %s, want it to have %s", ev.data, want)
	}
	if err := other.Close(t.Context()); err != nil {
		t.Error(err)
	}
	s.update(lamp, `{}`)
	e.next().is(t, "update", "3")
}

// TestSlowStream does not read a stream while more happens than any buffer holds.
func TestSlowStream(t *testing.T) {
	t.Parallel()
	s := newServer(t, func(with *setup) { with.store.HistoryLimit = 1000 })
	e := s.watch(lampEvents).begun()
	const updates = 800 // 6 MB, more than the buffers of the connection
	payload := []byte(`{"state":{"reported":{"a":"` + strings.Repeat("x", 8000) + `"}}}`)
	for range updates {
		if res := s.things.Do(t.Context(), things.Request{ID: lamp, Op: shadow.OpUpdate, Payload: payload, Author: shadow.Author{Channel: "mqtt"}}); res.Err != nil {
			t.Fatal(res.Err)
		}
	}
	for v := 1; v <= updates; v++ {
		e.next().is(t, "update", strconv.Itoa(v))
	}
}

func TestAllEvents(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	s.update(lamp, `{}`)
	all, lamps := s.watch("/v1/events").begun(), s.watch("/v1/events?prefix=la").begun()
	for range 3 {
		s.update(lamp, `{}`)
		s.update(shadow.ID{Thing: "valve", Name: "n"}, `{}`)
	}
	s.want(200, "DELETE", "/things/lamp/shadow", "")

	var seen []string
	for range 7 {
		ev := all.next()
		var data struct {
			Thing, Name, Op string
			Version         int
		}
		if err := json.Unmarshal([]byte(ev.data), &data); err != nil {
			t.Fatal(err)
		}
		if data.Op != ev.kind {
			t.Errorf("op of %+v, want the event's name", ev)
		}
		seen = append(seen, fmt.Sprint(data.Thing, data.Name, data.Version, data.Op))
	}
	want := "lamp2update valven1update lamp3update valven2update lamp4update valven3update lamp5delete"
	if got := strings.Join(seen, " "); got != want {
		t.Errorf("events = %s, want %s", got, want)
	}
	var first event
	for v := 2; v <= 5; v++ {
		ev := lamps.next()
		if first.id == "" {
			first = ev
		}
		if !strings.Contains(ev.data, fmt.Sprintf(`"thing":"lamp","name":"","version":%d`, v)) {
			t.Errorf("event %+v, want version %d of lamp", ev, v)
		}
	}
	again := s.watch("/v1/events", "Last-Event-ID", first.id)
	if ev := again.next(); !strings.Contains(ev.data, `"thing":"valve","name":"n","version":1`) {
		t.Errorf("resumed with %+v, want version 1 of valve", ev)
	}
	for _, id := range []string{"x", "x-1", first.id + "00"} {
		e := s.watch("/v1/events", "Last-Event-ID", id)
		if ev := e.next(); ev.kind != "reset" || ev.data != "{}" || ev.id != all.mark {
			t.Errorf("resumed from %s with %+v, want a reset to %s", id, ev, all.mark)
		}
		s.update(lamp, `{}`)
		e.next()
		all.next()
	}
}

// TestFeedForgets checks that a stream of all things that is too far behind is told so.
func TestFeedForgets(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	s.update(lamp, `{}`)
	e := s.watch("/v1/events").begun()
	e2 := s.watch("/v1/events").begun()
	for range 10000 {
		s.feed.Publish(&things.Message{ID: shadow.ID{Thing: "quiet"}, Op: shadow.OpUpdate, Kind: shadow.KindAccepted, Version: 1})
	}
	if ev := s.watch("/v1/events", "Last-Event-ID", e.mark).next(); ev.kind != "reset" {
		t.Errorf("resumed with %+v, want a reset", ev)
	}
	if ev := e2.next(); ev.kind != "reset" { // the history has no such version
		t.Errorf("went on with %+v, want a reset", ev)
	}
}

// TestEventsEnd checks what ends a stream: the feed, and a store that fails.
func TestEventsEnd(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	failing := s.watch(lampEvents).begun()
	s.store.SetDown(errors.New("down"))
	s.feed.Publish(&things.Message{ID: lamp, Op: shadow.OpUpdate, Kind: shadow.KindAccepted, Version: 1})
	failing.end()
	s.store.SetDown(nil)

	one, all := s.watch(lampEvents).begun(), s.watch("/v1/events").begun()
	s.feed.Close()
	one.end()
	all.end()
	s.feed.Close()
}

// TestGoneClient checks that a stream whose client left is over.
func TestGoneClient(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	conn, err := net.Dial("tcp", s.http.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	fmt.Fprint(conn, "GET "+lampEvents+" HTTP/1.1\r\nHost: x\r\n\r\n")
	if _, err := io.ReadFull(conn, make([]byte, 12)); err != nil {
		t.Fatal(err)
	}
	conn.Close()
	s.http.Close() // waits for all requests under way
}

func TestStreamIgnoresServerTimeouts(t *testing.T) {
	t.Parallel()
	s := newServer(t, func(with *setup) { with.options.KeepAlive = 20 * time.Millisecond })
	srv := &http.Server{Handler: s.http.Config.Handler, ReadTimeout: 50 * time.Millisecond, WriteTimeout: 50 * time.Millisecond}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- srv.Serve(l) }()
	t.Cleanup(func() {
		srv.Close()
		<-served
	})
	resp, err := http.Get("http://" + l.Addr().String() + lampEvents)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	buf := make([]byte, len(": alive\nid: 0\n\n")*10) // at least 180 ms
	if _, err := io.ReadFull(resp.Body, buf); err != nil {
		t.Errorf("stream ended: %v", err)
	}
}

// deadlines is an answer that notes until when it has to be taken, and that ends with its first bytes.
type deadlines struct {
	*httptest.ResponseRecorder
	last time.Time
	end  func()
}

func (d *deadlines) SetWriteDeadline(t time.Time) error {
	d.last = t
	return nil
}

func (d *deadlines) Write(b []byte) (int, error) {
	d.end()
	return d.ResponseRecorder.Write(b)
}

// TestStreamIsTakenInTime: how long a client may take for what a stream sends follows from the time of requests.
func TestStreamIsTakenInTime(t *testing.T) {
	t.Parallel()
	for _, path := range []string{"/v1/events", lampEvents} {
		s := newServer(t, func(with *setup) { with.options.RequestTimeout, with.options.KeepAlive = time.Hour, time.Millisecond })
		ctx, end := context.WithCancel(t.Context())
		w := &deadlines{httptest.NewRecorder(), time.Time{}, end}
		begin := time.Now()
		s.http.Config.Handler.ServeHTTP(w, httptest.NewRequestWithContext(ctx, http.MethodGet, path, nil))
		if got := w.last.Sub(begin); got < 3*time.Hour || got > 4*time.Hour {
			t.Errorf("%s: what is sent has to be taken within %v, want 3h", path, got)
		}
	}
}

func BenchmarkFeed(b *testing.B) {
	f := rest.NewFeed()
	m := &things.Message{ID: lamp, Op: shadow.OpUpdate, Kind: shadow.KindAccepted, Version: 1}
	b.ReportAllocs()
	for b.Loop() {
		f.Publish(m)
	}
}
