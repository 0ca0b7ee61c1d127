package rest_test

import (
	"encoding/json"
	"net/http"
	"path/filepath"
	"strings"
	"testing"

	"github.com/umbra-iot/umbra/internal/audit"
	"github.com/umbra-iot/umbra/internal/auth"
	"github.com/umbra-iot/umbra/internal/auth/authz"
	"github.com/umbra-iot/umbra/internal/auth/credential"
	"github.com/umbra-iot/umbra/internal/objects"
	"github.com/umbra-iot/umbra/statestore"
	"github.com/umbra-iot/umbra/statestore/memstore"
	"github.com/umbra-iot/umbra/test/mqtttest"
)

// administered is a server with policies, on which everybody is alice.
func administered(t *testing.T) (*server, *authz.Engine) {
	t.Helper()
	engine, err := authz.New(authz.Options{})
	if err != nil {
		t.Fatal(err)
	}
	store := objects.New(objects.Options{Objects: memstore.New(statestore.Options{})})
	if err := engine.Follow(t.Context(), store); err != nil {
		t.Fatal(err)
	}
	log, err := audit.Open(audit.Options{})
	if err != nil {
		t.Fatal(err)
	}
	sealer, err := credential.OpenSealer(filepath.Join(t.TempDir(), "secrets.key"))
	if err != nil {
		t.Fatal(err)
	}
	s := newServer(t, func(with *setup) {
		with.options.Engine, with.options.Objects, with.options.Audit, with.options.Sealer = engine, store, log, sealer
	})
	return s, engine
}

const lampsOnly = `{"Version": "2012-10-17", "Statement": {"Effect": "Allow", "Action": "iot:Publish", "Resource": "arn:aws:iot:*:*:topic/lamps/*"}}`

func TestPolicyLifecycle(t *testing.T) {
	t.Parallel()
	s, engine := administered(t)
	bob := &auth.Principal{ID: "user:bob", Kind: auth.User, Name: "bob"}
	may := func() bool { return engine.Rights(bob, auth.Link{}).Allows(auth.Publish, "lamps/1") }
	a := s.want(http.StatusOK, "PUT", "/v1/policies/lamps", lampsOnly, "If-None-Match", "*")
	if a.header.Get("ETag") != `"1"` {
		t.Errorf("the entity tag is %s", a.header.Get("ETag"))
	}
	s.problem(http.StatusPreconditionFailed, "PreconditionFailedException", "PUT", "/v1/policies/lamps", lampsOnly, "If-None-Match", "*")
	s.problem(http.StatusPreconditionFailed, "PreconditionFailedException", "DELETE", "/v1/policies/lamps", "", "If-Match", `"2"`)
	if may() {
		t.Error("a policy that is not attached counts")
	}
	s.want(http.StatusNoContent, "PUT", "/v1/policies/lamps/targets/user:bob", "")
	s.want(http.StatusNoContent, "PUT", "/v1/policies/lamps/targets/user:bob", "") // again
	if !may() {
		t.Error("an attached policy does not count")
	}
	a = s.want(http.StatusOK, "GET", "/v1/policies/lamps", "")
	if !strings.Contains(a.body, `"targets":["user:bob"]`) || !strings.Contains(a.body, `topic/lamps/*`) || a.header.Get("ETag") != `"1"` {
		t.Errorf("the policy is %s", a.body)
	}
	if a = s.want(http.StatusOK, "GET", "/v1/policies", ""); strings.Count(a.body, `"name"`) != 6 {
		t.Errorf("the policies are %s", a.body)
	}
	s.problem(http.StatusConflict, "ConflictException", "DELETE", "/v1/policies/lamps", "")
	s.want(http.StatusNoContent, "DELETE", "/v1/policies/lamps/targets/user:bob", "")
	if may() {
		t.Error("a detached policy counts")
	}
	s.want(http.StatusNoContent, "DELETE", "/v1/policies/lamps", "", "If-Match", `"1"`)
	s.problem(http.StatusNotFound, "ResourceNotFoundException", "GET", "/v1/policies/lamps", "")
}

func TestPolicyRefusals(t *testing.T) {
	t.Parallel()
	s, _ := administered(t)
	a := s.want(http.StatusBadRequest, "PUT", "/v1/policies/p", "{\"Version\": \"2012-10-17\",\n \"Statements\": []}")
	if !strings.Contains(a.body, "line 2, column 13") {
		t.Errorf("the place of the error is not in %s", a.body)
	}
	for _, test := range []struct {
		method, path string
		status       int
	}{
		{"PUT", "/v1/policies/a%20b", http.StatusBadRequest},
		{"PUT", "/v1/policies/" + strings.Repeat("a", 129), http.StatusBadRequest},
		{"PUT", "/v1/policies/admin", http.StatusConflict},
		{"PUT", "/v1/policies/admin?replace=false", http.StatusConflict},
		{"PUT", "/v1/policies/admin?replace=yes", http.StatusBadRequest},
		{"DELETE", "/v1/policies/device", http.StatusConflict},
		{"DELETE", "/v1/policies/none", http.StatusNotFound},
		{"PUT", "/v1/policies/none/targets/user:bob", http.StatusNotFound},
		{"PUT", "/v1/policies/device/targets/bob", http.StatusBadRequest},
		{"DELETE", "/v1/policies/device/targets/user:bob", http.StatusNotFound},
		{"GET", "/v1/policies/none", http.StatusNotFound},
	} {
		s.want(test.status, test.method, test.path, lampsOnly)
	}
	none := newServer(t)
	none.want(http.StatusNotFound, "GET", "/v1/policies", "")
}

// A policy of another origin is replaced when that is asked for, and is there again when the one of the store is gone.
func TestPolicyTakesThePlaceOfAnother(t *testing.T) {
	t.Parallel()
	s, engine := administered(t)
	allows := func() bool {
		bob := &auth.Principal{ID: "user:bob", Kind: auth.User, Policies: []string{"admin"}}
		return engine.Rights(bob, auth.Link{}).Allows(auth.Publish, "a")
	}
	a := s.want(http.StatusConflict, "PUT", "/v1/policies/admin", lampsOnly)
	if !strings.Contains(a.body, "set replace") || !allows() {
		t.Errorf("a built-in policy is replaced: %s", a.body)
	}
	s.want(http.StatusOK, "PUT", "/v1/policies/admin?replace=true", lampsOnly, "If-None-Match", "*")
	if allows() {
		t.Error("a built-in policy is not replaced")
	}
	s.want(http.StatusOK, "PUT", "/v1/policies/admin", lampsOnly) // which is in the store now
	s.want(http.StatusNoContent, "DELETE", "/v1/policies/admin", "")
	if !allows() {
		t.Error("a built-in policy does not come back")
	}
}

// ofConnection asks about the certificate and the connection.
const ofConnection = `{"Version": "2012-10-17", "Statement": [
	{"Effect": "Allow", "Action": "iot:Publish", "Resource": "arn:aws:iot:*:*:topic/${iot:Certificate.Subject.Organization}"},
	{"Effect": "Allow", "Action": "iot:Connect", "Resource": "*", "Condition": {
		"Bool": {"aws:SecureTransport": "true"}, "StringEquals": {"iot:DomainName": "d"}, "ArnLike": {"iot:LastWillTopic": "arn:aws:iot:*:*:topic/w"},
		"ForAnyValue:StringEquals": {"iot:ConnectAttributes": "PersistentConnect"}}}
]}`

// What is misspelt in a policy is told to who puts it, and a kind that there is not is no target.
func TestMisspeltPolicies(t *testing.T) {
	t.Parallel()
	s, _ := administered(t)
	const misspelt = `{"Version": "2012-10-17", "Statement": {"Effect": "Deny", "Action": "iot:Conect", "Resource": "*"}}`
	for _, method := range []string{"PUT", "GET"} {
		body := ""
		if method == "PUT" {
			body = misspelt
		}
		if a := s.want(http.StatusOK, method, "/v1/policies/p", body); !strings.Contains(a.body, `"warnings":["line 1, column `) || !strings.Contains(a.body, "iot:Conect") {
			t.Errorf("%s: %s", method, a.body)
		}
	}
	if a := s.want(http.StatusOK, "PUT", "/v1/policies/p", lampsOnly); strings.Contains(a.body, "warnings") {
		t.Errorf("a good policy: %s", a.body)
	}
	if a := s.want(http.StatusBadRequest, "PUT", "/v1/policies/p/targets/kind:certificate", ""); !strings.Contains(a.body, "user, cert, key") {
		t.Errorf("the kinds are not told: %s", a.body)
	}
	s.want(http.StatusNotFound, "DELETE", "/v1/policies/p/targets/kind:certificate", "")
}

func TestPolicyTest(t *testing.T) {
	t.Parallel()
	s, _ := administered(t)
	s.want(http.StatusNoContent, "PUT", "/v1/policies/device/targets/group:lamps", "")
	s.want(http.StatusOK, "PUT", "/v1/policies/acme", ofConnection)
	s.want(http.StatusNoContent, "PUT", "/v1/policies/acme/targets/cert:ac", "")
	for question, want := range map[string]bool{
		`{"principal":"user:lamp","groups":["lamps"],"clientId":"lamp","action":"iot:Connect","resource":"client/lamp"}`:                  true,
		`{"principal":"user:lamp","groups":["lamps"],"clientId":"lamp","action":"iot:Connect","resource":"client/x"}`:                     false,
		`{"principal":"user:lamp","action":"iot:GetThingShadow","resource":"thing/lamp"}`:                                                 false,
		`{"principal":"cert:ab","name":"lamp","groups":["lamps"],"action":"iot:GetThingShadow","resource":"thing/lamp","sourceIp":"::1"}`: true,

		`{"principal":"cert:ac","attributes":{"Subject.Organization":["acme","x"]},"action":"iot:Publish","resource":"topic/acme"}`:                                     true,
		`{"principal":"cert:ac","action":"iot:Publish","resource":"topic/acme"}`:                                                                                        false,
		`{"principal":"cert:ac","clientId":"a","persistent":true,"willTopic":"w","secureTransport":true,"domainName":"d","action":"iot:Connect","resource":"client/a"}`: true,
		`{"principal":"cert:ac","clientId":"a","persistent":true,"willTopic":"w","domainName":"d","action":"iot:Connect","resource":"client/a"}`:                        false,
		`{"principal":"cert:ac","clientId":"a","willTopic":"w","secureTransport":true,"domainName":"d","action":"iot:Connect","resource":"client/a"}`:                   false,
	} {
		a := s.want(http.StatusOK, "POST", "/v1/policy-test", question)
		var got struct {
			Allowed bool
			Reason  string
		}
		if err := json.Unmarshal([]byte(a.body), &got); err != nil || got.Allowed != want || got.Reason == "" {
			t.Errorf("%s: %s, want %t", question, a.body, want)
		}
	}
	for _, question := range []string{`{`, `{}`, `{"principal":"user:a","action":"b","resource":"c","x":1}`, `{"principal":"user:a","action":"b","resource":"c","sourceIp":"x"}`, `{"principal":"user:a","action":"b","resource":"c","willTopic":"w"}`} {
		s.want(http.StatusBadRequest, "POST", "/v1/policy-test", question)
	}
}

// What is misspelt, or does not belong to the kind, is not passed over: the credential would be more than it was meant to be.
func TestCredentialsAreNoMoreThanIsAskedFor(t *testing.T) {
	t.Parallel()
	s, _ := administered(t)
	for body, problem := range map[string]string{
		`{"scope":["iot:Get*"]}`:                  "scope",
		`{"expire":"2030-01-01T00:00:00Z"}`:       "expire",
		`{"scopes":[]}`:                           "scopes",
		`{"scopes":null}`:                         "scopes",
		`{"name":"ci"} {"scopes":["iot:Get*"]}`:   "after",
		`{"password":"long enough"}`:              "password",
		`{"scopes":"iot:Get*"}`:                   "scopes",
		`{"policies":["app"],"Scopes":[],"id":1}`: "copes",
	} {
		for _, kind := range []string{"tokens", "keys", "users/bob"} {
			method := "POST"
			if kind == "users/bob" {
				method = "PUT"
				if problem == "password" {
					continue
				}
				body = strings.Replace(body, "{", `{"password":"long enough",`, 1)
			}
			if a := s.want(http.StatusBadRequest, method, "/v1/credentials/"+kind, body); !strings.Contains(a.body, problem) {
				t.Errorf("%s %s: %s, want that %s is wrong", kind, body, a.body, problem)
			}
		}
	}
	s.want(http.StatusBadRequest, "POST", "/v1/credentials/keys", `{"scopes":["iot:Get*"]}`)
	s.want(http.StatusBadRequest, "PUT", "/v1/credentials/users/bob", `{"password":"long enough","scopes":["iot:Get*"]}`)
	s.want(http.StatusBadRequest, "PUT", "/v1/credentials/users/bob", `{"password":"long enough","name":"root"}`)
	for _, kind := range []string{"users", "keys", "tokens"} {
		if a := s.want(http.StatusOK, "GET", "/v1/credentials/"+kind, ""); a.body != `{"credentials":[]}` {
			t.Errorf("%s were made: %s", kind, a.body)
		}
	}
	s.want(http.StatusCreated, "POST", "/v1/credentials/tokens", `{"name":"ci","scopes":["iot:Get*"],"expires":"2030-01-01T00:00:00Z"}`)
	if a := s.want(http.StatusOK, "GET", "/v1/credentials/tokens", ""); !strings.Contains(a.body, `"scopes":["iot:Get*"]`) {
		t.Errorf("the scopes are lost: %s", a.body)
	}
}

// What operators do is recorded, whether it succeeds or not.
func TestAudit(t *testing.T) {
	t.Parallel()
	s, _ := administered(t)
	s.want(http.StatusOK, "PUT", "/v1/policies/p", lampsOnly)
	s.want(http.StatusBadRequest, "PUT", "/v1/policies/q", `{"secret": "hunter2"}`)
	s.want(http.StatusNoContent, "PUT", "/v1/policies/p/targets/user:bob", "")
	a := s.want(http.StatusOK, "GET", "/v1/audit?limit=3", "")
	var got struct{ Records []audit.Record }
	if err := json.Unmarshal([]byte(a.body), &got); err != nil || len(got.Records) != 3 {
		t.Fatalf("the records are %s, %v", a.body, err)
	}
	for i, want := range []string{"umbra:AttachPolicy policy/p done", "umbra:PutPolicy policy/q failed", "umbra:PutPolicy policy/p done"} {
		if r := got.Records[i]; r.Action+" "+r.Resource+" "+r.Outcome != want {
			t.Errorf("record %d is %+v, want %s", i, r, want)
		}
	}
	if strings.Contains(a.body, "hunter2") {
		t.Errorf("a document is in the record: %s", a.body)
	}
	for query, want := range map[string]int{
		"outcome=failed": 1, "outcome=denied": 0, "action=umbra:PutPolicy": 2, "action=umbra:PutPolicy&outcome=done": 1, "principal=user:nobody": 0,
	} {
		a := s.want(http.StatusOK, "GET", "/v1/audit?"+query, "")
		if n := strings.Count(a.body, `"time":`); n != want {
			t.Errorf("%s: %d records, want %d: %s", query, n, want, a.body)
		}
	}
	s.want(http.StatusBadRequest, "GET", "/v1/audit?outcome=success", "")
}

// Whatever operators change is recorded, and secrets are not.
func TestEveryChangeIsRecorded(t *testing.T) {
	t.Parallel()
	s, _ := administered(t)
	s.mqtt(mqtttest.Options{ClientID: "lamp"})
	for _, test := range []struct{ method, path, body, want string }{
		{"PUT", "/v1/policies/p", lampsOnly, "umbra:PutPolicy policy/p"},
		{"PUT", "/v1/policies/p/targets/user:bob", "", "umbra:AttachPolicy policy/p"},
		{"DELETE", "/v1/policies/p/targets/user:bob", "", "umbra:AttachPolicy policy/p"},
		{"DELETE", "/v1/policies/p", "", "umbra:DeletePolicy policy/p"},
		{"PUT", "/v1/credentials/users/bob", `{"password":"hunter22"}`, "umbra:PutCredential credential/users/bob"},
		{"POST", "/v1/credentials/keys", `{"name":"bob"}`, "umbra:PutCredential credential/keys"},
		{"DELETE", "/v1/credentials/users/bob", "", "umbra:DeleteCredential credential/users/bob"},
		{"PUT", "/v1/registry/pump", `{"type":"hunter22"}`, "umbra:PutRegisteredThing thing/pump"},
		{"DELETE", "/v1/registry/pump", "", "umbra:DeleteRegisteredThing thing/pump"},
		{"DELETE", "/connections/lamp", "", "iot:DeleteConnection client/lamp"},
	} {
		var answer struct{ Secret string }
		if a := s.do(test.method, test.path, test.body); a.status >= 300 || a.body != "" && json.Unmarshal([]byte(a.body), &answer) != nil {
			t.Fatalf("%s %s: %d %s", test.method, test.path, a.status, a.body)
		}
		a := s.want(http.StatusOK, "GET", "/v1/audit?limit=1", "")
		var got struct{ Records []audit.Record }
		if err := json.Unmarshal([]byte(a.body), &got); err != nil || len(got.Records) != 1 {
			t.Fatalf("the records are %s, %v", a.body, err)
		}
		if r := got.Records[0]; r.Action+" "+r.Resource != test.want || r.Outcome != audit.Done {
			t.Errorf("%s %s is recorded as %+v, want %s", test.method, test.path, r, test.want)
		}
		if strings.Contains(a.body, "hunter22") || answer.Secret != "" && strings.Contains(a.body, answer.Secret) {
			t.Errorf("a secret or a document is in the record: %s", a.body)
		}
	}
}
