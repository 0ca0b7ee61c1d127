package authz_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"testing/fstest"
	"time"

	"github.com/umbra-iot/umbra/internal/auth"
	"github.com/umbra-iot/umbra/internal/auth/authz"
	"github.com/umbra-iot/umbra/internal/objects"
	"github.com/umbra-iot/umbra/statestore"
	"github.com/umbra-iot/umbra/statestore/memstore"
)

func newEngine(t testing.TB, files map[string]string) *authz.Engine {
	t.Helper()
	dir := fstest.MapFS{}
	for name, text := range files {
		dir[name] = &fstest.MapFile{Data: []byte(text)}
	}
	e, err := authz.New(authz.Options{Files: dir})
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// who is a user with policies of his own.
func who(name string, policies ...string) *auth.Principal {
	return &auth.Principal{ID: auth.NewID(auth.User, name), Kind: auth.User, Name: name, Policies: policies}
}

func TestBuiltIn(t *testing.T) {
	t.Parallel()
	const shadow = "$aws/things/lamp/shadow/"
	e := newEngine(t, nil)
	for _, test := range []struct {
		policy string
		action auth.Action
		name   string
		want   bool
	}{
		{"device", auth.Connect, "lamp", true},
		{"device", auth.Connect, "lamp2", false},
		{"device", auth.Publish, shadow + "update", true},
		{"device", auth.Publish, shadow + "name/cfg/get", true},
		{"device", auth.Publish, "$aws/things/door/shadow/update", false},
		{"device", auth.Publish, "x", false},
		{"device", auth.RetainPublish, shadow + "update", false},
		{"device", auth.Subscribe, shadow + "#", true},
		{"device", auth.Subscribe, "$aws/things/+/shadow/#", false},
		{"device", auth.Subscribe, "#", false},
		{"device", auth.Receive, shadow + "update/delta", true},
		{"device", auth.Receive, "$aws/things/door/shadow/update/delta", false},
		{"device", auth.GetThingShadow, "lamp", true},
		{"device", auth.UpdateThingShadow, "lamp/cfg", true},
		{"device", auth.GetThingShadow, "lamp2", false},
		{"device", auth.ListThings, "", false},
		{"app", auth.Publish, "$aws/things/door/shadow/update", true},
		{"app", auth.Publish, "x", false},
		{"app", auth.Connect, "lamp-1", true},
		{"app", auth.Connect, "lamp1", false},
		{"app", auth.DeleteThingShadow, "door", true},
		{"app", auth.ListThings, "", true},
		{"app", auth.DeleteConnection, "door", false},
		{"operator", auth.Publish, "x", true},
		{"operator", auth.DeleteConnection, "door", true},
		{"operator", auth.GetAudit, "", true},
		{"operator", auth.PutPolicy, "p", false},
		{"operator", auth.AttachPolicy, "p", false},
		{"operator", auth.ListRegistry, "", true},
		{"operator", auth.GetRegisteredThing, "door", true},
		{"operator", auth.PutRegisteredThing, "door", false},
		{"operator", auth.DeleteRegisteredThing, "door", false},
		{"operator", auth.Administer, "", false},
		{"read-only", auth.Receive, "x", true},
		{"read-only", auth.GetThingShadow, "door", true},
		{"read-only", auth.Publish, "x", false},
		{"read-only", auth.UpdateThingShadow, "lamp", false},
		{"read-only", auth.GetPolicy, "p", false},
		{"admin", auth.Administer, "", true},
		{"admin", auth.AttachPolicy, "p", true},
		{"unknown", auth.Connect, "lamp", false},
	} {
		if got := e.Rights(who("lamp", test.policy), auth.Link{MQTT: true, ClientID: "lamp"}).Allows(test.action, test.name); got != test.want {
			t.Errorf("%s: %v on %q: %t, want %t", test.policy, test.action, test.name, got, test.want)
		}
	}
	if e.Rights(nil, auth.Link{}).Allows(auth.Connect, "lamp") {
		t.Error("nobody may do something")
	}
	nameless := &auth.Principal{ID: "token:1", Kind: auth.Token, Policies: []string{"device"}}
	if e.Rights(nameless, auth.Link{MQTT: true}).Allows(auth.Connect, "") {
		t.Error("a principal without a name is a device")
	}
}

func TestActionsHaveNamesAndResources(t *testing.T) {
	t.Parallel()
	seen := map[string]bool{}
	for _, a := range auth.Actions() {
		if a.String() == "" || seen[a.String()] {
			t.Errorf("action %d has the name %q", a, a.String())
		}
		seen[a.String()] = true
	}
}

const onlyX = `{"Version": "2012-10-17", "Statement": {"Effect": "Allow", "Action": "iot:Publish", "Resource": "arn:aws:iot:us-east-1:123456789012:topic/x"}}`

func TestAttachments(t *testing.T) {
	t.Parallel()
	e := newEngine(t, map[string]string{
		"x.json":           onlyX,
		"device.json":      strings.Replace(onlyX, "topic/x", "topic/device", 1),
		"attachments.json": `{"user:alice": ["x"], "group:g": ["x"], "kind:cert": ["device"], "anonymous": ["x"]}`,
	})
	for _, test := range []struct {
		name string
		p    *auth.Principal
		want bool
	}{
		{"by ID", who("alice"), true},
		{"another one", who("bob"), false},
		{"by group", &auth.Principal{ID: "user:bob", Groups: []string{"h", "g"}}, true},
		{"by the credential", who("bob", "x"), true},
		{"nobody", nil, true},
		{"by kind, a file in place of a built-in policy", &auth.Principal{ID: "cert:1", Kind: auth.Certificate, Name: "x"}, false},
	} {
		if got := e.Rights(test.p, auth.Link{MQTT: true}).Allows(auth.Publish, "x"); got != test.want {
			t.Errorf("%s: %t, want %t", test.name, got, test.want)
		}
	}
	if e.Denied() != 2 {
		t.Errorf("denied %d times, want 2", e.Denied())
	}
	in, ok := e.Policy("x")
	if !ok || in.Origin != "file" || len(in.Targets) != 3 || in.Statements != 1 || !json.Valid(in.Document) {
		t.Errorf("the policy is %+v", in)
	}
	if n := len(e.Policies()); n != 6 {
		t.Errorf("there are %d policies, want 6", n)
	}
}

func TestScopes(t *testing.T) {
	t.Parallel()
	e := newEngine(t, nil)
	p := who("alice", "admin")
	p.Scopes = []string{"iot:Get*"}
	r := e.Rights(p, auth.Link{})
	if !r.Allows(auth.GetThingShadow, "x") || r.Allows(auth.UpdateThingShadow, "x") {
		t.Error("scopes do not confine")
	}
	if why := e.Explain(p, auth.Link{}, "iot:UpdateThingShadow", "thing/x"); why.Allowed || !strings.Contains(why.Reason, "scopes") {
		t.Errorf("the explanation is %+v", why)
	}
	p.Scopes = []string{}
	if e.Rights(p, auth.Link{}).Allows(auth.GetThingShadow, "x") {
		t.Error("empty scopes allow something")
	}
}

// Who has no policy has the default ones, except nobody; the operator is told of denials.
func TestDefaultAndDenials(t *testing.T) {
	t.Parallel()
	var told []string
	e, err := authz.New(authz.Options{Default: []string{"device"}, Denied: func(p *auth.Principal, l auth.Link, action, resource string) {
		told = append(told, fmt.Sprint(p, " ", l.ClientID, " ", action, " ", resource))
	}})
	if err != nil {
		t.Fatal(err)
	}
	link := auth.Link{MQTT: true, ClientID: "c"}
	alice := e.Rights(who("alice"), link)
	if !alice.Allows(auth.GetThingShadow, "alice") || e.Rights(who("alice", "unknown"), link).Allows(auth.GetThingShadow, "alice") {
		t.Error("the default policies do not count, or too much")
	}
	if alice.Shows(auth.Receive, "x") || alice.Shows(auth.Publish, "x") || !alice.Shows(auth.GetThingShadow, "alice") {
		t.Error("something else is shown than is allowed")
	}
	alice.Allows(auth.Publish, "x")
	alice.Allows(auth.Publish, "x")
	if e.Rights(nil, link).Allows(auth.ListThings, "") || len(e.Names(nil)) > 0 {
		t.Error("nobody has the default policies")
	}
	want := "[user:alice c iot:GetThingShadow thing/alice user:alice c iot:Publish topic/x anonymous c umbra:ListThings *]"
	if fmt.Sprint(told) != want {
		t.Errorf("told of %v, want %s", told, want)
	}
}

// What policies can know of things, certificates and connections.
func TestEnvironment(t *testing.T) {
	t.Parallel()
	e := newEngine(t, map[string]string{
		"things.json": `{"pump": {"type": "big", "attributes": {"site": "berlin"}, "principals": ["user:alice", "group:g"]}, "other": {}}`,
		"t.json": `{"Version": "2012-10-17", "Statement": [
			{"Effect": "Allow", "Action": "iot:Publish", "Resource": "arn:aws:iot:*:*:topic/${iot:Connection.Thing.ThingTypeName}/${iot:Connection.Thing.Attributes[site]}"},
			{"Effect": "Allow", "Action": "iot:Publish", "Resource": "arn:aws:iot:*:*:topic/attached", "Condition": {"Bool": {"iot:Connection.Thing.IsAttached": "true"}}},
			{"Effect": "Allow", "Action": "iot:Publish", "Resource": "arn:aws:iot:*:*:topic/id/${iot:CertificateId}"},
			{"Effect": "Allow", "Action": "iot:Connect", "Resource": "*", "Condition": {
				"ArnEquals": {"iot:LastWillTopic": "arn:aws:iot:us-east-1:123456789012:topic/w"}, "ForAllValues:StringEquals": {"iot:ConnectAttributes": ["LastWill"]}}}
		]}`,
	})
	link := func(id string) auth.Link { return auth.Link{MQTT: true, ClientID: id} }
	grouped := &auth.Principal{ID: "user:bob", Kind: auth.User, Name: "bob", Groups: []string{"g"}, Policies: []string{"t"}}
	for _, test := range []struct {
		p    *auth.Principal
		link auth.Link
		a    auth.Action
		name string
		want bool
	}{
		{who("alice", "t"), link("pump"), auth.Publish, "big/berlin", true},
		{who("alice", "t"), link("other"), auth.Publish, "big/berlin", false},
		{who("alice", "t"), link("pump"), auth.Publish, "attached", true},
		{grouped, link("pump"), auth.Publish, "attached", true},
		{who("bob", "t"), link("pump"), auth.Publish, "attached", false},
		{who("bob", "t"), link("bob"), auth.Publish, "attached", true},
		{who("bob", "t"), link("nothing"), auth.Publish, "attached", false},
		{&auth.Principal{ID: "cert:ab", Kind: auth.Certificate, Policies: []string{"t"}}, link("x"), auth.Publish, "id/ab", true},
		{who("bob", "t"), auth.Link{MQTT: true, WillTopic: "w"}, auth.Connect, "c", true},
		{who("bob", "t"), auth.Link{MQTT: true, WillTopic: "v"}, auth.Connect, "c", false},
		{who("bob", "t"), auth.Link{MQTT: true, WillTopic: "w", Persistent: true}, auth.Connect, "c", false},
	} {
		if got := e.Rights(test.p, test.link).Allows(test.a, test.name); got != test.want {
			t.Errorf("%v as %+v: %v on %s: %t, want %t", test.p, test.link, test.a, test.name, got, test.want)
		}
	}
}

// A change counts for rights that are in use.
func TestChanges(t *testing.T) {
	t.Parallel()
	e := newEngine(t, nil)
	store := objects.New(objects.Options{Objects: memstore.New(statestore.Options{})})
	if err := e.Follow(t.Context(), store); err != nil {
		t.Fatal(err)
	}
	calls := 0
	e.OnChange(func() { calls++ })
	put := func(kind, name, body string) {
		t.Helper()
		if _, err := store.Put(t.Context(), objects.Object{Kind: kind, Name: name, Body: []byte(body)}, objects.Any, ""); err != nil {
			t.Fatal(err)
		}
	}
	r := e.Rights(who("alice"), auth.Link{MQTT: true, ClientID: "pump"})
	want := func(what string, want bool) {
		t.Helper()
		for range 2 { // the second answer is remembered
			if got := r.Allows(auth.Publish, "x"); got != want {
				t.Errorf("%s: %t, want %t", what, got, want)
			}
		}
	}
	want("at first", false)
	put(authz.KindPolicy, "p", onlyX)
	want("a policy that is not attached", false)
	put(authz.KindAttachment, "user:alice", `["p"]`)
	want("attached", true)
	put(authz.KindPolicy, "p", strings.Replace(onlyX, "Allow", "Deny", 1))
	want("changed", false)
	put(authz.KindPolicy, "p", strings.Replace(onlyX, "topic/x", "topic/${iot:Connection.Thing.ThingTypeName}", 1))
	put(authz.KindThing, "pump", `{"type": "x"}`)
	want("a thing is registered", true)
	put(authz.KindPolicy, "broken", `{"Statement": 1}`)
	put(authz.KindAttachment, "user:alice", `["p", "broken"]`)
	want("beside a policy that is not understood", false)
	if err := store.Delete(t.Context(), authz.KindAttachment, "user:alice", objects.Any, ""); err != nil {
		t.Fatal(err)
	}
	want("detached", false)
	if calls != 8 {
		t.Errorf("told of %d changes, want 8", calls)
	}
}

// What is remembered of one action and name is no answer to others.
func TestDecisionsAreNotMixedUp(t *testing.T) {
	t.Parallel()
	e := newEngine(t, nil)
	for _, allowed := range auth.Actions() {
		p := who("alice", "admin")
		p.Scopes = []string{allowed.String()}
		r := e.Rights(p, auth.Link{MQTT: true, ClientID: "c"})
		for range 2 {
			for _, a := range auth.Actions() {
				if got := r.Allows(a, "x"); got != (a == allowed) {
					t.Errorf("who may only %s may %s: %t", allowed, a, got)
				}
			}
		}
	}
	r := e.Rights(who("alice", "device"), auth.Link{MQTT: true, ClientID: "alice"})
	for i := range 100 {
		if name := fmt.Sprint("thing", i); !r.Allows(auth.GetThingShadow, "alice") || r.Allows(auth.GetThingShadow, name) {
			t.Errorf("alice gets the shadow of %s, or not hers", name)
		}
	}
}

// A condition on the time is decided each time.
// Rights follow what the credential of somebody brings, and are none when it is gone.
func TestRightsFollowTheCredential(t *testing.T) {
	t.Parallel()
	var now atomic.Pointer[auth.Principal]
	e, err := authz.New(authz.Options{Current: func(*auth.Principal) (*auth.Principal, bool) { p := now.Load(); return p, p != nil }})
	if err != nil {
		t.Fatal(err)
	}
	scoped := who("bob", "admin")
	scoped.Scopes = []string{"iot:Receive"}
	old := who("bob", "operator")
	r := e.Rights(old, auth.Link{MQTT: true, ClientID: "bob"})
	for _, step := range []struct {
		name             string
		now              *auth.Principal
		receive, publish bool
	}{
		{"as he was", old, true, true},
		{"without his policy", who("bob"), false, false},
		{"with another policy", who("bob", "read-only"), true, false},
		{"with a scope", scoped, true, false},
		{"gone", nil, false, false},
		{"there again", old, true, true},
	} {
		now.Store(step.now)
		e.Renew()
		for action, want := range map[auth.Action]bool{auth.Receive: step.receive, auth.Publish: step.publish} {
			if r.Allows(action, "x") != want {
				t.Errorf("bob %s: %s is allowed: %t", step.name, action, !want)
			}
		}
	}
	if why := e.Explain(old, auth.Link{}, "iot:Publish", "topic/x"); !why.Allowed {
		t.Errorf("a question about somebody made up is answered with %+v", why)
	}
}

func TestTimeIsNotRemembered(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	e, err := authz.New(authz.Options{Now: func() time.Time { return now }, Files: fstest.MapFS{"t.json": {Data: []byte(`{"Version": "2012-10-17",
		"Statement": {"Effect": "Allow", "Action": "*", "Resource": "*", "Condition": {"DateLessThan": {"aws:CurrentTime": "2026-01-02"}}}}`)}}})
	if err != nil {
		t.Fatal(err)
	}
	r := e.Rights(who("alice", "t"), auth.Link{})
	if !r.Allows(auth.Publish, "x") {
		t.Error("denied within the time")
	}
	now = now.AddDate(0, 0, 2)
	if r.Allows(auth.Publish, "x") {
		t.Error("allowed after the time")
	}
}

func TestFilesErrors(t *testing.T) {
	t.Parallel()
	_, err := authz.New(authz.Options{Files: fstest.MapFS{
		"a.json": {Data: []byte(`{`)}, "attachments.json": {Data: []byte(`{"user:a": "p"}`)}, "things.json": {Data: []byte(`{"t": {"kind": "x"}}`)},
	}})
	for _, want := range []string{"a.json: policy: line 1", "attachments.json", `unknown field "kind"`} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("the error is %v, want %q", err, want)
		}
	}
}

func TestTargets(t *testing.T) {
	t.Parallel()
	for target, ok := range map[string]bool{
		"user:alice": true, "group:g": true, "kind:cert": true, "cert:ab": true, "anonymous": true, "jwt:https://issuer sub": true,
		"kind:jwt": true, "kind:anonymous": true, "alice": false, "user:": false, "thing:x": false, "": false,
		"kind:certificate": false, "kind:users": false, "anonymous:x": false,
	} {
		if err := authz.CheckTarget(target); (err == nil) != ok {
			t.Errorf("%q: %v", target, err)
		}
	}
}

// What is built in is not doubted: it is about every action and value that Umbra has.
func TestBuiltInPoliciesAreNotDoubted(t *testing.T) {
	t.Parallel()
	e, err := authz.New(authz.Options{})
	if err != nil {
		t.Fatal(err)
	}
	for _, in := range e.Policies() {
		if p, ok := e.Policy(in.Name); !ok || len(p.Warnings) > 0 {
			t.Errorf("policy %s: %q", in.Name, p.Warnings)
		}
	}
}

// BenchmarkMessage is what a message costs: one decision for its publisher and one for its subscriber,
// each of 10,000 principals with 100 statements.
func BenchmarkMessage(b *testing.B) {
	const principals = 10000
	var list []string
	for i := range 99 {
		list = append(list, fmt.Sprintf(`{"Effect": "Allow", "Action": ["iot:Publish", "iot:Receive"], "Resource": "arn:aws:iot:us-east-1:123456789012:topic/site%d/${iot:ClientId}/*"}`, i))
	}
	list = append(list, `{"Effect": "Allow", "Action": ["iot:Publish", "iot:Receive"], "Resource": "arn:aws:iot:us-east-1:123456789012:topic/own/${iot:ClientId}/*"}`)
	e := newEngine(b, map[string]string{"p.json": `{"Version": "2012-10-17", "Statement": [` + strings.Join(list, ",") + `]}`})
	rights, topics := make([]auth.Rights, principals), make([]string, principals)
	for i := range rights {
		id := fmt.Sprint("c", i)
		rights[i], topics[i] = e.Rights(who(id, "p"), auth.Link{MQTT: true, ClientID: id}), "own/"+id+"/temperature"
	}
	for name, step := range map[string]int{"same topics": 0, "new topics": 1} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			n := 0
			for b.Loop() {
				i := n % principals
				topic := topics[i]
				if step != 0 {
					topic = fmt.Sprint(topic, "/", n)
				}
				if !rights[i].Allows(auth.Publish, topic) || !rights[i].Allows(auth.Receive, topic) {
					b.Fatal("denied")
				}
				n++
			}
		})
	}
}
