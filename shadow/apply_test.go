package shadow_test

import (
	"strings"
	"testing"

	"github.com/umbra-iot/umbra/shadow"
)

// TestMerge applies updates one after the other and looks at the state that a get shows.
func TestMerge(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name    string
		updates []string
		want    string
	}{
		{"empty update", []string{`{}`}, `{}`},
		{"empty section", []string{`{"desired":{}}`}, `{}`},
		{"desired comes first", []string{`{"reported":{"a":1}}`, `{"desired":{"a":1}}`}, `{"desired":{"a":1},"reported":{"a":1}}`},
		{"keys stay in place", []string{`{"reported":{"a":1,"b":2,"c":3}}`, `{"reported":{"d":4,"b":5}}`}, `{"reported":{"a":1,"b":5,"c":3,"d":4}}`},
		{"several keys, other order", []string{`{"reported":{"a":1,"b":2,"c":3}}`, `{"reported":{"c":6,"x":7,"a":8}}`}, `{"reported":{"a":8,"b":2,"c":6,"x":7}}`},
		{"nested merge", []string{`{"reported":{"o":{"a":1,"p":{"x":1}}}}`, `{"reported":{"o":{"p":{"y":2}}}}`}, `{"reported":{"o":{"a":1,"p":{"x":1,"y":2}}}}`},
		{"array replaces", []string{`{"reported":{"l":[1,2,3]}}`, `{"reported":{"l":[9]}}`}, `{"reported":{"l":[9]}}`},
		{"object replaces scalar, without nulls", []string{`{"reported":{"a":1}}`, `{"reported":{"a":{"b":null,"c":{"d":null},"e":1}}}`}, `{"reported":{"a":{"c":{},"e":1}}}`},
		{"scalar replaces object", []string{`{"reported":{"a":{"b":1}}}`, `{"reported":{"a":false}}`}, `{"reported":{"a":false}}`},
		{"empty object onto object", []string{`{"reported":{"o":{"k":1}}}`, `{"reported":{"o":{}}}`}, `{"reported":{"o":{"k":1}}}`},
		{"new object of nulls", []string{`{"reported":{"o":{"k":null}}}`}, `{"reported":{"o":{}}}`},
		{"new section of nulls", []string{`{"reported":{"k":null}}`}, `{}`},
		{"last nested key", []string{`{"reported":{"o":{"k":1}}}`, `{"reported":{"o":{"k":null}}}`}, `{"reported":{"o":{}}}`},
		{"last key of a section", []string{`{"desired":{"a":1},"reported":{"k":1}}`, `{"desired":{"a":null}}`}, `{"reported":{"k":1}}`},
		{"all of several keys", []string{`{"reported":{"a":1,"b":2}}`, `{"reported":{"b":null,"a":null}}`}, `{}`},
		{"remove and add", []string{`{"reported":{"a":1}}`, `{"reported":{"a":null,"b":1}}`}, `{"reported":{"b":1}}`},
		{"remove first, middle, last", []string{`{"reported":{"a":1,"b":2,"c":3,"d":4,"e":5}}`, `{"reported":{"a":null,"c":null,"e":null}}`}, `{"reported":{"b":2,"d":4}}`},
		{"null section", []string{`{"desired":{"a":1},"reported":{"a":1}}`, `{"desired":null}`}, `{"reported":{"a":1}}`},
		{"null section that is absent", []string{`{"reported":{"a":1}}`, `{"desired":null}`}, `{"reported":{"a":1}}`},
		{"null state", []string{`{"reported":{"a":1}}`, `null`}, `{}`},
		{"null state of nothing", []string{`null`}, `{}`},
		{"falsy values stay", []string{`{"reported":{"a":"","b":0,"c":false,"d":[],"e":{}}}`}, `{"reported":{"a":"","b":0,"c":false,"d":[],"e":{}}}`},
		{"numbers keep their text", []string{`{"reported":{"a":1.0,"b":1E+2,"c":12345678901234567890}}`}, `{"reported":{"a":1.0,"b":1E+2,"c":12345678901234567890}}`},
		{"escaped key is the same key", []string{`{"reported":{"caf\u00e9":1}}`, `{"reported":{"café":2}}`}, `{"reported":{"café":2}}`},
		{"names of members are data", []string{`{"reported":{"state":{"desired":1,"version":2}}}`, `{"reported":{"state":{"desired":3}}}`}, `{"reported":{"state":{"desired":3,"version":2}}}`},
		{"braces at the end of a string", []string{`{"reported":{"a":"{"}}`, `{"reported":{"b":"{","c":1}}`}, `{"reported":{"a":"{","b":"{","c":1}}`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			var doc *shadow.Document
			for _, u := range tt.updates {
				doc = apply(t, doc, u, 5000).After
			}
			if got := string(doc.State()); got != tt.want {
				t.Errorf("state after %s = %s, want %s", strings.Join(tt.updates, " and "), got, tt.want)
			}
		})
	}
}

func TestDelta(t *testing.T) {
	t.Parallel()
	tests := []struct{ state, want string }{
		{`{}`, ``},
		{`{"desired":{"a":1}}`, `{"a":1}`},
		{`{"reported":{"a":1}}`, ``},
		{`{"desired":{"a":{"x":1,"y":2},"l":[1,2],"k":1},"reported":{"a":{"x":1,"y":3,"z":9},"l":[1],"k":1,"q":0}}`, `{"a":{"y":2},"l":[1,2]}`},
		{`{"desired":{"a":{},"b":1},"reported":{"b":1}}`, `{"a":{}}`},
		{`{"desired":{"a":{}},"reported":{"a":{"x":1}}}`, ``},
		{`{"desired":{"a":{}},"reported":{"a":1}}`, `{"a":{}}`},
		{`{"desired":{"a":1},"reported":{"a":{"x":1}}}`, `{"a":1}`},
		{`{"desired":{"a":1},"reported":{"a":"1"}}`, `{"a":1}`},
		{`{"desired":{"a":true},"reported":{"a":false}}`, `{"a":true}`},
		{`{"desired":{"a":[]},"reported":{"a":{}}}`, `{"a":[]}`},
		{`{"desired":{"a":[1,2]},"reported":{"a":[2,1]}}`, `{"a":[1,2]}`},
		{`{"desired":{"a":[1,{"x":1,"y":[2]}]},"reported":{"a":[1.0,{"y":[2e0],"x":1}]}}`, ``},
		{`{"desired":{"a":[{"x":1}]},"reported":{"a":[{"x":1,"y":2}]}}`, `{"a":[{"x":1}]}`},
		{`{"desired":{"a":[{"x":1,"y":2}]},"reported":{"a":[{"x":1}]}}`, `{"a":[{"x":1,"y":2}]}`},
		{`{"desired":{"a":[1,2]},"reported":{"a":[1]}}`, `{"a":[1,2]}`},
		{`{"desired":{"a":{"b":{"c":1,"d":2}},"e":3},"reported":{"e":3,"a":{"b":{"d":2}}}}`, `{"a":{"b":{"c":1}}}`},
		{`{"desired":{"a":{"b":1},"c":{"d":1},"e":{"f":1}},"reported":{"c":{"d":1}}}`, `{"a":{"b":1},"e":{"f":1}}`},
		{`{"desired":{"p":{"q":{"r":1},"s":2},"t":3},"reported":{"p":{"q":{"r":0},"s":0},"t":0}}`, `{"p":{"q":{"r":1},"s":2},"t":3}`},
	}
	for _, tt := range tests {
		doc := apply(t, nil, tt.state, 1000).After
		want := ``
		if tt.want != `` {
			want = `{"version":1,"timestamp":2,"state":` + tt.want + `,"metadata":`
		}
		got := string(doc.AppendDeltaMessage(nil, 2000, ""))
		if doc.HasDelta() != (want != ``) || !strings.HasPrefix(got, want) || want == `` && got != `` {
			t.Errorf("delta of %s = %s, want %s", tt.state, got, want)
		}
	}
}

func TestNumbersCompareByValue(t *testing.T) {
	t.Parallel()
	tests := []struct {
		a, b string
		same bool
	}{
		{`1`, `1.0`, true},
		{`1`, `1e0`, true},
		{`1`, `10e-1`, true},
		{`1`, `0.1E+1`, true},
		{`100`, `1e2`, true},
		{`0`, `-0.0e5`, true},
		{`0`, `0e999999999`, true},
		{`1`, `-1`, false},
		{`1`, `10`, false},
		{`0.1`, `0.10`, true},
		{`0.1`, `0.01`, false},
		{`0.0010`, `1e-3`, true},
		{`9007199254740993`, `9007199254740992`, false},
		{`9007199254740993`, `9007199254740993.0`, true},
		{`123456789012345678901234567890`, `12345678901234567890123456789e1`, true},
		{`1e308`, `1` + strings.Repeat("0", 308), true},
		{`1e-400`, `0.` + strings.Repeat("0", 399) + `1`, true},
		{`1e-999999999`, `1e-999999998`, false},
		{`1e-0000000000000000000000002`, `0.01`, true},
		{`1.7976931348623157e308`, `17976931348623157e292`, true},
	}
	for _, tt := range tests {
		doc := apply(t, nil, `{"desired":{"n":`+tt.a+`},"reported":{"n":`+tt.b+`}}`, 0).After
		if got := !doc.HasDelta(); got != tt.same {
			t.Errorf("%s equals %s = %t, want %t", tt.a, tt.b, got, tt.same)
		}
	}
}

func TestVersions(t *testing.T) {
	t.Parallel()
	live := apply(t, apply(t, nil, `{"reported":{"a":1}}`, 0).After, `{}`, 0).After // version 2
	c, err := shadow.Delete(shadow.ID{Thing: "lamp"}, live, "", 0)
	if err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		doc     *shadow.Document
		request string
		want    uint64 // 0: conflict
	}{
		{nil, ``, 1},
		{nil, `,"version":0`, 1},
		{nil, `,"version":1`, 1},
		{nil, `,"version":2`, 0},
		{live, ``, 3},
		{live, `,"version":2`, 3},
		{live, `,"version":2.0`, 3},
		{live, `,"version":null`, 3},
		{live, `,"version":0`, 0},
		{live, `,"version":1`, 0},
		{live, `,"version":3`, 0},
		{c.After, ``, 4},
		{c.After, `,"version":3`, 4},
		{c.After, `,"version":2`, 0},
		{c.After, `,"version":0`, 0},
	}
	for _, tt := range tests {
		r, err := shadow.ParseUpdate([]byte(`{"state":{"reported":{"b":1}},"clientToken":"t"`+tt.request+`}`), shadow.Limits{})
		if err != nil {
			t.Fatal(err)
		}
		change, err := shadow.Apply(tt.doc, r, 0, shadow.Limits{})
		if err != nil {
			e := refusal(t, err)
			if tt.want != 0 || e.Code != 409 || e.Message != "Version conflict" || e.Token != `"t"` {
				t.Errorf("Apply(version %d, %q) = %v (token %s), want version %d", tt.doc.Version(), tt.request, e, e.Token, tt.want)
			}
			continue
		}
		if got := change.After.Version(); got != tt.want {
			t.Errorf("Apply(version %d, %q) gives version %d, want %d", tt.doc.Version(), tt.request, got, tt.want)
		}
	}
}

func TestDelete(t *testing.T) {
	t.Parallel()
	id := shadow.ID{Thing: "lamp", Name: "cfg"}
	_, err := shadow.Delete(id, nil, `"t"`, 0)
	if e := refusal(t, err); e.Code != 404 || e.Message != "No shadow exists with name: 'lamp~cfg'" || e.Token != `"t"` {
		t.Errorf("Delete(nil) = %v (token %s), want a 404", e, e.Token)
	}
	c, err := shadow.Delete(id, apply(t, nil, `{"desired":{"a":1}}`, 0).After, `"t"`, 7999)
	if err != nil {
		t.Fatal(err)
	}
	if !c.After.Deleted() || c.After.Version() != 2 || c.After.HasDelta() {
		t.Errorf("Delete: version %d, deleted %t, want 2, true", c.After.Version(), c.After.Deleted())
	}
	if got, want := string(c.AppendAccepted(nil)), `{"version":1,"timestamp":7,"clientToken":"t"}`; got != want {
		t.Errorf("AppendAccepted after a delete = %s, want %s", got, want)
	}
	if got := string(c.AppendDelta(nil)) + string(c.AppendDocuments(nil)); got != "" {
		t.Errorf("messages after a delete = %s, want none", got)
	}
	if _, err := shadow.Delete(id, c.After, "", 0); refusal(t, err).Code != 404 {
		t.Errorf("Delete of a tombstone = %v, want 404", err)
	}
	again := apply(t, c.After, `{"reported":{"b":1}}`, 9000)
	if got, want := string(again.AppendDocuments(nil)), `{"previous":null,"current":{"state":{"reported":{"b":1}},`+
		`"metadata":{"reported":{"b":{"timestamp":9}}},"version":3},"timestamp":9}`; got != want {
		t.Errorf("AppendDocuments after a delete = %s, want %s", got, want)
	}
}

func TestDocumentLimit(t *testing.T) {
	t.Parallel()
	section := func(bytes int) string { return `{"a":"` + strings.Repeat("x", bytes-len(`{"a":""}`)) + `"}` }
	tests := []struct {
		before, update string
		lim            shadow.Limits
		ok             bool
	}{
		{`{}`, `{"reported":` + section(8192) + `}`, shadow.Limits{}, true},
		{`{}`, `{"reported":` + section(8193) + `}`, shadow.Limits{}, false},
		{`{}`, `{ "reported" : ` + strings.ReplaceAll(section(8192), ":", " :  ") + `  }`, shadow.Limits{}, true},
		{`{"desired":` + section(4096) + `}`, `{"reported":` + section(4096) + `}`, shadow.Limits{}, true},
		{`{"desired":` + section(4096) + `}`, `{"reported":` + section(4097) + `}`, shadow.Limits{}, false},
		{`{"reported":` + section(8192) + `}`, `{"reported":{"a":` + strings.Repeat(`{"b":`, 3) + `1}}}}}`, shadow.Limits{}, true},
		{`{}`, `{"reported":{"\u00e9":"\u00e9"}}`, shadow.Limits{DocumentBytes: 11}, true},
		{`{}`, `{"reported":{"\u00e9":"\u00e9"}}`, shadow.Limits{DocumentBytes: 10}, false},
		{`{}`, `{"reported":{"a":null,"b":{"c":null}}}`, shadow.Limits{DocumentBytes: 8}, true},
	}
	for i, tt := range tests {
		doc := apply(t, nil, tt.before, 0).After
		r, err := shadow.ParseUpdate([]byte(`{"state":`+tt.update+`,"clientToken":"t"}`), shadow.Limits{})
		if err != nil {
			t.Fatal(err)
		}
		_, err = shadow.Apply(doc, r, 0, tt.lim)
		if (err == nil) != tt.ok {
			t.Errorf("%d: Apply(%.40s…, %.40s…) = %v, want ok = %t", i, tt.before, tt.update, err, tt.ok)
		}
		if err == nil {
			continue
		}
		if e := refusal(t, err); e.Code != 413 || e.Message != "The payload exceeds the maximum size allowed" || e.Token != `"t"` {
			t.Errorf("%d: Apply = %v (token %s), want a 413", i, e, e.Token)
		}
	}
}
