package shadow_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"reflect"
	"regexp"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/umbra-iot/umbra/shadow"
)

// wide lets everything pass that is not about size.
var wide = shadow.Limits{DocumentBytes: 1 << 20, Depth: 900, PayloadBytes: 1 << 20}

// oddStates are states with a history of being read differently by different programs.
var oddStates = []string{
	`null`,
	`{}`,
	`{"desired":{},"reported":{}}`,
	`{"desired":null,"reported":{"a":null}}`,
	`{"desired":{"a":1},"reported":{"a":1.0,"b":{"c":[1,{"d":"x"}]}}}`,
	`{"desired":{"n":9007199254740993},"reported":{"n":9007199254740992}}`,
	`{"reported":{"a":1,"a":{"b":2},"\u0061":3}}`,
	`{"reported":{"caf\u00e9":"na\u00efve","café":"\ud83d\ude00","":0}}`,
	`{"desired":{"o":{"x":1,"y":{}}},"reported":{"o":{"y":{"z":1}}}}`,
	`{"desired":{"l":[]},"reported":{"l":{}}}`,
	`{"desired":{"timestamp":1,"desired":{"state":null}},"reported":{"desired":2}}`,
	`{"reported":{"z":-0,"e":1E+2,"f":0.10,"g":1e-300,"h":123456789012345678901234567890}}`,
	`{"reported":{"s":"\u0000\u001f\"\\\/\b\f\n\r\t\u2028\u007f"}}`,
	`{"desired":{"l":[1,2,[3]]},"reported":{"l":[1.0,2e0,[3]]}}`,
	`{"desired":{"l":[{"a":1,"b":2}]},"reported":{"l":[{"b":2,"a":1}]}}`,
	`{"reported":{"k":{"a":{"b":{"c":{"d":{"e":{"f":1}}}}}}}}`,
	`{"reported":{"a":1,"b":2,"c":3,"d":4,"e":5,"f":6,"g":7,"h":8,"i":9,"j":10,"k":11,"l":12,"m":13,"n":14,"o":15,"p":16,"q":17}}`,
	`{"reported":{"q":1,"p":null,"o":3,"n":{"x":1},"m":5,"l":6,"k":7,"j":8,"i":9,"h":10,"g":11,"f":12,"e":13,"d":14,"c":15,"b":16,"a":17,"b":18}}`,
}

func FuzzParseUpdate(f *testing.F) {
	for _, s := range oddStates {
		f.Add([]byte(`{"state":` + s + `,"clientToken":"t","version":1}`))
	}
	for _, s := range []string{
		``, ` `, `{`, `[]`, `"state"`, "\xef\xbb\xbf{}", "\xff\xfe{\x00}\x00", `{"state":{}}{}`, `{"state":{},}`,
		`{"state":{"reported":{"a":NaN}}}`, `{"state":{"reported":{"a":1e999}}}`, `{"state":{"reported":{"a":01}}}`,
		`{"state":{"reported":{"a":-}}}`, `{"state":{"reported":{"a":1.}}}`, `{"state":{"reported":{"a":"\ud800"}}}`,
		`{"state":{"reported":{"a":"\udc00\ud800"}}}`, "{\"state\":{\"reported\":{\"a\":\"\x01\"}}}",
		`{"state":{"reported":{"l":[null]}}}`, `{"state":{"other":1}}`, `{"state":{"desired":1}}`, `{"state":"x"}`,
		`{"clientToken":"5975bc44"}`, `{"state":{},"state":{"reported":{"a":1}}}`, `{"st\u0061te":{"reported":{}}}`,
		`{"state":{},"version":1.0}`, `{"state":{},"version":-1}`, `{"state":{},"version":18446744073709551616}`,
		`{"x":[[[null]]],"state":{}}`, strings.Repeat("[", 2000), `{"state":{"reported":{"a":1e-999999999999}}}`,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(checkParse)
}

// checkParse compares ParseUpdate with encoding/json.
func checkParse(t *testing.T, payload []byte) {
	r, err := shadow.ParseUpdate(payload, wide)
	var e *shadow.Error
	if err != nil {
		if !errors.As(err, &e) {
			t.Fatalf("ParseUpdate(%q) = %v, want an *Error", payload, err)
		}
		if !json.Valid(e.AppendRejected(nil, 0)) {
			t.Errorf("AppendRejected(%v) is not JSON", e)
		}
		checkRefusal(t, payload, e)
		return
	}
	if !utf8.Valid(payload) {
		t.Errorf("ParseUpdate(%q) accepts what is not UTF-8", payload)
	}
	var body map[string]any
	if err := json.Unmarshal(payload, &body); err != nil {
		t.Fatalf("ParseUpdate(%q) accepts, encoding/json says %v", payload, err)
	}
	want := decodeJSON(t, payload).(map[string]any)
	if got := decodeJSON(t, r.State()); !reflect.DeepEqual(got, want["state"]) {
		t.Errorf("ParseUpdate(%q): state = %s, want %v", payload, r.State(), want["state"])
	}
	if token, ok := want["clientToken"].(string); ok {
		if got := decodeJSON(t, []byte(r.Token())); got != token {
			t.Errorf("ParseUpdate(%q): token = %v, want %q", payload, got, token)
		}
	} else if r.Token() != "" {
		t.Errorf("ParseUpdate(%q): token = %s, want none", payload, r.Token())
	}
	again, err := shadow.ParseUpdate([]byte(`{"state":`+string(r.State())+`}`), wide)
	if err != nil || !bytes.Equal(again.State(), r.State()) {
		t.Errorf("parsing %s again = %v, %v", r.State(), again, err)
	}
}

// checkRefusal holds refusals to be justified: JSON that encoding/json reads is "Invalid JSON" only
// for the reasons that the protocol adds.
func checkRefusal(t *testing.T, payload []byte, e *shadow.Error) {
	if !utf8.Valid(payload) {
		if e.Code != 415 {
			t.Errorf("ParseUpdate(%q) = %v, want 415", payload, e)
		}
		return
	}
	invalid := strings.HasPrefix(e.Message, "Invalid JSON")
	if !json.Valid(payload) {
		if !invalid && !strings.Contains(e.Message, "nesting") {
			t.Errorf("ParseUpdate(%q) = %v, want Invalid JSON", payload, e)
		}
		return
	}
	if !invalid {
		return
	}
	for _, reason := range []string{"out of range", "escape sequence", "null in an array", "object expected"} {
		if strings.Contains(e.Message, reason) {
			return
		}
	}
	t.Errorf("ParseUpdate(%q) = %v, but encoding/json reads it", payload, e)
}

// hugeExponent finds numbers that the model, which computes them, would take forever for.
var hugeExponent = regexp.MustCompile(`[eE][+-]?\d{4}`)

func FuzzApply(f *testing.F) {
	for i, s := range oddStates {
		f.Add([]byte(s), []byte(oddStates[(i+1)%len(oddStates)]), []byte(oddStates[(i+5)%len(oddStates)]))
		f.Add([]byte(s), []byte(s), []byte(`null`))
	}
	f.Fuzz(func(t *testing.T, a, b, c []byte) {
		var doc *shadow.Document
		model := map[string]any{}
		now := int64(1_000_000)
		for _, state := range [][]byte{a, b, c} {
			if hugeExponent.Match(state) {
				continue
			}
			r, err := shadow.ParseUpdate([]byte(`{"state":`+string(state)+`}`), wide)
			if err != nil {
				continue
			}
			now += 1000
			model = modelApply(model, decodeJSON(t, r.State()), now/1000)
			doc = checkApply(t, doc, r, now)
			checkDocument(t, doc, model)
			checkRecord(t, doc)
		}
		if doc != nil {
			checkSync(t, doc)
		}
	})
}

// checkApply applies an update and holds it to the laws that need no model.
func checkApply(t *testing.T, doc *shadow.Document, r *shadow.Request, now int64) *shadow.Document {
	t.Helper()
	record, state := doc.AppendRecord(nil), bytes.Clone(r.State())
	change, err := shadow.Apply(doc, r, now, wide)
	if err != nil {
		t.Fatalf("Apply(%s, %s) = %v", doc.State(), state, err)
	}
	entry, err := shadow.DecodeHistory(change.After.Version(), change.AppendHistory(nil, shadow.Author{Channel: "mqtt"}))
	if err != nil {
		t.Fatal(err)
	}
	again, err := entry.Change(change.After)
	if err != nil {
		t.Fatalf("Change after %s: %v", state, err)
	}
	if doc != nil {
		redone, err := entry.Redo(doc)
		if err != nil {
			t.Fatalf("Redo of %s: %v", state, err)
		}
		if got, want := redone.AppendRecord(nil), change.After.AppendRecord(nil); !bytes.Equal(got, want) || redone.Version() != change.After.Version() {
			t.Errorf("Redo of %s = version %d %q, want version %d %q", state, redone.Version(), got, change.After.Version(), want)
		}
	}
	if !bytes.Equal(doc.AppendRecord(nil), record) || !bytes.Equal(r.State(), state) {
		t.Errorf("Apply(%s, %s) changed its arguments", record, state)
	}
	if got, want := change.After.Version(), doc.Version()+1; got != want {
		t.Errorf("version = %d, want %d", got, want)
	}
	if got, want := again.AppendAccepted(nil), change.AppendAccepted(nil); !bytes.Equal(got, want) {
		t.Errorf("accepted from history = %s, want %s", got, want)
	}
	if got, want := again.AppendDelta(nil), change.AppendDelta(nil); !bytes.Equal(got, want) {
		t.Errorf("delta from history = %s, want %s", got, want)
	}
	got, want := again.AppendDocuments(nil), change.AppendDocuments(nil)
	if !reflect.DeepEqual(decodeJSON(t, got), decodeJSON(t, want)) {
		t.Errorf("documents after undoing %s = %s, want %s", state, got, want)
	}
	return change.After
}

// checkRecord holds records to decode to the same document.
func checkRecord(t *testing.T, doc *shadow.Document) {
	t.Helper()
	record := doc.AppendRecord(nil)
	again, err := shadow.DecodeRecord(doc.Version(), doc.Deleted(), record)
	if err != nil {
		t.Fatalf("DecodeRecord(%q) = %v", record, err)
	}
	if got, want := again.AppendGet(nil, 0, ""), doc.AppendGet(nil, 0, ""); !bytes.Equal(got, want) {
		t.Errorf("after DecodeRecord: %s, want %s", got, want)
	}
	if got := again.AppendRecord(nil); !bytes.Equal(got, record) {
		t.Errorf("AppendRecord after DecodeRecord = %q, want %q", got, record)
	}
}

// checkSync holds the delta, when reported, to end the difference, and equal sections to have none.
func checkSync(t *testing.T, doc *shadow.Document) {
	t.Helper()
	message := doc.AppendDeltaMessage(nil, 0, "")
	if doc.HasDelta() != (message != nil) {
		t.Fatalf("HasDelta() = %t with the message %q", doc.HasDelta(), message)
	}
	if message == nil {
		return
	}
	var delta struct{ State json.RawMessage }
	if err := json.Unmarshal(message, &delta); err != nil {
		t.Fatalf("delta %s: %v", message, err)
	}
	for _, state := range []string{
		`{"reported":` + string(delta.State) + `}`,
		`{"reported":` + string(section(t, doc, "desired")) + `}`,
	} {
		r, err := shadow.ParseUpdate([]byte(`{"state":`+state+`}`), wide)
		if err != nil {
			t.Fatal(err)
		}
		change, err := shadow.Apply(doc, r, 0, wide)
		if err != nil {
			t.Fatal(err)
		}
		if change.After.HasDelta() {
			t.Errorf("after %s the delta is %s", state, change.AppendDelta(nil))
		}
	}
}

func section(t *testing.T, doc *shadow.Document, name string) []byte {
	t.Helper()
	var sections map[string]json.RawMessage
	if err := json.Unmarshal(doc.State(), &sections); err != nil {
		t.Fatal(err)
	}
	return sections[name]
}

func FuzzParseTopic(f *testing.F) {
	for _, s := range []string{
		"$aws/things/lamp/shadow/get", "$aws/things/lamp/shadow/name/cfg/update/documents",
		"$aws/things/shadow/shadow/update/delta", "$aws/things/a/shadow/name/name/delete/rejected",
		"$aws/things//shadow/get", "$aws/things/lamp/shadow/name//get", "$aws/things/lamp/shadow/get/",
		"$aws/things/lamp/shadow/get/delta", "$aws/things/la+mp/shadow/get", "$aws/things/lamp/shadow/name/$a/get",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, name string) {
		topic, ok := shadow.ParseTopic(name)
		if !ok {
			if topic != (shadow.Topic{}) {
				t.Errorf("ParseTopic(%q) = %v, false, want a zero topic", name, topic)
			}
			return
		}
		if got := topic.String(); got != name {
			t.Errorf("ParseTopic(%q).String() = %q", name, got)
		}
		if err := topic.ID.Validate(); err != nil {
			t.Errorf("ParseTopic(%q) has the illegal ID %v: %v", name, topic.ID, err)
		}
	})
}

func FuzzDecodeRecord(f *testing.F) {
	for _, s := range oddStates {
		r, err := shadow.ParseUpdate([]byte(`{"state":`+s+`}`), wide)
		if err != nil {
			f.Fatal(err)
		}
		c, err := shadow.Apply(nil, r, 1_700_000_000_123, wide)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(c.After.AppendRecord(nil))
	}
	f.Add([]byte("\x01{\"desired\":{}}"))
	f.Fuzz(func(t *testing.T, record []byte) {
		doc, err := shadow.DecodeRecord(7, false, record)
		if err != nil {
			return
		}
		checkRecord(t, doc)
		checkSync(t, doc)
		if !json.Valid(doc.AppendGet(nil, 0, "")) {
			t.Errorf("get of %q is not JSON", record)
		}
	})
}

func FuzzDecodeHistory(f *testing.F) {
	const time = 1_700_000_000_123
	base := apply(f, nil, oddStates[4], time)
	for _, s := range oddStates {
		r, err := shadow.ParseUpdate([]byte(`{"state":`+s+`,"clientToken":"t"}`), wide)
		if err != nil {
			f.Fatal(err)
		}
		for _, doc := range []*shadow.Document{nil, base.After} {
			c, err := shadow.Apply(doc, r, time, wide)
			if err != nil {
				f.Fatal(err)
			}
			f.Add(c.AppendHistory(nil, shadow.Author{Channel: "rest", Principal: "p", ClientID: "c"}))
		}
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		entry, err := shadow.DecodeHistory(1, data)
		if err != nil {
			return
		}
		if later, err := shadow.DecodeHistory(base.After.Version()+1, data); err == nil {
			if redone, err := later.Redo(base.After); err == nil {
				checkRecord(t, redone)
			}
		}
		change, err := entry.Change(base.After)
		if err != nil {
			return
		}
		change.AppendAccepted(nil)
		change.AppendDelta(nil)
		change.AppendDocuments(nil)
		if change.Before != nil && !change.Before.Deleted() {
			checkRecord(t, change.Before)
		}
	})
}

// apply applies an update with the given state.
func apply(t testing.TB, doc *shadow.Document, state string, now int64) *shadow.Change {
	t.Helper()
	r, err := shadow.ParseUpdate([]byte(`{"state":`+state+`}`), wide)
	if err != nil {
		t.Fatalf("ParseUpdate(%s) = %v", state, err)
	}
	c, err := shadow.Apply(doc, r, now, wide)
	if err != nil {
		t.Fatalf("Apply(%s) = %v", state, err)
	}
	return c
}
