package policy_test

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/umbra-iot/umbra/internal/auth/policy"
)

const arn = "arn:aws:iot:us-east-1:123456789012:"

// env is a client of whom everything is known.
func env() *policy.Env {
	return &policy.Env{
		MQTT: true, ClientID: "c1", Thing: &policy.Thing{Name: "c1", Attributes: map[string]string{"Site": "b*", "Twice": "1", "twice": "2"}},
		Certificate: map[string][]string{
			"Subject.Organization": {"A", "B", "C", "D", "E", "F"}, "Subject.Title": {strings.Repeat("x", 1025)},
			"Subject.AlternativeName.DNSName": {"n0", "n1"},
		},
		CertificateID: "abcd", SourceIP: netip.MustParseAddr("2001:db8::1"), Secure: true, Domain: "iot.example",
		ConnectAttributes: []string{"PersistentConnect", "LastWill"}, LastWillTopic: arn + "topic/a:b",
		PrincipalID: "user:alice", PrincipalType: "user", Name: "alice", Groups: []string{"ops", "dev"},
		Now: func() time.Time { return time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC) },
	}
}

// decide asks for iot:Publish on a topic.
func decide(t *testing.T, doc string, e *policy.Env, topic string) bool {
	t.Helper()
	p, err := policy.Parse("p", []byte(doc))
	if err != nil {
		t.Fatalf("%s: %v", doc, err)
	}
	r := policy.NewSet([]*policy.Policy{p}, nil).Bind(e)
	allowed := r.Allows("iot:Publish", []byte(arn+"topic/"+topic))
	if why := r.Explain("iot:Publish", arn+"topic/"+topic); why.Allowed != allowed {
		t.Errorf("Allows = %t, Explain = %+v", allowed, why)
	}
	return allowed
}

func TestConditions(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		condition string
		want      bool
	}{
		{`"StringEquals": {"iot:ClientId": "c1"}`, true},
		{`"StringEquals": {"IOT:CLIENTID": ["x", "c1"]}`, true},
		{`"StringEquals": {"iot:ClientId": "c*"}`, false},
		{`"StringEquals": {"iot:ClientId": "C1"}`, false},
		{`"StringEquals": {"iot:ClientId": "${iot:Connection.Thing.ThingName}"}`, true},
		{`"StringEquals": {"iot:ClientId": "c${*}"}`, false},
		{`"StringEquals": {"iot:ClientId": []}`, false},
		{`"StringEquals": {"iot:ClientId": "c1", "aws:username": "bob"}`, false},
		{`"StringEquals": {"iot:ClientId": "c1"}, "Bool": {"aws:SecureTransport": "false"}`, false},
		{`"StringNotEquals": {"iot:ClientId": ["x", "y"]}`, true},
		{`"StringNotEquals": {"iot:ClientId": ["x", "c1"]}`, false},
		{`"StringNotEquals": {"iot:Absent": "x"}`, true},
		{`"StringNotEquals": {"iot:ClientId": "${iot:Absent}"}`, false},
		{`"StringEquals": {"iot:ClientId": "${iot:Absent, 'c1'}"}`, true},
		{`"StringEqualsIgnoreCase": {"iot:ClientId": "C1"}`, true},
		{`"StringNotEqualsIgnoreCase": {"iot:ClientId": "C1"}`, false},
		{`"StringLike": {"iot:ClientId": "?1"}`, true},
		{`"StringLike": {"iot:ClientId": "?${*}"}`, false},
		{`"StringNotLike": {"iot:ClientId": "c*"}`, false},
		{`"StringEqualsIfExists": {"iot:Absent": "x"}`, true},
		{`"StringEqualsIfExists": {"iot:ClientId": "x"}`, false},
		{`"StringNotEqualsIfExists": {"iot:Absent": "x"}`, true},

		{`"NumericEquals": {"aws:EpochTime": 1772366400}`, true},
		{`"NumericEquals": {"aws:EpochTime": "1772366400.0"}`, true},
		{`"NumericNotEquals": {"aws:EpochTime": 1772366400}`, false},
		{`"NumericLessThan": {"aws:EpochTime": 1772366401}`, true},
		{`"NumericLessThanEquals": {"aws:EpochTime": 1772366399}`, false},
		{`"NumericGreaterThan": {"aws:EpochTime": 1772366400}`, false},
		{`"NumericGreaterThanEquals": {"aws:EpochTime": [9e99, 5]}`, true},
		{`"NumericEquals": {"iot:ClientId": 1}`, false},

		{`"DateEquals": {"aws:CurrentTime": "2026-03-01T13:00:00+01:00"}`, true},
		{`"DateNotEquals": {"aws:CurrentTime": "2026-03-01"}`, true},
		{`"DateLessThan": {"aws:CurrentTime": "2026-03-01T12:00:00.5Z"}`, true},
		{`"DateLessThanEquals": {"aws:CurrentTime": "2026-03-01T12:00Z"}`, true},
		{`"DateGreaterThan": {"aws:CurrentTime": "2026"}`, true},
		{`"DateGreaterThanEquals": {"aws:CurrentTime": "2026-04"}`, false},
		{`"DateGreaterThan": {"aws:EpochTime": "1772366399"}`, true},

		{`"Bool": {"aws:SecureTransport": true}`, true},
		{`"Bool": {"aws:SecureTransport": "TRUE"}`, true},
		{`"Bool": {"iot:Connection.Thing.IsAttached": "false"}`, true},
		{`"BoolIfExists": {"aws:MultiFactorAuthPresent": "true"}`, true},
		{`"BinaryEquals": {"iot:ClientId": "YzE="}`, true},
		{`"BinaryEquals": {"iot:ClientId": "YzI="}`, false},

		{`"IpAddress": {"aws:SourceIp": "2001:db8::/32"}`, true},
		{`"IpAddress": {"aws:SourceIp": ["192.0.2.0/24", "2001:db8::1"]}`, true},
		{`"IpAddress": {"aws:SourceIp": "192.0.2.1"}`, false},
		{`"NotIpAddress": {"aws:SourceIp": "2001:db8::/32"}`, false},
		{`"NotIpAddress": {"aws:SourceIp": "::/128"}`, true},

		{`"ArnEquals": {"iot:LastWillTopic": "arn:*:iot:us-east-?:*:topic/*"}`, true},
		{`"ArnLike": {"iot:LastWillTopic": "arn:aws:iot:*:topic/a:b"}`, false},
		{`"ArnLike": {"iot:LastWillTopic": "arn:aws:iot:*:*:topic/a:b"}`, true},
		{`"ArnLike": {"iot:LastWillTopic": "*"}`, true},
		{`"ArnNotLike": {"iot:LastWillTopic": "arn:aws:iot:*:*:topic/a*"}`, false},
		{`"ArnNotEquals": {"iot:LastWillTopic": "arn:aws:iot:*:*:topic/${iot:ClientId}"}`, true},
		{`"ArnEquals": {"iot:ClientId": "arn:aws:iot:*:*:topic/*"}`, false},

		{`"Null": {"iot:Absent": "true"}`, true},
		{`"Null": {"iot:Absent": "false"}`, false},
		{`"Null": {"iot:ClientId": "false"}`, true},
		{`"Null": {"iot:ClientId": [true, false]}`, true},

		{`"ForAllValues:StringEquals": {"iot:ConnectAttributes": ["LastWill", "PersistentConnect", "x"]}`, true},
		{`"ForAllValues:StringEquals": {"iot:ConnectAttributes": "LastWill"}`, false},
		{`"ForAllValues:StringEquals": {"iot:ConnectAttributes": []}`, false},
		{`"ForAllValues:StringEquals": {"iot:Absent": []}`, true},
		{`"ForAllValues:StringNotEquals": {"iot:ConnectAttributes": "LastWill"}`, false},
		{`"ForAllValues:StringNotEquals": {"iot:ConnectAttributes": "x"}`, true},
		{`"ForAnyValue:StringEquals": {"umbra:Groups": ["x", "dev"]}`, true},
		{`"ForAnyValue:StringEquals": {"umbra:Groups": "x"}`, false},
		{`"ForAnyValue:StringNotEquals": {"umbra:Groups": "ops"}`, true},
		{`"ForAnyValue:StringNotEquals": {"umbra:Groups": ["ops", "dev"]}`, false},
		{`"ForAnyValue:StringEquals": {"iot:Absent": "x"}`, false},
		{`"ForAnyValue:StringNotEquals": {"iot:Absent": "x"}`, false},
		{`"ForAnyValue:StringEqualsIfExists": {"iot:Absent": "x"}`, true},
		{`"ForAnyValue:StringLike": {"umbra:Groups": "d*"}`, true},
		{`"StringEquals": {"umbra:Groups": "dev"}`, true},
		{`"StringNotEquals": {"umbra:Groups": "dev"}`, false},

		{`"StringEquals": {"iot:Certificate.Subject.Organization": "A"}`, true},
		{`"StringEquals": {"iot:Certificate.Subject.Organization": "B"}`, false},
		{`"StringEquals": {"iot:Certificate.Subject.Organization.0": "A"}`, true},
		{`"StringEquals": {"iot:certificate.subject.organization.4": "E"}`, true},
		{`"StringEquals": {"iot:Certificate.Subject.Organization.5": "F"}`, false},
		{`"ForAnyValue:StringEquals": {"iot:Certificate.Subject.Organization.List": "E"}`, true},
		{`"ForAnyValue:StringEquals": {"iot:Certificate.Subject.Organization.List": "F"}`, false},
		{`"StringEquals": {"iot:Certificate.Subject.AlternativeName.DNSName.1": "n1"}`, true},
		{`"StringEquals": {"iot:CertificateId": "abcd", "iot:Certificate.CertificateId": "abcd"}`, true},
		{`"StringEquals": {"iot:DomainName": "iot.example", "umbra:Principal": "user:alice", "aws:PrincipalType": "user"}`, true},
		{`"StringEquals": {"iot:Connection.Thing.Attributes[site]": "b*"}`, true},
		{`"StringEquals": {"iot:connection.thing.attributes[Twice]": "1", "iot:Connection.Thing.Attributes[twice]": "2"}`, true},
		{`"StringEquals": {"iot:Connection.Thing.Attributes[TWICE]": "1"}`, true},
		{`"Null": {"iot:Connection.Thing.Attributes[none]": "true"}`, true},
	} {
		doc := `{"Version": "2012-10-17", "Statement": {"Effect": %q, "Action": "*", "Resource": "*", "Condition": {` + test.condition + `}}}`
		if got := decide(t, fmt.Sprintf(doc, "Allow"), env(), "x"); got != test.want {
			t.Errorf("%s holds: %t, want %t", test.condition, got, test.want)
		}
	}
}

func TestResources(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		resource, topic string
		want            bool
	}{
		{`"arn:aws:iot:*:*:topic/a"`, "a", true},
		{`"arn:aws:iot:*topic/a"`, "a", true},
		{`["arn:x", "*"]`, "a", true},
		{`"arn:aws:iot:*:*:topic/?"`, "ä", true},
		{`"arn:aws:iot:*:*:topic/*ä*"`, "aäa", true},
		{`"arn:aws:iot:*:*:topic/*a*b*c"`, "xaxbxbxc", true},
		{`"arn:aws:iot:*:*:topic/*a*b*c"`, "xaxbxbxcx", false},
		{`"arn:aws:iot:*:*:topic/**"`, "", true},
		{`"arn:aws:iot:*:*:topic/${iot:ClientId}/*"`, "c1/x", true},
		{`"arn:aws:iot:*:*:topic/*/${iot:ClientId}"`, "c/c1/c1", true},
		{`"arn:aws:iot:*:*:topic/${iot:Connection.Thing.Attributes[Site]}"`, "b*", true},
		{`"arn:aws:iot:*:*:topic/${iot:Connection.Thing.Attributes[Site]}"`, "bx", false},
		{`"arn:aws:iot:*:*:topic/${iot:Certificate.Subject.Title}"`, strings.Repeat("x", 1025), false},
		{`"arn:aws:iot:*:*:topic/${iot:Certificate.Subject.Organization.List}"`, "A", false},
		{`"arn:aws:iot:*:*:topic/${umbra:Groups}"`, "ops", false},
		{`"arn:aws:iot:*:*:topic/${ aws:username , 'x' }"`, "alice", true},
		{`"arn:aws:iot:*:*:topic/${iot:Absent, 'x*'}"`, "x*", true},
		{`"arn:aws:iot:*:*:topic/${iot:Absent, 'x*'}"`, "xy", false},
		{`"arn:aws:iot:*:*:topic/*${iot:Absent}"`, "x", false},
		{`"arn:aws:iot:*:*:topic/${?}${$}{x}$"`, "?${x}$", true},
		{`"arn:aws:iot:*:*:topic/$aws/x"`, "$aws/x", true},
	} {
		doc := `{"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": ["IOT:pub*"], "Resource": ` + test.resource + `}]}`
		if got := decide(t, doc, env(), test.topic); got != test.want {
			t.Errorf("%s allows %s: %t, want %t", test.resource, test.topic, got, test.want)
		}
	}
}

func TestStatements(t *testing.T) {
	t.Parallel()
	const allow, deny = `{"Effect": "Allow", "Action": "*", "Resource": "*"}`, `{"Effect": "Deny", `
	for _, test := range []struct {
		name, version, statements string
		want                      bool
	}{
		{"deny wins, wherever it stands", "2012-10-17", deny + `"Action": "iot:*", "Resource": "*"}, ` + allow, false},
		{"another action is denied", "2012-10-17", allow + ", " + deny + `"Action": "iot:Connect", "Resource": "*"}`, true},
		{"NotAction of an allow", "2012-10-17", `{"Effect": "Allow", "NotAction": "iot:Connect", "Resource": "*"}`, true},
		{"NotAction with the action", "2012-10-17", `{"Effect": "Allow", "NotAction": ["iot:PUB*"], "Resource": "*"}`, false},
		{"NotResource of a deny", "2012-10-17", allow + ", " + deny + `"Action": "*", "NotResource": "arn:aws:iot:*:*:topic/a"}`, false},
		{"NotResource of a deny with the topic", "2012-10-17", allow + ", " + deny + `"Action": "*", "NotResource": "arn:aws:iot:*:*:topic/x"}`, true},
		{"an unknown variable in NotResource allows nothing", "2012-10-17", `{"Effect": "Allow", "Action": "*", "NotResource": "arn:aws:iot:*:*:topic/${iot:No}"}`, false},
		{"an unknown variable in NotResource denies", "2012-10-17", allow + ", " + deny + `"Action": "*", "NotResource": "arn:aws:iot:*:*:topic/${iot:No}"}`, false},
		{"an unknown variable in a negated condition of a deny", "2012-10-17", allow + ", " + deny + `"Action": "*", "Resource": "*", "Condition": {"StringNotEquals": {"iot:ClientId": "${iot:No}"}}}`, false},
		{"the old version has no variables", "2008-10-17", `{"Effect": "Allow", "Action": "*", "Resource": "arn:aws:iot:*:*:topic/${aws:username, 'x'}"}`, false},
		{"the old version has wildcards", "2008-10-17", `{"Effect": "Allow", "Action": "*", "Resource": "arn:aws:iot:*:*:topic/?"}`, true},
	} {
		if got := decide(t, `{"Statement": [`+test.statements+`], "Version": "`+test.version+`"}`, env(), "x"); got != test.want {
			t.Errorf("%s: %t, want %t", test.name, got, test.want)
		}
	}
	if decide(t, `{"Statement": {"Effect": "Allow", "Action": "*", "Resource": "arn:aws:iot:*:*:topic/${aws:username}"}}`, env(), "alice") {
		t.Error("a document without version has variables")
	}
	if !decide(t, `{"Statement": {"Effect": "Allow", "Action": "*", "Resource": "arn:aws:iot:*:*:topic/${aws:username}"}}`, env(), "${aws:username}") {
		t.Error("in a document without version the text of a variable is no text")
	}
}

// Over HTTP there is neither a client id nor a thing.
func TestHTTP(t *testing.T) {
	t.Parallel()
	e := env()
	e.MQTT = false
	for _, name := range []string{"iot:ClientId", "iot:Connection.Thing.ThingName", "iot:Connection.Thing.IsAttached"} {
		doc := `{"Version": "2012-10-17", "Statement": {"Effect": "Allow", "Action": "*", "Resource": "*", "Condition": {"Null": {"` + name + `": "true"}}}}`
		if !decide(t, doc, e, "x") {
			t.Errorf("%s has a value over HTTP", name)
		}
	}
}

// What depends on the time is decided anew each time.
func TestTime(t *testing.T) {
	t.Parallel()
	p, err := policy.Parse("p", []byte(`{"Version": "2012-10-17", "Statement": {"Effect": "Allow", "Action": "iot:Publish", "Resource": "*",
		"Condition": {"DateLessThan": {"aws:CurrentTime": "2026-03-01T12:00:00Z"}}}}`))
	if err != nil {
		t.Fatal(err)
	}
	e := env()
	now := e.Now()
	e.Now = func() time.Time { return now }
	r := policy.NewSet([]*policy.Policy{p}, []string{"iot:Publish"}).Bind(e)
	if !r.Timed("iot:Publish") || r.Allows("iot:Publish", []byte("*")) {
		t.Error("allowed at the end of the time")
	}
	if r.Timed("iot:Connect") {
		t.Error("what no statement is about depends on the time")
	}
	now = now.Add(-time.Second)
	if !r.Allows("iot:Publish", []byte("*")) || !r.Explain("iot:Publish", "*").Allowed {
		t.Error("not allowed within the time")
	}
}

func TestExplain(t *testing.T) {
	t.Parallel()
	first, err := policy.Parse("first", []byte(`{"Version": "2012-10-17", "Statement": [
		{"Sid": "Own", "Effect": "Allow", "Action": "iot:Publish", "Resource": "arn:aws:iot:*:*:topic/${iot:No}"},
		{"Effect": "Allow", "Action": "iot:Publish", "Resource": "*", "Condition": {"StringEquals": {"iot:ClientId": "x"}}},
		{"Effect": "Allow", "Action": "iot:Connect", "Resource": "*"}]}`))
	if err != nil {
		t.Fatal(err)
	}
	second, err := policy.Parse("second", []byte(`{"Statement": {"Sid": "No", "Effect": "Deny", "Action": "iot:*", "Resource": "arn:aws:iot:*:*:topic/secret"}}`))
	if err != nil {
		t.Fatal(err)
	}
	r := policy.NewSet([]*policy.Policy{first, second}, nil).Bind(env())
	why := r.Explain("iot:Publish", arn+"topic/secret")
	if why.Allowed || why.Policy != "second" || why.Statement != 1 || why.Sid != "No" || why.Effect != "Deny" {
		t.Errorf("explicit deny: %+v", why)
	}
	why = r.Explain("iot:Connect", arn+"client/c1")
	if !why.Allowed || why.Policy != "first" || why.Statement != 3 {
		t.Errorf("allow: %+v", why)
	}
	why = r.Explain("iot:Publish", arn+"topic/x")
	if why.Allowed || why.Policy != "" || len(why.Others) != 3 {
		t.Fatalf("implicit deny: %+v", why)
	}
	for i, want := range []string{"its resource does not match", "no value of arn:aws:iot:*:*:topic/${iot:No}", `condition StringEquals iot:ClientId does not hold: the value is ["c1"]`} {
		if !strings.Contains(why.Others[i].Reason, want) {
			t.Errorf("verdict %d is %q, want %q", i, why.Others[i].Reason, want)
		}
	}
	if why := policy.NewSet(nil, nil).Bind(env()).Explain("iot:Publish", "*"); why.Allowed || why.Reason != "no policy is attached" {
		t.Errorf("no policy: %+v", why)
	}
}

func TestParseErrors(t *testing.T) {
	t.Parallel()
	statement := func(s string) string { return `{"Version": "2012-10-17", "Statement": [` + s + `]}` }
	for _, test := range []struct {
		doc          string
		line, column int
		message      string
	}{
		{``, 1, 1, "ends too early"},
		{`{"Version": "2012-10-17",` + "\n" + ` "Statement": [{]}`, 2, 0, "invalid JSON"},
		{`[]`, 1, 1, "JSON object"},
		{`{"Statement": {}} x`, 1, 0, "something after"},
		{`{"Version": "2012-10-17"}`, 1, 0, "has a Statement"},
		{`{"Version": "2012", "Statement": []}`, 1, 18, "Version is"},
		{`{"Version": "2012-10-17", "Statement": []}`, 1, 0, "Statement is empty"},
		{"{\"Version\": \"2012-10-17\",\n \"Statements\": []}", 2, 13, `unknown element "Statements"`},
		{"\xFF", 1, 1, "UTF-8"},
		{strings.Repeat("[", 100), 1, 9, "nested too deeply"},
		{`"` + strings.Repeat("x", policy.MaxBytes) + `"`, 1, 1, "at most"},
		{statement(`1`), 0, 0, "statement is a JSON object"},
		{statement(`{"Effect": "allow", "Action": "*", "Resource": "*"}`), 0, 0, "Effect is"},
		{statement(`{"Effect": "Allow", "Effect": "Deny", "Action": "*", "Resource": "*"}`), 0, 0, "comes twice"},
		{statement(`{"Effect": "Allow", "Action": "*"}`), 0, 0, "has Effect, Action"},
		{statement(`{"Effect": "Allow", "Action": "*", "NotAction": "*", "Resource": "*"}`), 0, 0, "one of Action and NotAction"},
		{statement(`{"Effect": "Allow", "Action": "*", "Resource": "*", "NotResource": "*"}`), 0, 0, "one of Resource and NotResource"},
		{statement(`{"Effect": "Allow", "Action": "Publish", "Resource": "*"}`), 0, 0, "neither"},
		{statement(`{"Effect": "Allow", "Action": [], "Resource": "*"}`), 0, 0, "Action is empty"},
		{statement(`{"Effect": "Allow", "Action": [1], "Resource": "*"}`), 0, 0, "list of strings"},
		{statement(`{"Effect": "Allow", "Action": "*", "Resource": "topic/a"}`), 0, 0, "nor an ARN"},
		{statement(`{"Effect": "Allow", "Action": "*", "Resource": "arn:aws:iot:x:y:topic/${a"}`), 0, 0, "not closed"},
		{statement(`{"Effect": "Allow", "Action": "*", "Resource": "arn:aws:iot:x:y:topic/${}"}`), 0, 0, "no name"},
		{statement(`{"Effect": "Allow", "Action": "*", "Resource": "arn:aws:iot:${aws:username}:y:topic/a"}`), 0, 0, "fifth colon"},
		{statement(`{"Effect": "Allow", "Action": "*", "Resource": "*", "Principal": "*"}`), 0, 0, `unknown element "Principal"`},
		{statement(`{"Effect": "Allow", "Action": "*", "Resource": "*", "Condition": []}`), 0, 0, "Condition is a JSON object"},
		{statement(`{"Effect": "Allow", "Action": "*", "Resource": "*", "Condition": {"StringIs": {"a": "b"}}}`), 0, 0, "unknown condition operator"},
		{statement(`{"Effect": "Allow", "Action": "*", "Resource": "*", "Condition": {"NumericNotLessThan": {"a": 1}}}`), 0, 0, "unknown condition operator"},
		{statement(`{"Effect": "Allow", "Action": "*", "Resource": "*", "Condition": {"NullIfExists": {"a": "true"}}}`), 0, 0, "unknown condition operator"},
		{statement(`{"Effect": "Allow", "Action": "*", "Resource": "*", "Condition": {"Bool": {}}}`), 0, 0, "keys and values"},
		{statement(`{"Effect": "Allow", "Action": "*", "Resource": "*", "Condition": {"Bool": {"a": "yes"}}}`), 0, 0, "neither true nor false"},
		{statement(`{"Effect": "Allow", "Action": "*", "Resource": "*", "Condition": {"NumericEquals": {"a": "b"}}}`), 0, 0, "not a number"},
		{statement(`{"Effect": "Allow", "Action": "*", "Resource": "*", "Condition": {"DateEquals": {"a": "b"}}}`), 0, 0, "neither a date"},
		{statement(`{"Effect": "Allow", "Action": "*", "Resource": "*", "Condition": {"BinaryEquals": {"a": "%"}}}`), 0, 0, "base64"},
		{statement(`{"Effect": "Allow", "Action": "*", "Resource": "*", "Condition": {"IpAddress": {"a": "b"}}}`), 0, 0, "neither an address"},
		{statement(`{"Effect": "Allow", "Action": "*", "Resource": "*", "Condition": {"ArnLike": {"a": "arn:*"}}}`), 0, 0, "not an ARN"},
		{statement(`{"Effect": "Allow", "Action": "*", "Resource": "*", "Condition": {"StringEquals": {"a": [null]}}}`), 0, 0, "value of a condition"},
	} {
		_, err := policy.Parse("p", []byte(test.doc))
		bad, ok := errors.AsType[*policy.Error](err)
		if !ok || !strings.Contains(err.Error(), test.message) {
			t.Errorf("%.80s: %v, want %q", test.doc, err, test.message)
			continue
		}
		if test.line != 0 && bad.Line != test.line || test.column != 0 && bad.Column != test.column {
			t.Errorf("%.80s: %v, want line %d, column %d", test.doc, err, test.line, test.column)
		}
	}
}

// What cannot be understood allows nothing, and denies.
func TestSalvage(t *testing.T) {
	t.Parallel()
	all, err := policy.Parse("all", []byte(`{"Statement": {"Effect": "Allow", "Action": "*", "Resource": "*"}}`))
	if err != nil {
		t.Fatal(err)
	}
	const condition = `"Condition": {"StringIs": {"a": "b"}}`
	for _, test := range []struct {
		doc  string
		want bool // whether others may allow topic x
	}{
		{`{`, false},
		{`{"Statement": [{"Effect": "Deny"}]}`, false},
		{`{"Statement": [{"Effect": "deny", "Action": "iot:Publish", "Resource": "*"}]}`, false},
		{`{"Statement": [{"Effect": "Allow", "Action": "iot:Publish", "Resource": "*", ` + condition + `}]}`, true},
		{`{"Statement": [{"Effect": "Deny", "Action": "iot:Publish", "Resource": "*", ` + condition + `}]}`, false},
		{`{"Statement": [{"Effect": "Deny", "Action": "iot:Connect", "Resource": "*", ` + condition + `}]}`, true},
		{`{"Statement": [{"Effect": "Deny", "Action": "iot:Publish", "Resource": "arn:aws:iot:*:*:topic/y", ` + condition + `}]}`, true},
		{`{"Statement": [{"Effect": "Allow", "Action": "iot:Publish", "Resource": "*", ` + condition + `},
			{"Effect": "Deny", "Action": "iot:Publish", "Resource": "*", "Condition": {"Bool": {"aws:SecureTransport": "true"}}}]}`, false},
		{`{"Statement": [{"Effect": "Allow", "Action": "iot:Publish", "Resource": "*", ` + condition + `},
			{"Effect": "Deny", "Action": "iot:Publish", "Resource": "*", "Condition": {"Bool": {"aws:SecureTransport": "false"}}}]}`, true},
	} {
		if _, err := policy.Parse("p", []byte(test.doc)); err == nil {
			t.Errorf("%s is a policy", test.doc)
		}
		rest := policy.Salvage("p", []byte(test.doc))
		if policy.NewSet([]*policy.Policy{rest}, nil).Bind(env()).Allows("iot:Publish", []byte(arn+"topic/x")) {
			t.Errorf("%s allows something", test.doc)
		}
		if got := policy.NewSet([]*policy.Policy{all, rest}, nil).Bind(env()).Allows("iot:Publish", []byte(arn+"topic/x")); got != test.want {
			t.Errorf("%s beside an allow: %t, want %t", test.doc, got, test.want)
		}
	}
}

// A document is refused or can be evaluated; what Allows and Explain say is the same, and one
// that is refused allows nothing.
func FuzzParse(f *testing.F) {
	f.Add([]byte(`{"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": ["iot:*"], "NotResource": "arn:aws:iot:*:*:topic/${iot:ClientId, 'x'}",
		"Condition": {"ForAnyValue:StringLike": {"iot:Certificate.Subject.Organization.List": ["a*", 1, true]}, "IpAddress": {"aws:SourceIp": "::/0"}}}]}`), "x")
	f.Add([]byte(`{"Statement": {"Sid": "a", "Effect": "Deny", "NotAction": "iot:Publish", "Resource": "*", "Condition": {"DateLessThan": {"aws:CurrentTime": "2026"}}}}`), "a/b")
	f.Fuzz(func(t *testing.T, doc []byte, topic string) {
		p, err := policy.Parse("p", doc)
		if err != nil {
			if len(err.Error()) == 0 {
				t.Error("an error without text")
			}
			p = policy.Salvage("p", doc)
		}
		r := policy.NewSet([]*policy.Policy{p}, []string{"iot:Publish"}).Bind(env())
		for _, action := range []string{"iot:Publish", "iot:Receive"} {
			allowed := r.Allows(action, []byte(arn+"topic/"+topic))
			if allowed && err != nil {
				t.Error("a document that is refused allows something")
			}
			if why := r.Explain(action, arn+"topic/"+topic); why.Allowed != allowed {
				t.Errorf("Allows = %t, Explain = %+v", allowed, why)
			}
		}
	})
}

// A hundred statements, of which the last one allows.
func BenchmarkAllows(b *testing.B) {
	var list []string
	for i := range 99 {
		list = append(list, fmt.Sprintf(`{"Effect": "Allow", "Action": "iot:Publish", "Resource": "arn:aws:iot:us-east-1:123456789012:topic/site%d/${iot:ClientId}/*"}`, i))
	}
	list = append(list, `{"Effect": "Allow", "Action": "iot:Publish", "Resource": "arn:aws:iot:us-east-1:123456789012:topic/own/${iot:ClientId}/*"}`)
	p, err := policy.Parse("p", []byte(`{"Version": "2012-10-17", "Statement": [`+strings.Join(list, ",")+`]}`))
	if err != nil {
		b.Fatal(err)
	}
	r := policy.NewSet([]*policy.Policy{p}, []string{"iot:Publish"}).Bind(env())
	resource := []byte(arn + "topic/own/c1/temperature")
	b.ReportAllocs()
	for b.Loop() {
		if !r.Allows("iot:Publish", resource) {
			b.Fatal("denied")
		}
	}
}

// In the resources of things a variable is the name of a thing, and no path to a shadow of another one.
func TestVariablesInResourcesOfThings(t *testing.T) {
	t.Parallel()
	const get, publish = "iot:GetThingShadow", "iot:Publish"
	long := strings.Repeat("x", 129)
	for _, test := range []struct {
		resource, name string
		action, on     string
		want           bool
	}{
		{"arn:aws:iot:*:*:thing/${umbra:Name}", "lamp", get, "thing/lamp", true},
		{"arn:aws:iot:*:*:thing/${umbra:Name}", "a:b_c-D1", get, "thing/a:b_c-D1", true},
		{"arn:aws:iot:*:*:thing/${umbra:Name}", "lamp/secret", get, "thing/lamp/secret", false},
		{"arn:aws:iot:*:*:thing/${aws:username}/*", "lamp/a", get, "thing/lamp/a/b", false},
		{"arn:aws:iot:*:*:thing/${iot:ClientId}", "lamp/secret", get, "thing/lamp/secret", true}, // as AWS
		{"arn:aws:iot:*:*:thing/${umbra:Name, 'lamp'}", "lamp/secret", get, "thing/lamp/secret", false},
		{"arn:aws:iot:*:*:thing/x-${umbra:Name}", "lamp/secret", get, "thing/x-lamp/secret", false},
		{"arn:aws:iot:*:thing/${umbra:Name}", "lamp/secret", get, "thing/lamp/secret", false},
		{"*:thing/${umbra:Name}", "lamp/secret", get, "thing/lamp/secret", false},
		{"arn:aws:iot:*:*:topic/$aws/things/${umbra:Name}/shadow/get", "lamp", publish, "topic/$aws/things/lamp/shadow/get", true},
		{"arn:aws:iot:*:*:topic/$aws/things/${umbra:Name}/shadow/get", "lamp/shadow/name", publish, "topic/$aws/things/lamp/shadow/name/shadow/get", false},
		{"arn:aws:iot:*:*:topicfilter/$aws/things/${umbra:Name}/shadow/*", "+", "iot:Subscribe", "topicfilter/$aws/things/+/shadow/#", false},
		{
			"arn:aws:iot:*:*:topicfilter/$aws/things/${umbra:Name}/shadow/get/*", "lamp/shadow/name",
			"iot:Subscribe", "topicfilter/$aws/things/lamp/shadow/name/shadow/get/#", false,
		},
		{"arn:aws:iot:*:*:thing/${umbra:Name}", long[:128], get, "thing/" + long[:128], true},
		{"arn:aws:iot:*:*:thing/${umbra:Name}", long, get, "thing/" + long, false},
		{"arn:aws:iot:*:*:topic/devices/${umbra:Name}/*", "repo:org/x", publish, "topic/devices/repo:org/x/a", true},
		{"arn:aws:iot:*:*:topic/${umbra:Name}/*", "$aws/things/lamp", publish, "topic/$aws/things/lamp/shadow/get", false},
		{"arn:aws:iot:*:*:topicfilter/${umbra:Name}/*", "+", "iot:Subscribe", "topicfilter/+/a", false},
	} {
		doc := fmt.Sprintf(`{"Version": "2012-10-17", "Statement": {"Effect": "Allow", "Action": "*", "Resource": %q}}`, test.resource)
		p, err := policy.Parse("p", []byte(doc))
		if err != nil {
			t.Fatalf("%s: %v", doc, err)
		}
		e := &policy.Env{MQTT: true, Name: test.name, ClientID: test.name, Certificate: map[string][]string{"Subject.CommonName": {test.name}}}
		if got := policy.NewSet([]*policy.Policy{p}, nil).Bind(e).Allows(test.action, []byte(arn+test.on)); got != test.want {
			t.Errorf("%s, with the name %q, on %s: %t, want %t", test.resource, test.name, test.on, got, test.want)
		}
	}
}
