package rest_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/umbra-iot/umbra/internal/auth"
)

func TestRegisteredThings(t *testing.T) {
	t.Parallel()
	s, engine := administered(t)
	s.want(http.StatusOK, "PUT", "/v1/policies/sites",
		`{"Version": "2012-10-17", "Statement": {"Effect": "Allow", "Action": "iot:Publish",
		"Resource": "arn:aws:iot:*:*:topic/${iot:Connection.Thing.Attributes[site]}/${iot:Connection.Thing.ThingTypeName}",
		"Condition": {"Bool": {"iot:Connection.Thing.IsAttached": "true"}}}}`)
	alice := &auth.Principal{ID: "user:alice", Kind: auth.User, Name: "alice", Groups: []string{"pumps"}, Policies: []string{"sites"}}
	rights := engine.Rights(alice, auth.Link{MQTT: true, ClientID: "pump"})
	const big = `{"type":"big","attributes":{"site":"berlin"},"principals":["group:pumps"]}`
	if rights.Allows(auth.Publish, "berlin/big") {
		t.Fatal("a thing that is not registered has attributes")
	}
	a := s.want(http.StatusOK, "PUT", "/v1/registry/pump", big, "If-None-Match", "*")
	if a.header.Get("ETag") != `"1"` || !rights.Allows(auth.Publish, "berlin/big") {
		t.Errorf("the thing that was registered is %s, with the tag %s, and counts: %t", a.body, a.header.Get("ETag"), rights.Allows(auth.Publish, "berlin/big"))
	}
	if a = s.want(http.StatusOK, "PUT", "/v1/registry/pump", big); a.header.Get("ETag") != `"1"` {
		t.Errorf("the same again is version %s", a.header.Get("ETag"))
	}
	s.problem(http.StatusPreconditionFailed, "PreconditionFailedException", "PUT", "/v1/registry/pump", big, "If-None-Match", "*")
	s.problem(http.StatusPreconditionFailed, "PreconditionFailedException", "PUT", "/v1/registry/pump", `{}`, "If-Match", `"2"`)
	if a = s.want(http.StatusOK, "PUT", "/v1/registry/pump", `{"attributes":{"site":"paris"}}`, "If-Match", `"1"`); a.header.Get("ETag") != `"2"` || strings.Contains(a.body, "big") {
		t.Errorf("the changed thing is %s, with the tag %s", a.body, a.header.Get("ETag"))
	}
	if rights.Allows(auth.Publish, "berlin/big") {
		t.Error("what the thing was counts on")
	}
	if a = s.want(http.StatusOK, "GET", "/v1/registry/pump", ""); a.header.Get("ETag") != `"2"` || !strings.Contains(a.body, "paris") {
		t.Errorf("the thing is %s", a.body)
	}
	s.problem(http.StatusPreconditionFailed, "PreconditionFailedException", "DELETE", "/v1/registry/pump", "", "If-Match", `"1"`)
	s.want(http.StatusNoContent, "DELETE", "/v1/registry/pump", "")
	s.problem(http.StatusNotFound, "ResourceNotFoundException", "DELETE", "/v1/registry/pump", "")
	s.problem(http.StatusNotFound, "ResourceNotFoundException", "GET", "/v1/registry/pump", "")
	if a = s.want(http.StatusOK, "GET", "/v1/audit?limit=1", ""); !strings.Contains(a.body, `"action":"umbra:DeleteRegisteredThing","resource":"thing/pump","outcome":"failed"`) {
		t.Errorf("the last record is %s", a.body)
	}
}

func TestRegistryPages(t *testing.T) {
	t.Parallel()
	s, _ := administered(t)
	for i := range 5 {
		s.want(http.StatusOK, "PUT", fmt.Sprintf("/v1/registry/lamp%d", i), `{}`)
	}
	s.want(http.StatusOK, "PUT", "/v1/registry/door", `{}`)
	var names []string
	for next := ""; ; {
		a := s.want(http.StatusOK, "GET", "/v1/registry?prefix=lamp&limit=2&page="+next, "")
		var list struct {
			Things   []struct{ Thing string }
			NextPage string
		}
		if err := json.Unmarshal([]byte(a.body), &list); err != nil {
			t.Fatal(err)
		}
		for _, th := range list.Things {
			names = append(names, th.Thing)
		}
		if next = list.NextPage; next == "" {
			break
		}
	}
	if got := strings.Join(names, " "); got != "lamp0 lamp1 lamp2 lamp3 lamp4" {
		t.Errorf("the pages are %s", got)
	}
	s.want(http.StatusBadRequest, "GET", "/v1/registry?page=dHg", "") // of another list
}

func TestRegistryRefusals(t *testing.T) {
	t.Parallel()
	s, _ := administered(t)
	many := make([]string, 101)
	for i := range many {
		many[i] = fmt.Sprintf("user:u%d", i)
	}
	manyPrincipals, err := json.Marshal(map[string]any{"principals": many})
	if err != nil {
		t.Fatal(err)
	}
	attributes := map[string]string{}
	for i := range 51 {
		attributes[fmt.Sprint("a", i)] = "x"
	}
	manyAttributes, err := json.Marshal(map[string]any{"attributes": attributes})
	if err != nil {
		t.Fatal(err)
	}
	for _, body := range []string{
		``, `[]`, `{`, `{} {}`, `{"thing":"x"}`, `{"type":"a b"}`, `{"attributes":{"a b":"x"}}`, `{"attributes":{"a":""}}`, `{"attributes":{"a":"\u0000"}}`,
		`{"attributes":{"a":"` + strings.Repeat("x", 801) + `"}}`, `{"attributes":{"a":1}}`, `{"principals":["alice"]}`, `{"principals":["kind:cert"]}`,
		`{"principals":["anonymous"]}`, string(manyPrincipals), string(manyAttributes),
	} {
		s.problem(http.StatusBadRequest, "InvalidRequestException", "PUT", "/v1/registry/pump", body)
	}
	for _, name := range []string{"a%20b", "a%2Fb", strings.Repeat("a", 129)} {
		s.problem(http.StatusBadRequest, "InvalidRequestException", "PUT", "/v1/registry/"+name, `{}`)
	}
	s.problem(http.StatusNotFound, "ResourceNotFoundException", "GET", "/v1/registry/pump", "")
	newServer(t).want(http.StatusNotFound, "GET", "/v1/registry", "")
}
