package conformance_test

import (
	"strings"
	"testing"
	"time"

	"github.com/umbra-iot/umbra/internal/conformance"
)

func TestLoad(t *testing.T) {
	t.Parallel()
	cases, err := conformance.Load("../../testdata/protocol/cases-public.json")
	if err != nil {
		t.Fatal(err)
	}
	if len(cases) < 100 {
		t.Errorf("Load gave %d cases, want at least 100", len(cases))
	}
	seen := map[string]bool{}
	for _, c := range cases {
		if seen[c.ID] || len(c.Steps) == 0 {
			t.Errorf("case %q is double or has no steps", c.ID)
		}
		seen[c.ID] = true
		for i, s := range c.Steps {
			if _, err := s.PayloadBytes(); err != nil {
				t.Errorf("%s step %d: PayloadBytes() = %v", c.ID, i, err)
			}
		}
	}
}

func TestFresh(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("t", 129)
	c := conformance.Case{Steps: []conformance.Step{{Thing: "lamp"}, {Thing: long}, {}}}
	f := c.Fresh("x7")
	if got, want := f.Steps[0].Thing, "lamp-x7"; got != want {
		t.Errorf("Fresh: thing = %q, want %q", got, want)
	}
	if got, want := f.Steps[1].Thing, long[:127]+"x7"; got != want {
		t.Errorf("Fresh: long thing = %q, want %q", got, want)
	}
	if f.Steps[2].Thing != "" || c.Steps[0].Thing != "lamp" {
		t.Errorf("Fresh changed the case itself or named a step without a thing")
	}
}

func TestPayloadBytes(t *testing.T) {
	t.Parallel()
	tests := []struct{ payload, want string }{
		{`{"state":{}}`, `{"state":{}}`},
		{`{"$raw":""}`, ``},
		{`{"$raw":"{'a"}`, `{'a`},
		{`{"$b64":"/v8="}`, "\xfe\xff"},
		{`{"$tmpl":"[${ *3}\"${é*2}\"]"}`, `[   "éé"]`},
		{`{"$raw":1}`, `{"$raw":1}`},
		{`{"$x":"y"}`, `{"$x":"y"}`},
	}
	for _, tt := range tests {
		got, err := conformance.Step{Payload: []byte(tt.payload)}.PayloadBytes()
		if err != nil || string(got) != tt.want {
			t.Errorf("PayloadBytes(%s) = %q, %v, want %q", tt.payload, got, err, tt.want)
		}
	}
}

func TestMatch(t *testing.T) {
	t.Parallel()
	tests := []struct {
		want, got string
		ok        bool
	}{
		{`{"a":1}`, `{"a":1.0}`, true},
		{`{"a":1}`, `{"a":1,"b":2}`, false},
		{`{"a":1,"$open":true}`, `{"a":1,"b":2}`, true},
		{`{"$open":true}`, `{}`, true},
		{`{"$open":true}`, `null`, false},
		{`{"a":1}`, `{}`, false},
		{`{"a":null}`, `{}`, false},
		{`[1,2]`, `[2,1]`, false},
		{`[1,2]`, `[1,2]`, true},
		{`1`, `"1"`, false},
		{`9007199254740993`, `9007199254740992`, false},
		{`"$ts"`, `1000`, true},
		{`"$ts"`, `1120`, true},
		{`"$ts"`, `1121`, false},
		{`"$ts"`, `1000.5`, false},
		{`{"a":"$ts"}`, `{}`, false},
		{`{"a":"$tsOrAbsent"}`, `{}`, true},
		{`{"a":"$any"}`, `{"a":null}`, true},
		{`{"a":"$any"}`, `{}`, false},
		{`{"a":"$absent"}`, `{}`, true},
		{`{"a":"$absent"}`, `{"a":1}`, false},
		{`{"a":"$nullish"}`, `{"a":null}`, true},
		{`{"a":"$nullish"}`, `{"a":0}`, false},
		{`"$string"`, `""`, true},
		{`"$other"`, `"$other"`, true},
		{`{"a":{"$oneOf":[{"b":1},"$absent"]}}`, `{}`, true},
		{`{"a":{"$oneOf":[{"b":1},"$absent"]}}`, `{"a":{"b":2}}`, false},
		{`{"$re":"(?i)json"}`, `"Invalid JSON"`, true},
		{`{"$re":"(?i)json"}`, `1`, false},
		{`{"$tmplString":"'${thing}~${shadow}' ${x*3}"}`, `"'lamp~cfg' xxx"`, true},
		{`{"$decimal":"0.0000001"}`, `1e-07`, true},
		{`{"$decimal":"9007199254740993"}`, `9007199254740992`, false},
		{`{"$set":["a","b"]}`, `["b","a"]`, true},
		{`{"$set":["a","b"]}`, `["b","b"]`, false},
		{`{"$set":["a"]}`, `["b","a"]`, false},
		{`{"$x":1}`, `{"$x":1}`, true},
		{`{"$capture":"t"}`, `5`, true},
		{`{"$same":"unknown"}`, `5`, false},
	}
	for _, tt := range tests {
		s := &conformance.Scope{Thing: "lamp", Shadow: "cfg", Now: func() time.Time { return time.Unix(1000, 0) }}
		if err := s.Match([]byte(tt.want), []byte(tt.got)); (err == nil) != tt.ok {
			t.Errorf("Match(%s, %s) = %v, want ok = %t", tt.want, tt.got, err, tt.ok)
		}
	}
}

func TestMatchCaptures(t *testing.T) {
	t.Parallel()
	var s conformance.Scope
	steps := []struct {
		want, got string
		ok        bool
	}{
		{`{"$capture":"t"}`, `10`, true},
		{`{"$same":"t"}`, `10`, true},
		{`{"$same":"t"}`, `11`, false},
		{`{"$later":"t"}`, `11`, true},
		{`{"$later":"t"}`, `10`, false},
	}
	for _, st := range steps {
		if err := s.Match([]byte(st.want), []byte(st.got)); (err == nil) != st.ok {
			t.Errorf("Match(%s, %s) = %v, want ok = %t", st.want, st.got, err, st.ok)
		}
	}
}
