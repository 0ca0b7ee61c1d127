package shadow_test

import (
	"testing"

	"github.com/umbra-iot/umbra/shadow"
)

// TestMessages holds the exact bytes of every message, so also the order of members.
func TestMessages(t *testing.T) {
	t.Parallel()
	first := apply(t, nil, `{"desired":{"on":true,"l":[1,{"x":2}]},"reported":{"on":false,"o":{}}}`, 1_700_000_000_999)
	r, err := shadow.ParseUpdate([]byte(
		`{"clientToken":"t-1","state":{"reported":{"l":[],"o":{"k":1},"gone":null},"desired":{"l":null}}}`), shadow.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	second, err := shadow.Apply(first.After, r, 1_700_000_005_001, shadow.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	cleared := apply(t, second.After, `null`, 1_700_000_006_000)
	const (
		ts1 = `{"timestamp":1700000000}`
		ts2 = `{"timestamp":1700000005}`
		one = `{"state":{"desired":{"on":true,"l":[1,{"x":2}]},"reported":{"on":false,"o":{}}},` +
			`"metadata":{"desired":{"on":` + ts1 + `,"l":[` + ts1 + `,{"x":` + ts1 + `}]},"reported":{"on":` + ts1 + `,"o":{}}},"version":1}`
		two = `{"state":{"desired":{"on":true},"reported":{"on":false,"o":{"k":1},"l":[]}},` +
			`"metadata":{"desired":{"on":` + ts1 + `},"reported":{"on":` + ts1 + `,"o":{"k":` + ts2 + `},"l":[]}},"version":2}`
	)
	tests := []struct {
		name string
		got  []byte
		want string
	}{
		{"accepted", second.AppendAccepted(nil), `{"state":{"reported":{"l":[],"o":{"k":1},"gone":null},"desired":{"l":null}},` +
			`"metadata":{"reported":{"l":[],"o":{"k":` + ts2 + `},"gone":` + ts2 + `},"desired":{"l":` + ts2 + `}},` +
			`"version":2,"timestamp":1700000005,"clientToken":"t-1"}`},
		{"accepted of null", cleared.AppendAccepted(nil), `{"state":null,"metadata":{"timestamp":1700000006},"version":3,"timestamp":1700000006}`},
		{"delta", second.AppendDelta(nil), `{"version":2,"timestamp":1700000005,"state":{"on":true},"metadata":{"on":` + ts1 + `},"clientToken":"t-1"}`},
		{"delta of an array", first.AppendDelta(nil), `{"version":1,"timestamp":1700000000,"state":{"on":true,"l":[1,{"x":2}]},` +
			`"metadata":{"on":` + ts1 + `,"l":[` + ts1 + `,{"x":` + ts1 + `}]}}`},
		{"no delta", cleared.AppendDelta(nil), ``},
		{"first documents", first.AppendDocuments(nil), `{"previous":null,"current":` + one + `,"timestamp":1700000000}`},
		{"documents", second.AppendDocuments(nil), `{"previous":` + one + `,"current":` + two + `,"timestamp":1700000005,"clientToken":"t-1"}`},
		{"get", second.After.AppendGet(nil, 1_700_000_009_000, `"g"`), `{"state":{"desired":{"on":true},"reported":{"on":false,"o":{"k":1},"l":[]},"delta":{"on":true}},` +
			`"metadata":{"desired":{"on":` + ts1 + `},"reported":{"on":` + ts1 + `,"o":{"k":` + ts2 + `},"l":[]}},` +
			`"version":2,"timestamp":1700000009,"clientToken":"g"}`},
		{"get of nothing", cleared.After.AppendGet(nil, 1_700_000_009_000, ``), `{"state":{},"metadata":{},"version":3,"timestamp":1700000009}`},
		{"delta on subscribe", second.After.AppendDeltaMessage(nil, 1_700_000_009_000, ``), `{"version":2,"timestamp":1700000009,"state":{"on":true},"metadata":{"on":` + ts1 + `}}`},
		{"rejected", (&shadow.Error{Code: 400, Message: "bad \"x\"\n", Token: `"t"`}).AppendRejected(nil, 5999), `{"code":400,"message":"bad \"x\"\n","timestamp":5,"clientToken":"t"}`},
		{"not found", shadow.NotFound(shadow.ID{Thing: "lamp"}, "").AppendRejected(nil, 5999), `{"code":404,"message":"No shadow exists with name: 'lamp'","timestamp":5}`},
	}
	for _, tt := range tests {
		if got := string(tt.got); got != tt.want {
			t.Errorf("%s = %s\nwant %s", tt.name, got, tt.want)
		}
	}
}

// TestAppend holds the Append functions to append.
func TestAppend(t *testing.T) {
	t.Parallel()
	c := apply(t, nil, `{"desired":{"a":1}}`, 0)
	for name, do := range map[string]func([]byte) []byte{
		"AppendAccepted":     c.AppendAccepted,
		"AppendDelta":        c.AppendDelta,
		"AppendDocuments":    c.AppendDocuments,
		"AppendRecord":       c.After.AppendRecord,
		"AppendHistory":      func(dst []byte) []byte { return c.AppendHistory(dst, shadow.Author{}) },
		"AppendGet":          func(dst []byte) []byte { return c.After.AppendGet(dst, 0, "") },
		"AppendDeltaMessage": func(dst []byte) []byte { return c.After.AppendDeltaMessage(dst, 0, "") },
		"AppendRejected":     func(dst []byte) []byte { return (&shadow.Error{Code: 500}).AppendRejected(dst, 0) },
	} {
		if got, want := string(do([]byte("before"))), "before"+string(do(nil)); got != want {
			t.Errorf("%s = %q, want %q", name, got, want)
		}
	}
}

func TestNilDocument(t *testing.T) {
	t.Parallel()
	var d *shadow.Document
	if d.Version() != 0 || d.Deleted() || d.HasDelta() || d.Size() != 0 || string(d.State()) != "{}" {
		t.Errorf("nil document: %d %t %t %d %s", d.Version(), d.Deleted(), d.HasDelta(), d.Size(), d.State())
	}
	if got := d.AppendDeltaMessage(nil, 0, ""); got != nil {
		t.Errorf("AppendDeltaMessage of nil = %s, want nothing", got)
	}
}

func TestSize(t *testing.T) {
	t.Parallel()
	small := apply(t, nil, `{"reported":{"a":1}}`, 0).After
	large := apply(t, nil, `{"reported":`+benchState(240)+`}`, 0).After
	if small.Size() < 100 || small.Size() > 1000 {
		t.Errorf("Size of %s = %d, want a few hundred bytes", small.State(), small.Size())
	}
	if large.Size() < 16<<10 || large.Size() > 40<<10 {
		t.Errorf("Size of %d bytes of state = %d, want up to 40 KiB", len(large.State()), large.Size())
	}
	// A patch that was large, but left little, leaves no memory behind.
	many := `{"reported":{` + `"x":0` // and a thousand removals
	for i := range 1000 {
		many += `,` + key(i) + `:null`
	}
	if got := apply(t, small, many+`}}`, 0).After.Size(); got > 1000 {
		t.Errorf("Size after a patch of removals = %d, want a few hundred bytes", got)
	}
}
