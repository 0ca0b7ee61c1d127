package rest_test

import (
	"context"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/umbra-iot/umbra/internal/auth"
	"github.com/umbra-iot/umbra/internal/rest"
	"github.com/umbra-iot/umbra/shadow"
)

// may is rights as a function of the name of the action and what it is about.
type may func(action, name string) bool

func (may) Timed(auth.Action) bool { return false }

func (m may) Allows(a auth.Action, name string) bool { return m(a.String(), name) }
func (m may) Shows(a auth.Action, name string) bool  { return m(a.String(), name) }

// permitting is a server on which everybody is alice, who may do what m says.
func permitting(t *testing.T, m may) *server {
	t.Helper()
	return newServer(t, func(with *setup) { with.options.Rights = func(*http.Request) auth.Rights { return m } })
}

// Every operation is refused to those who may do everything but that, unless it is open to all.
func TestPermissions(t *testing.T) {
	t.Parallel()
	routes, left := http.NewServeMux(), map[string]bool{}
	for _, rt := range rest.Routes() {
		routes.Handle(rt.Method+" "+rt.Pattern, http.NotFoundHandler())
		left[rt.Method+" "+rt.Pattern] = true
	}
	for _, test := range []struct{ method, path, needs string }{
		{"GET", "/things/lamp/shadow", "iot:GetThingShadow lamp"},
		{"GET", "/things/lamp/shadow?name=cfg", "iot:GetThingShadow lamp/cfg"},
		{"POST", "/things/lamp/shadow", "iot:UpdateThingShadow lamp"},
		{"DELETE", "/things/lamp/shadow?name=cfg", "iot:DeleteThingShadow lamp/cfg"},
		{"GET", "/api/things/shadow/ListNamedShadowsForThing/lamp", "iot:ListNamedShadowsForThing lamp"},
		{"POST", "/topics/a%2Fb?qos=1", "iot:Publish a/b"},
		{"POST", "/topics/a?retain=true", "iot:RetainPublish a"},
		{"POST", "/topics/$aws/things/lamp/shadow/update", "iot:Publish $aws/things/lamp/shadow/update"},
		{"GET", "/retainedMessage/a", "iot:GetRetainedMessage a"},
		{"GET", "/retainedMessage", "iot:ListRetainedMessages "},
		{"GET", "/connections/c", "iot:GetConnection c"},
		{"DELETE", "/connections/c", "iot:DeleteConnection c"},
		{"GET", "/connections/c/subscriptions", "iot:ListSubscriptions c"},
		{"GET", "/v1/things", "umbra:ListThings "},
		{"GET", "/v1/things/lamp", "iot:ListNamedShadowsForThing lamp"},
		{"GET", "/v1/things/lamp/shadow?name=cfg", "iot:GetThingShadow lamp/cfg"},
		{"PATCH", "/v1/things/lamp/shadow", "iot:UpdateThingShadow lamp"},
		{"DELETE", "/v1/things/lamp/shadow", "iot:DeleteThingShadow lamp"},
		{"GET", "/v1/things/lamp/delta", "iot:GetThingShadow lamp"},
		{"GET", "/v1/things/lamp/events", "iot:GetThingShadow lamp"},
		{"GET", "/v1/things/lamp/devices", "iot:GetThingShadow lamp"},
		{"GET", "/v1/registry", "umbra:ListRegistry "},
		{"GET", "/v1/registry/lamp", "umbra:GetRegisteredThing lamp"},
		{"PUT", "/v1/registry/lamp", "umbra:PutRegisteredThing lamp"},
		{"DELETE", "/v1/registry/lamp", "umbra:DeleteRegisteredThing lamp"},
		{"GET", "/v1/policies", "umbra:ListPolicies "},
		{"GET", "/v1/policies/p", "umbra:GetPolicy p"},
		{"PUT", "/v1/policies/p", "umbra:PutPolicy p"},
		{"DELETE", "/v1/policies/p", "umbra:DeletePolicy p"},
		{"PUT", "/v1/policies/p/targets/user:bob", "umbra:AttachPolicy p"},
		{"DELETE", "/v1/policies/p/targets/user:bob", "umbra:AttachPolicy p"},
		{"POST", "/v1/policy-test", "umbra:TestPolicy "},
		{"GET", "/v1/audit", "umbra:GetAudit "},
		{"GET", "/v1/credentials/users", "umbra:ListCredentials users"},
		{"POST", "/v1/credentials/keys", "umbra:PutCredential keys"},
		{"PUT", "/v1/credentials/users/bob", "umbra:PutCredential users/bob"},
		{"DELETE", "/v1/credentials/users/bob", "umbra:DeleteCredential users/bob"},
		{"GET", "/v1/mappings", "umbra:Administer "},
		{"GET", "/v1/mappings/m", "umbra:Administer "},
		{"PUT", "/v1/mappings/m", "umbra:Administer "},
		{"DELETE", "/v1/mappings/m", "umbra:Administer "},
		{"GET", "/v1/mappings/errors", "umbra:Administer "},
		{"GET", "/v1/mappings/orphans", "umbra:Administer "},
		{"DELETE", "/v1/mappings/orphans/a%2Fb", "umbra:Administer "},
		{"GET", "/v1/mapping-events", "umbra:Administer "},
		{"POST", "/v1/mapping-events", "umbra:Administer "},
	} {
		_, pattern := routes.Handler(httptest.NewRequestWithContext(t.Context(), test.method, test.path, nil))
		delete(left, pattern)
		s := permitting(t, func(action, name string) bool { return action+" "+name != test.needs })
		a := s.do(test.method, test.path, `{"state":{}}`)
		if a.status != http.StatusForbidden || a.header.Get("x-amzn-ErrorType") != "ForbiddenException:" {
			t.Errorf("%s %s without %s: %d %s", test.method, test.path, test.needs, a.status, a.body)
		}
		if strings.Contains(a.body, "iot:") || strings.Contains(a.body, "policy") {
			t.Errorf("the client is told why: %s", a.body)
		}
		list, err := s.things.Changes(t.Context(), shadow.ID{Thing: "lamp"}, 0, 1)
		if err != nil || len(list) > 0 {
			t.Errorf("%s %s without %s has changed the shadow: %v, %v", test.method, test.path, test.needs, list, err)
		}
	}
	open := []string{ // of the events each one is asked for
		"GET /livez", "GET /readyz", "GET /v1/events", "GET /v1/openapi.json", "GET /v1/schemas/{$}", "GET /v1/schemas/{file}", "GET /v1/version", "GET /v1/whoami",
	}
	if got := slices.Sorted(maps.Keys(left)); !slices.Equal(got, open) {
		t.Errorf("open to all are %q, want %q", got, open)
	}
}

// What one may see is all that is in lists.
func TestPermissionsWithinAnswers(t *testing.T) {
	t.Parallel()
	s := permitting(t, func(action, name string) bool { return action != "iot:GetThingShadow" || name == "lamp/cfg" })
	stream := s.watch("/v1/events").begun()
	for _, name := range []string{"", "?name=cfg"} {
		if a := s.do("POST", "/things/lamp/shadow"+name, `{"state":{"reported":{"a":1}}}`); a.status != http.StatusOK {
			t.Fatalf("update: %d %s", a.status, a.body)
		}
	}
	if e := stream.next(); !strings.Contains(e.data, `"name":"cfg"`) {
		t.Errorf("the first event is %+v", e)
	}
	if a := s.do("GET", "/v1/things/lamp", ""); strings.Count(a.body, `"document"`) != 1 || !strings.Contains(a.body, `"name":"cfg"`) {
		t.Errorf("the thing is %s", a.body)
	}
}

// A stream ends when it would not be permitted any more.
func TestStreamEndsWithItsPermission(t *testing.T) {
	t.Parallel()
	var revoked atomic.Bool
	s := permitting(t, func(action, _ string) bool { return action != "iot:GetThingShadow" || !revoked.Load() })
	stream := s.watch("/v1/things/lamp/events").begun()
	update := func() {
		t.Helper()
		if a := s.do("POST", "/things/lamp/shadow", `{"state":{"reported":{"a":1}}}`); a.status != http.StatusOK {
			t.Fatalf("update: %d %s", a.status, a.body)
		}
	}
	update()
	stream.next()
	revoked.Store(true)
	update()
	stream.end()
}

// Streams end with the credential of who asked for them, when they are told and not later, and others go on.
func TestStreamsEndWithTheirCredential(t *testing.T) {
	t.Parallel()
	s := newServer(t, func(with *setup) {
		with.options.KeepAlive = time.Hour // no stream looks by itself
	})
	var now atomic.Value // the name of who asks now
	var gone atomic.Bool // the credential of alice
	who := func(*http.Request) (*auth.Principal, error) {
		name, _ := now.Load().(string)
		standing := func() auth.Standing {
			if name == "alice" && gone.Load() {
				return auth.Withdrawn
			}
			return auth.Unchanged
		}
		return &auth.Principal{ID: auth.NewID(auth.User, name), Kind: auth.User, Name: name, Standing: standing}, nil
	}
	s.http.Config.Handler = rest.Guard(who, nil, s.http.Config.Handler)
	now.Store("alice")
	one, all := s.watch("/v1/things/lamp/events").begun(), s.watch("/v1/events").begun()
	now.Store("bob")
	other := s.watch("/v1/events").begun()
	gone.Store(true)
	s.feed.Recheck(func(p *auth.Principal) bool { return p.Name == "alice" })
	one.end()
	all.end()
	s.feed.Recheck(nil)
	if a := s.do("POST", "/things/lamp/shadow", `{"state":{"reported":{"a":1}}}`); a.status != http.StatusOK {
		t.Fatalf("update: %d %s", a.status, a.body)
	}
	other.next()
}

// The history of a shadow names the principal.
func TestAuthorIsThePrincipal(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	who := func(*http.Request) (*auth.Principal, error) {
		return &auth.Principal{ID: "user:alice", Kind: auth.User, Name: "alice"}, nil
	}
	s.http.Config.Handler = rest.Guard(who, nil, s.http.Config.Handler)
	s.do("POST", "/things/lamp/shadow", `{"state":{"reported":{"a":1}}}`)
	list, err := s.things.Changes(context.Background(), shadow.ID{Thing: "lamp"}, 0, 1)
	if err != nil || len(list) != 1 || list[0].Author.Principal != "user:alice" {
		t.Errorf("the history is %+v, %v", list, err)
	}
}
