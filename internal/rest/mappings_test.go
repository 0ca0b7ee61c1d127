package rest_test

import (
	"context"
	"encoding/json"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/umbra-iot/umbra/broker"
	"github.com/umbra-iot/umbra/broker/mapping"
	"github.com/umbra-iot/umbra/internal/audit"
	"github.com/umbra-iot/umbra/internal/auth"
	"github.com/umbra-iot/umbra/internal/auth/authz"
	"github.com/umbra-iot/umbra/internal/mappings"
	"github.com/umbra-iot/umbra/internal/objects"
	"github.com/umbra-iot/umbra/shadow"
	"github.com/umbra-iot/umbra/statestore"
	"github.com/umbra-iot/umbra/statestore/memstore"
)

const plugMapping = `version: 1
mapping: plug
thing: "plug-{dev}"
report: [{topic: "plug/{dev}/on", map: on_off, to: on}]
commands: [{path: "on", topic: "cmd/{dev}/on", payload: {map: on_off}, await_subscriber: false}]
`

// mapped is a server with mappings of the store, none at first.
func mapped(t *testing.T, change ...func(*setup)) *server {
	t.Helper()
	d, err := mappings.Open(nil, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	store := objects.New(objects.Options{Objects: memstore.New(statestore.Options{})})
	if err := d.Follow(t.Context(), store); err != nil {
		t.Fatal(err)
	}
	engine, err := authz.New(authz.Options{}) // /v1/audit is there with policies
	if err != nil {
		t.Fatal(err)
	}
	log, err := audit.Open(audit.Options{})
	if err != nil {
		t.Fatal(err)
	}
	s := newServer(t, append(change, func(with *setup) {
		with.broker.Mappings, with.broker.NativeTopics = d.Set(), true
		with.options.Mappings, with.options.Objects, with.options.Audit, with.options.Engine = d, store, log, engine
	})...)
	d.Use(func(set *mapping.Set) error {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		return s.broker.UseMappings(ctx, set) //nolint:wrapcheck // a test
	})
	return s
}

// say publishes a message.
func (s *server) say(topic, payload string) {
	s.t.Helper()
	if err := s.broker.PublishMessage(s.t.Context(), broker.Publication{Topic: topic, Payload: []byte(payload), QoS: 1}); err != nil {
		s.t.Fatal(err)
	}
}

func TestStoredMappings(t *testing.T) {
	t.Parallel()
	s := mapped(t)
	const path = "/v1/mappings/plug"
	s.problem(http.StatusNotFound, "ResourceNotFoundException", "GET", path, "")
	a := s.want(http.StatusOK, "PUT", path+"?dryRun", plugMapping)
	if !strings.Contains(a.body, `"version":0`) || a.header.Get("ETag") != "" {
		t.Errorf("the answer to a dry run is %s with the entity tag %q", a.body, a.header.Get("ETag"))
	}
	s.problem(http.StatusNotFound, "ResourceNotFoundException", "GET", path, "")
	s.problem(http.StatusPreconditionFailed, "PreconditionFailedException", "PUT", path, plugMapping, "If-Match", `"1"`)
	if a := s.want(http.StatusOK, "PUT", path, plugMapping, "If-None-Match", "*"); a.header.Get("ETag") != `"1"` {
		t.Errorf("the entity tag of the first version is %s", a.header.Get("ETag"))
	}
	s.problem(http.StatusPreconditionFailed, "PreconditionFailedException", "PUT", path, plugMapping, "If-None-Match", "*")
	s.problem(http.StatusPreconditionFailed, "PreconditionFailedException", "PUT", path+"?dryRun", plugMapping, "If-Match", `"2"`)
	s.problem(http.StatusBadRequest, "InvalidRequestException", "PUT", path, plugMapping+"colour: red\n", "If-Match", `"1"`)
	s.problem(http.StatusBadRequest, "InvalidRequestException", "PUT", "/v1/mappings/lamp", plugMapping)
	if a := s.want(http.StatusOK, "PUT", path, plugMapping+"# again\n", "If-Match", `"1"`); a.header.Get("ETag") != `"2"` {
		t.Errorf("the entity tag of the second version is %s", a.header.Get("ETag"))
	}
	a = s.want(http.StatusOK, "GET", path, "")
	var got struct{ Text string }
	if err := json.Unmarshal([]byte(a.body), &got); err != nil || got.Text != plugMapping+"# again\n" || a.header.Get("ETag") != `"2"` {
		t.Errorf("GET %s = %s with the entity tag %s, %v", path, a.body, a.header.Get("ETag"), err)
	}
	s.say("plug/a/on", "ON")
	s.want(http.StatusOK, "GET", "/v1/things/plug-a/shadow", "")
	s.problem(http.StatusPreconditionFailed, "PreconditionFailedException", "DELETE", path, "", "If-Match", `"1"`)
	s.want(http.StatusNoContent, "DELETE", path, "", "If-Match", `"2"`)
	s.problem(http.StatusNotFound, "ResourceNotFoundException", "DELETE", path, "")
	s.say("plug/b/on", "ON")
	s.problem(http.StatusNotFound, "ResourceNotFoundException", "GET", "/v1/things/plug-b/shadow", "")
}

func TestMappingsAreAudited(t *testing.T) {
	t.Parallel()
	s := mapped(t)
	s.want(http.StatusOK, "PUT", "/v1/mappings/plug?dryRun", plugMapping) // changes nothing
	s.want(http.StatusOK, "PUT", "/v1/mappings/plug", plugMapping)
	s.want(http.StatusBadRequest, "PUT", "/v1/mappings/plug", "hunter2: 1")
	s.want(http.StatusNoContent, "DELETE", "/v1/mappings/plug", "")
	s.watch("/v1/mapping-events").begun()
	s.want(http.StatusBadRequest, "POST", "/v1/mapping-events", "hunter2: 1")
	a := s.want(http.StatusOK, "GET", "/v1/audit", "")
	var list struct{ Records []audit.Record }
	if err := json.Unmarshal([]byte(a.body), &list); err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, r := range list.Records {
		got = append(got, r.Action+" "+r.Resource+" "+r.Outcome)
	}
	want := []string{
		"umbra:Administer mapping-events failed", "umbra:Administer mapping-events done",
		"umbra:Administer mapping/plug done", "umbra:Administer mapping/plug failed", "umbra:Administer mapping/plug done",
	}
	if !slices.Equal(got, want) {
		t.Errorf("the records are %q, want %q", got, want)
	}
}

// The mappings in force are told of as they act; others are only rehearsed.
func TestMappingEvents(t *testing.T) {
	t.Parallel()
	s := mapped(t)
	s.want(http.StatusOK, "PUT", "/v1/mappings/plug", plugMapping)
	lamp := strings.NewReplacer("plug", "lamp").Replace(plugMapping)
	active := s.watch("/v1/mapping-events").begun()
	tried := s.stream(http.MethodPost, "/v1/mapping-events?match=%2B/a/%23", lamp).begun()
	all := s.watch("/v1/mapping-events?all=true&seconds=2").begun()
	s.say("other", "\xff")
	s.say("lamp/a/on", "OFF")
	s.say("plug/a/on", "ON")
	s.say("lamp/b/on", "OFF") // does not match
	expect := func(from *events, wanted ...string) {
		t.Helper()
		for _, want := range wanted {
			if e := from.next(); !strings.Contains(e.data, want) {
				t.Errorf("the event is %s %s, want %s in it", e.kind, e.data, want)
			}
		}
	}
	// Both are told before there is something to command, which the message would bring about else.
	expect(active, `"kind":"message","topic":"plug/a/on","payload":"ON","rules":[{"mapping":"plug","rule":"report[0]","line":4,"captures":{"dev":"a"}}],`+
		`"updates":[{"mapping":"plug","thing":"plug-a","state":{"reported":{"on":true}}}]}`)
	expect(tried, `"topic":"lamp/a/on","payload":"OFF","rules":[`)
	expect(all, `"topic":"other","payloadBase64":"/w=="}`, `"topic":"lamp/a/on","payload":"OFF"}`, `"topic":"plug/a/on"`, `"topic":"lamp/b/on"`)
	s.update(shadow.ID{Thing: "plug-a"}, `{"desired":{"on":false}}`)
	s.update(shadow.ID{Thing: "lamp-a"}, `{"desired":{"on":true}}`)
	expect(active, `"kind":"change","thing":"plug-a","publishes":[{"mapping":"plug","rule":"commands[0]","line":5,"thing":"plug-a",`+
		`"topic":"cmd/a/on","payload":"OFF","qos":1,"retain":false}]}`)
	expect(tried, `"thing":"lamp-a","publishes":[{"mapping":"lamp","rule":"commands[0]","line":5,"thing":"lamp-a","topic":"cmd/a/on","payload":"ON"`)
	expect(all, `"cmd/a/on"`, `{"kind":"summary","messages":4,"unmatched":3,"topics":{"lamp/a/on":1,"lamp/b/on":1,"other":1},"dropped":0}`)
	all.end()
	a := s.want(http.StatusOK, "GET", "/v1/things/lamp-a/shadow", "")
	if strings.Contains(a.body, "reported") {
		t.Errorf("a rehearsal has written: %s", a.body)
	}
	// What is put in force meanwhile is what is told of.
	s.want(http.StatusOK, "PUT", "/v1/mappings/lamp", lamp)
	s.say("lamp/c/on", "OFF")
	if e := active.next(); !strings.Contains(e.data, `"thing":"lamp-c"`) {
		t.Errorf("the event is %s", e.data)
	}
}

func TestMappingEventsAreBounded(t *testing.T) {
	t.Parallel()
	s := mapped(t)
	for _, path := range []string{"?seconds=0", "?seconds=86401", "?match=a%23", "?all=maybe", "?for=1"} {
		s.problem(http.StatusBadRequest, "InvalidRequestException", "GET", "/v1/mapping-events"+path, "")
	}
	for range 8 {
		s.watch("/v1/mapping-events").begun()
	}
	s.problem(http.StatusTooManyRequests, "ThrottlingException", "GET", "/v1/mapping-events", "")
}

// Who may not administer sees no traffic; who no longer may, no more of it.
func TestMappingEventsNeedAdminister(t *testing.T) {
	t.Parallel()
	var revoked atomic.Bool
	s := mapped(t, func(with *setup) {
		with.options.KeepAlive = time.Hour // no stream looks by itself
		with.options.Rights = func(*http.Request) auth.Rights {
			return may(func(action, _ string) bool { return action != "umbra:Administer" || !revoked.Load() })
		}
	})
	stream := s.watch("/v1/mapping-events").begun()
	revoked.Store(true)
	s.feed.Recheck(nil)
	stream.end()
	for _, method := range []string{"GET", "POST"} {
		s.problem(http.StatusForbidden, "ForbiddenException", method, "/v1/mapping-events", plugMapping)
	}
}
