package main

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func mustDecode(t *testing.T, text string) any {
	t.Helper()
	v, err := decodeJSON([]byte(text))
	if err != nil {
		t.Fatalf("decodeJSON(%s): %v", text, err)
	}
	return v
}

func TestDecodeJSONRefuses(t *testing.T) {
	t.Parallel()
	for _, text := range []string{
		"", " ", "{", "[", `{"a"`, `{"a":`, `{"a":1`, "1 2", "{} x", "01", `{"a":1,"a":1}`, `[{"a":{"b":1,"b":2}}]`, "nul", `{a:1}`, "[1,]",
	} {
		if v, err := decodeJSON([]byte(text)); err == nil {
			t.Errorf("decodeJSON(%q) = %v, want an error", text, v)
		}
	}
}

func TestEqual(t *testing.T) {
	t.Parallel()
	tests := []struct {
		a, b string
		want bool
	}{
		{"1", "1.0", true},
		{"1e2", "100", true},
		{"9007199254740993", "9007199254740992", false},
		{"18446744073709551615", "18446744073709551614", false},
		{"0.1234567890123456789", "0.1234567890123456788", false},
		{"1e-9999999", "0", true}, // no document has it
		{"1", `"1"`, false},
		{"null", "false", false},
		{"[1,2]", "[2,1]", false},
		{`{"a":1,"b":[{}]}`, `{"b":[{}],"a":1.0}`, true},
		{`{"a":1}`, `{"a":1,"b":null}`, false},
		{"{}", "[]", false},
		{"0", "-0", true},
	}
	for _, tt := range tests {
		if got := equal(mustDecode(t, tt.a), mustDecode(t, tt.b)); got != tt.want {
			t.Errorf("equal(%s, %s) = %v, want %v", tt.a, tt.b, got, tt.want)
		}
	}
}

func TestMissing(t *testing.T) {
	t.Parallel()
	tests := []struct{ want, have, missing string }{
		{`{"a":1}`, `{"a":1.0,"b":2}`, ""},
		{`{"a":{"b":1,"c":2},"d":null}`, `{"a":{"b":1}}`, "a.c"},
		{`{"a":{}}`, `{"a":{"b":1}}`, ""},
		{`{"a":{}}`, `{"a":1}`, "a"},
		{`{"a":[1]}`, `{"a":[1,2]}`, "a"},
		{`{}`, `{}`, ""},
	}
	for _, tt := range tests {
		var got []string
		for _, l := range missing(mustDecode(t, tt.want).(object), mustDecode(t, tt.have).(object)) {
			got = append(got, l.path.String())
		}
		if strings.Join(got, " ") != tt.missing {
			t.Errorf("missing(%s, %s) = %q, want %q", tt.want, tt.have, got, tt.missing)
		}
	}
}

func TestText(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		`"abc"`: "abc", `"a b"`: "a b", `"1"`: `"1"`, `"true"`: `"true"`, `""`: `""`, `" a"`: `" a"`, `"a\nb"`: `"a\nb"`,
		`"\u001b[2J"`: `"\u001b[2J"`, `"é"`: "é", `"a\"b"`: `"a\"b"`, "1.50": "1.50", `{"b":"<","a":1}`: `{"a":1,"b":"<"}`,
	} {
		if got := text(mustDecode(t, in)); got != want {
			t.Errorf("text(%s) = %s, want %s", in, got, want)
		}
	}
}

func TestJSONPatch(t *testing.T) {
	t.Parallel()
	tests := []struct{ before, after, want string }{
		{`{}`, `{}`, `[]`},
		{`{"a":1,"b":2}`, `{"b":2.0}`, `[{"op":"remove","path":"/a"}]`},
		{`{"a":{"b":1}}`, `{"a":{"b":2,"c":{}}}`, `[{"op":"replace","path":"/a/b","value":2},{"op":"add","path":"/a/c","value":{}}]`},
		{`{"a":{"b":1}}`, `{"a":[1]}`, `[{"op":"replace","path":"/a","value":[1]}]`},
		{`{"a/b~c":1}`, `{}`, `[{"op":"remove","path":"/a~1b~0c"}]`},
	}
	for _, tt := range tests {
		got := string(encodeJSON(jsonPatch(mustDecode(t, tt.before).(object), mustDecode(t, tt.after).(object))))
		if got != tt.want {
			t.Errorf("jsonPatch(%s, %s) = %s, want %s", tt.before, tt.after, got, tt.want)
		}
	}
}

func TestParseAssignment(t *testing.T) {
	t.Parallel()
	tests := []struct{ arg, path, value string }{
		{"a=1", "a", "1"},
		{"a.b=x", "a.b", `"x"`},
		{`a\.b=true`, `a\.b`, "true"},
		{`a\=b=1`, "a=b", "1"},
		{`a\\=1`, `a\\`, "1"},
		{"a==", "a", `"="`},
		{"a=", "a", `""`},
		{`a:="1"`, "a", `"1"`},
		{`a\:=x`, "a:", `"x"`},
		{"a=01", "a", `"01"`},
		{"a=null", "a", "null"},
		{`a={"b":[1, 2]}`, "a", `{"b":[1,2]}`},
	}
	for _, tt := range tests {
		p, v, err := parseAssignment(tt.arg)
		if err != nil || p.String() != tt.path || string(encodeJSON(v)) != tt.value {
			t.Errorf("parseAssignment(%s) = %s, %s, %v; want %s, %s", tt.arg, p, encodeJSON(v), err, tt.path, tt.value)
		}
	}
}

func TestQuery(t *testing.T) {
	t.Parallel()
	doc := mustDecode(t, `{"a":{"b":[1,{"c":2},3]},"x.y":4,"z":[[5],[6]]}`)
	tests := []struct{ query, want string }{
		{"$", `{"a":{"b":[1,{"c":2},3]},"x.y":4,"z":[[5],[6]]}`},
		{"$.a.b[0]", "1"},
		{"{.a.b[1].c}", "2"},
		{"a.b[-1]", "3"},
		{"$['x.y']", "4"},
		{`$["x.y"]`, "4"},
		{"$.z[*][0]", "5 6"},
		{"$.a.*", `[1,{"c":2},3]`},
		{"$.a.b[9]", ""},
		{"$.nothing", ""},
		{"$.a[0]", ""},
	}
	for _, tt := range tests {
		q, err := parseQuery(tt.query)
		if err != nil {
			t.Errorf("parseQuery(%s): %v", tt.query, err)
			continue
		}
		var got []string
		for _, v := range q.find(doc) {
			got = append(got, string(encodeJSON(v)))
		}
		if strings.Join(got, " ") != tt.want {
			t.Errorf("%s finds %q, want %q", tt.query, got, tt.want)
		}
	}
	for _, bad := range []string{"$..a", "$.", "$[", "$[x]", "$['a'", "{.a", "$.a]", "$.a[?(@.b)]", "$[1:2]"} {
		if q, err := parseQuery(bad); err == nil {
			t.Errorf("parseQuery(%s) = %v, want an error", bad, q)
		}
	}
}

func FuzzPath(f *testing.F) {
	for _, s := range []string{"a", "a.b", `a\.b.c`, `\\`, `\`, "..", "a.", "é.\x00"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		p, err := parsePath(s)
		if err != nil {
			return
		}
		again, err := parsePath(p.String())
		if err != nil || !slices.Equal(p, again) {
			t.Errorf("parsePath(%q) = %q, and of its text %q = %q (%v)", s, p, p.String(), again, err)
		}
	})
}

func FuzzMergePatch(f *testing.F) {
	for _, pair := range [][2]string{
		{`{}`, `{"a":1}`}, {`{"a":{"b":1}}`, `{"a":{}}`}, {`{"a":1}`, `{"a":{"b":[1,2]}}`}, {`{"a":{"b":1}}`, `{"a":2,"c":{}}`},
	} {
		f.Add(pair[0], pair[1])
	}
	f.Fuzz(func(t *testing.T, a, b string) {
		x, err1 := decodeJSON([]byte(a))
		y, err2 := decodeJSON([]byte(b))
		before, ok1 := x.(object)
		after, ok2 := y.(object)
		if err1 != nil || err2 != nil || !ok1 || !ok2 {
			return
		}
		before, after = withoutNulls(before), withoutNulls(after)
		patch := mergePatch(before, after)
		if got := merge(before, patch); !equal(got, after) {
			t.Errorf("merge(%s, %s) = %s, want %s", encodeJSON(before), encodeJSON(patch), encodeJSON(got), encodeJSON(after))
		}
		if (len(patch) == 0) != equal(before, after) {
			t.Errorf("mergePatch(%s, %s) = %s", encodeJSON(before), encodeJSON(after), encodeJSON(patch))
		}
		if again := mustDecode(t, string(encodeJSON(after))); !cmp.Equal(any(after), again) {
			t.Errorf("encodeJSON(%v) decodes to %v", after, again)
		}
	})
}
