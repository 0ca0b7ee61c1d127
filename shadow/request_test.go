package shadow_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/umbra-iot/umbra/shadow"
)

// refusal returns err as the protocol's error, failing when it is none.
func refusal(t *testing.T, err error) *shadow.Error {
	t.Helper()
	var e *shadow.Error
	if !errors.As(err, &e) {
		t.Fatalf("error = %v, want an *Error", err)
	}
	return e
}

func TestParseUpdateAccepts(t *testing.T) {
	t.Parallel()
	const noVersion = ^uint64(0)
	tests := []struct {
		payload, state, token string
		version               uint64
	}{
		{`{"state":{}}`, `{}`, ``, noVersion},
		{" {\t\"state\" :\r\n{ } } ", `{}`, ``, noVersion},
		{`{"state":null}`, `null`, ``, noVersion},
		{`{"state":{"desired":null,"reported":{}}}`, `{"desired":null,"reported":{}}`, ``, noVersion},
		{`{"state":{"reported":{"a":{"b":null}}}}`, `{"reported":{"a":{"b":null}}}`, ``, noVersion},
		{`{"other":[null,{"x":1e5}],"state":{},"metadata":1}`, `{}`, ``, noVersion},
		{`{"state":{"reported":{"a" : 1.50 , "b" : [ 1 , "x" ]}}}`, `{"reported":{"a":1.50,"b":[1,"x"]}}`, ``, noVersion},

		// Strings have one spelling.
		{`{"state":{"reported":{"caf\u00e9":"\/\u0041\ud83d\ude00"}}}`, `{"reported":{"café":"/A😀"}}`, ``, noVersion},
		{
			`{"state":{"reported":{"a":"\u0008\u000c\u000A\u000d\u0009\u0000\u001F\u0022\u005c"}}}`,
			`{"reported":{"a":"\b\f\n\r\t\u0000\u001f\"\\"}}`, ``, noVersion,
		},
		{`{"state":{"reported":{"a":"0123456\n0123456789abc\"0\\"}}}`, `{"reported":{"a":"0123456\n0123456789abc\"0\\"}}`, ``, noVersion},
		{`{"st\u0061te":{},"client\u0054oken":"t"}`, `{}`, `"t"`, noVersion},

		// Of duplicates the last wins.
		{`{"state":{"reported":{"a":1}},"state":{"desired":{"b":1}}}`, `{"desired":{"b":1}}`, ``, noVersion},
		{`{"state":1,"state":{}}`, `{}`, ``, noVersion},
		{`{"state":{"reported":{"a":1},"reported":{"b":2}}}`, `{"reported":{"b":2}}`, ``, noVersion},
		{`{"state":{"reported":{"a":{"x":1},"b":2,"\u0061":3}}}`, `{"reported":{"b":2,"a":3}}`, ``, noVersion},
		{`{"state":{"reported":{"a":1,"a":2,"b":{"c":[1]},"a":3}}}`, `{"reported":{"b":{"c":[1]},"a":3}}`, ``, noVersion},
		{`{"state":{"reported":{"a":{"k":1,"k":2},"a":{"k":3,"k":4}}}}`, `{"reported":{"a":{"k":4}}}`, ``, noVersion},

		{`{"state":{},"version":7}`, `{}`, ``, 7},
		{`{"state":{},"version":0}`, `{}`, ``, 0},
		{`{"state":{},"version":-0}`, `{}`, ``, 0},
		{`{"state":{},"version":1.0}`, `{}`, ``, 1},
		{`{"state":{},"version":120e-1}`, `{}`, ``, 12},
		{`{"state":{},"version":1.2e1}`, `{}`, ``, 12},
		{`{"state":{},"version":9223372036854775807}`, `{}`, ``, 1<<63 - 1},
		{`{"state":{},"version":null}`, `{}`, ``, noVersion},
		{`{"state":{},"version":"x","version":2}`, `{}`, ``, 2},

		{`{"state":{},"clientToken":""}`, `{}`, `""`, noVersion},
		{`{"state":{},"clientToken":null}`, `{}`, ``, noVersion},
		{`{"clientToken":"q\"\\\/\u00fc","state":{}}`, `{}`, `"q\"\\/ü"`, noVersion},
		{`{"state":{},"clientToken":"` + strings.Repeat(`é`, 32) + `"}`, `{}`, `"` + strings.Repeat(`é`, 32) + `"`, noVersion},
		{`{"state":{},"clientToken":"` + strings.Repeat(`\n\u0001`, 32) + `"}`, `{}`, `"` + strings.Repeat(`\n\u0001`, 32) + `"`, noVersion},
	}
	for _, tt := range tests {
		r, err := shadow.ParseUpdate([]byte(tt.payload), shadow.Limits{})
		if err != nil {
			t.Errorf("ParseUpdate(%s) = %v", tt.payload, err)
			continue
		}
		if got := string(r.State()); got != tt.state {
			t.Errorf("ParseUpdate(%s): state = %s, want %s", tt.payload, got, tt.state)
		}
		if got := r.Token(); got != tt.token {
			t.Errorf("ParseUpdate(%s): token = %s, want %s", tt.payload, got, tt.token)
		}
		v, ok := r.Version()
		if ok != (tt.version != noVersion) || ok && v != tt.version {
			t.Errorf("ParseUpdate(%s): version = %d, %t, want %d", tt.payload, v, ok, tt.version)
		}
	}
}

func TestParseUpdateRefuses(t *testing.T) {
	t.Parallel()
	const json = "Invalid JSON"
	tests := []struct {
		payload, message string
		code             int
		token            string
	}{
		{``, json, 400, ``},
		{` `, json, 400, ``},
		{`{`, json, 400, ``},
		{`[1,2]`, json, 400, ``},
		{`"state"`, json, 400, ``},
		{`null`, json, 400, ``},
		{`{"state":{}}{"state":{}}`, json, 400, ``},
		{`{"state":{}} x`, json, 400, ``},
		{"{\"state\":{}}\x00", json, 400, ``},
		{`{"state":{},}`, json, 400, ``},
		{`{,"state":{}}`, json, 400, ``},
		{`{"state":{}`, json, 400, ``},
		{`{'state':{}}`, json, 400, ``},
		{`{state:{}}`, json, 400, ``},
		{`{"state" {}}`, json, 400, ``},
		{`{"state":{"reported":{"l":[1,]}}}`, json, 400, ``},
		{`{"state":{"reported":{"l":[1 2]}}}`, json, 400, ``},
		{`{"state":{"reported":{"a":tru}}}`, json, 400, ``},
		{`{"state":{"reported":{"a":True}}}`, json, 400, ``},
		{`{"state":{"reported":{"a":NaN}}}`, json, 400, ``},
		{`{"state":{"reported":{"a":Infinity}}}`, json, 400, ``},
		{`{"state":{"reported":{"a":01}}}`, json, 400, ``},
		{`{"state":{"reported":{"a":-01}}}`, json, 400, ``},
		{`{"state":{"reported":{"a":+1}}}`, json, 400, ``},
		{`{"state":{"reported":{"a":-}}}`, json, 400, ``},
		{`{"state":{"reported":{"a":1.}}}`, json, 400, ``},
		{`{"state":{"reported":{"a":.5}}}`, json, 400, ``},
		{`{"state":{"reported":{"a":1e}}}`, json, 400, ``},
		{`{"state":{"reported":{"a":1e+}}}`, json, 400, ``},
		{`{"state":{"reported":{"a":0x10}}}`, json, 400, ``},
		{`{"state":{"reported":{"a":1e999}}}`, json + ": number out of range at offset 26", 400, ``},
		{`{"state":{"reported":{"a":-1.8e308}}}`, json + ": number out of range at offset 26", 400, ``},
		{`{"state":{"reported":{"a":1e-9999999999}}}`, json + ": number out of range at offset 26", 400, ``},
		{`{"x":1e999,"state":{}}`, json, 400, ``},
		{`{"state":{"reported":{"a":1` + strings.Repeat("0", 309) + `}}}`, json + ": number out of range", 400, ``},
		{`{"state":{"reported":{"a":"\x"}}}`, json, 400, ``},
		{`{"state":{"reported":{"a":"\u12"}}}`, json, 400, ``},
		{`{"state":{"reported":{"a":"\u12G4"}}}`, json, 400, ``},
		{`{"state":{"reported":{"a":"\ud800"}}}`, json, 400, ``},
		{`{"state":{"reported":{"a":"\ud800x"}}}`, json, 400, ``},
		{`{"state":{"reported":{"a":"\ud800\u0041"}}}`, json, 400, ``},
		{`{"state":{"reported":{"a":"\udc00"}}}`, json, 400, ``},
		{`{"state":{"reported":{"\ud800":1}}}`, json, 400, ``},
		{"{\"state\":{\"reported\":{\"a\":\"\n\"}}}", json + ": control character", 400, ``},
		{"{\"state\":{\"reported\":{\"a\":\"0123456789\x1f\"}}}", json, 400, ``},
		{`{"state":{"reported":{"a":"`, json, 400, ``},
		{`{"state":{"reported":{"a":"\`, json, 400, ``},
		{"\ufeff{\"state\":{}}", json, 400, ``},
		{"{\"state\":{\"reported\":{\"a\":\"\xff\"}}}", "Unsupported documented encoding; supported encoding is UTF-8", 415, ``},
		{"{\"state\":{\"reported\":{\"a\":\"\xed\xa0\x80\"}}}", "Unsupported documented encoding", 415, ``},
		{"\xff\xfe{\x00}\x00", "Unsupported documented encoding", 415, ``},

		{`{}`, "Missing required node: state", 400, ``},
		{`{"clientToken":"t"}`, "Missing required node: state", 400, `"t"`},
		{`{"State":{}}`, "Missing required node: state", 400, ``},
		{`{"state":"x","clientToken":"t"}`, "State node must be an object", 400, `"t"`},
		{`{"state":[]}`, "State node must be an object", 400, ``},
		{`{"state":false}`, "State node must be an object", 400, ``},
		{`{"state":{"desired":1}}`, "Desired node must be an object", 400, ``},
		{`{"state":{"desired":[1]}}`, "Desired node must be an object", 400, ``},
		{`{"state":{"reported":"x"}}`, "Reported node must be an object", 400, ``},
		{`{"state":{"foo":1}}`, "State contains an invalid node", 400, ``},
		{`{"state":{"delta":{}}}`, "State contains an invalid node", 400, ``},
		{`{"state":{"reported":{"l":[null]}}}`, json + ": null in an array", 400, ``},
		{`{"state":{"reported":{"l":[[1,null]]}}}`, json + ": null in an array", 400, ``},
		{`{"state":{"reported":{"l":[{"a":null}]}}}`, json + ": null in an array", 400, ``},
		{`{"state":{},"version":"1"}`, "Invalid version", 400, ``},
		{`{"state":{},"version":true}`, "Invalid version", 400, ``},
		{`{"state":{},"version":{"v":1},"clientToken":"t"}`, "Invalid version", 400, `"t"`},
		{`{"state":{},"version":[1]}`, "Invalid version", 400, ``},
		{`{"state":{},"version":-1}`, "Invalid version", 400, ``},
		{`{"state":{},"version":1.5}`, "Invalid version", 400, ``},
		{`{"state":{},"version":9223372036854775808}`, "Invalid version", 400, ``},
		{`{"state":{},"version":1e300}`, "Invalid version", 400, ``},
		{`{"state":{},"clientToken":1}`, "Invalid clientToken", 400, ``},
		{`{"state":{},"clientToken":{}}`, "Invalid clientToken", 400, ``},
		{`{"state":{},"clientToken":"` + strings.Repeat("x", 65) + `"}`, "Invalid clientToken", 400, ``},
		{`{"state":{},"clientToken":"` + strings.Repeat("é", 33) + `"}`, "Invalid clientToken", 400, ``},
		{strings.Repeat(" ", 128<<10) + `{"state":{}}`, "The payload exceeds the maximum size allowed", 413, ``},

		// The order of checks.
		{`{"state":1,"version":"x","clientToken":1}`, "Invalid clientToken", 400, ``},
		{`{"state":1,"version":"x","clientToken":"t"}`, "Invalid version", 400, `"t"`},
		{`{"state":{"foo":1,"desired":1}}`, "Desired node must be an object", 400, ``},
		{`{"state":{"foo":1,"desired":{"l":[null]}}}`, "State contains an invalid node", 400, ``},
		{`{"state":{"desired":{"l":[[[[[[[[[null]]]]]]]]]}}}`, json + ": null in an array", 400, ``},
		{`{"state":{"desired":{"l":[[[[[[[[[]]]]]]]]]}},"version":4}`, "JSON contains too many levels", 400, ``},
	}
	for _, tt := range tests {
		_, err := shadow.ParseUpdate([]byte(tt.payload), shadow.Limits{})
		if err == nil {
			t.Errorf("ParseUpdate(%.100q) accepts, want %d %s", tt.payload, tt.code, tt.message)
			continue
		}
		e := refusal(t, err)
		if e.Code != tt.code || !strings.HasPrefix(e.Message, tt.message) || e.Token != tt.token {
			t.Errorf("ParseUpdate(%.100q) = %d %q with token %s, want %d %q with token %s",
				tt.payload, e.Code, e.Message, e.Token, tt.code, tt.message, tt.token)
		}
	}
}

func TestDepth(t *testing.T) {
	t.Parallel()
	nested := func(open, end string, n int) string {
		return `{"state":{"reported":{"k":` + strings.Repeat(open, n) + "1" + strings.Repeat(end, n) + `}},"clientToken":"t"}`
	}
	tests := []struct {
		open, end string
		limit, n  int
		ok        bool
	}{
		{`{"k":`, `}`, 0, 7, true}, // the section is the first level of eight
		{`{"k":`, `}`, 0, 8, false},
		{`[`, `]`, 0, 7, true},
		{`[`, `]`, 0, 8, false},
		{`{"k":`, `}`, 6, 5, true},
		{`{"k":`, `}`, 6, 6, false},
		{`{"k":`, `}`, 500, 499, true},
		{`{"k":`, `}`, 500, 500, false},
		{`[`, `]`, 5000, 999, true},
		{`[`, `]`, 5000, 1000, false},
	}
	for _, tt := range tests {
		_, err := shadow.ParseUpdate([]byte(nested(tt.open, tt.end, tt.n)), shadow.Limits{Depth: tt.limit})
		if (err == nil) != tt.ok {
			t.Errorf("ParseUpdate(%d levels of %s, limit %d) = %v, want ok = %t", tt.n+1, tt.open, tt.limit, err, tt.ok)
		}
		if err != nil && refusal(t, err).Token != `"t"` {
			t.Errorf("ParseUpdate(%d levels, limit %d) = %v without the token", tt.n+1, tt.limit, err)
		}
	}
	_, err := shadow.ParseUpdate([]byte(nested("[", "]", 9)), shadow.Limits{})
	if got, want := refusal(t, err).Message, "JSON contains too many levels of nesting; maximum is 8"; got != want {
		t.Errorf("ParseUpdate(10 levels) = %q, want %q", got, want)
	}
}

// TestBombs holds the parser and the merge to be cheap for the most expensive input there is.
func TestBombs(t *testing.T) {
	t.Parallel()
	const size = 128<<10 - 100
	start := time.Now()
	for _, s := range []string{`[`, `{"a":`, `[{"a":[`} {
		for _, head := range []string{``, `{"state":`, `{"x":`} {
			_, err := shadow.ParseUpdate([]byte(head+strings.Repeat(s, size/len(s))), shadow.Limits{})
			if e := refusal(t, err); e.Code != 400 {
				t.Errorf("ParseUpdate(%s%s…) = %v, want 400", head, s, e)
			}
		}
	}
	var down, up, same strings.Builder
	const keys = 1000
	for i := range keys {
		down.WriteString(key(keys-i) + `:1,`)
		up.WriteString(key(i) + `:2,`)
		same.WriteString(`"a":1,"a":2,`)
	}
	doc := apply(t, nil, `{"reported":{`+down.String()+`"x":0}}`, 0).After
	c := apply(t, doc, `{"desired":{`+up.String()+`"x":0},"reported":{`+up.String()+`"x":{`+same.String()+`"b":0}}}`, 0)
	if !c.After.HasDelta() {
		t.Error("HasDelta() = false, want true")
	}
	if took := time.Since(start); took > 5*time.Second {
		t.Errorf("bombs took %v", took)
	}
}

func key(i int) string {
	return `"k` + strings.Repeat("0", i%3) + string(rune('a'+i%26)) + string(rune('a'+i/26%26)) + string(rune('a'+i/676)) + `"`
}

func TestParseToken(t *testing.T) {
	t.Parallel()
	tests := []struct{ payload, want string }{
		{``, ``},
		{`{}`, ``},
		{`whatever`, ``},
		{`[]`, ``},
		{`{"clientToken":"abc"}`, `"abc"`},
		{`{"version":"x","clientToken":"a\u00e9","state":[null]}`, `"aé"`},
		{`{"clientToken":"abc"`, ``},
		{`{"clientToken":5}`, ``},
		{`{"clientToken":null}`, ``},
		{`{"clientToken":"` + strings.Repeat("x", 65) + `"}`, ``},
		{"{\"clientToken\":\"\xff\"}", ``},
		{strings.Repeat("[", 128<<10), ``},
	}
	for _, tt := range tests {
		if got := shadow.ParseToken([]byte(tt.payload), shadow.Limits{}); got != tt.want {
			t.Errorf("ParseToken(%.60q) = %s, want %s", tt.payload, got, tt.want)
		}
	}
}
