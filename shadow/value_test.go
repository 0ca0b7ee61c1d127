package shadow_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/umbra-iot/umbra/shadow"
)

func TestValue(t *testing.T) {
	t.Parallel()
	v, err := shadow.ParseValue([]byte(` {"a":{"b\"c":[1, 2.50]},"s":"x\ny","n":null,"t":true} `), shadow.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	if got := string(v.At("a", `b"c`).Raw()); got != "[1,2.50]" {
		t.Errorf("At(a, b\"c) = %s", got)
	}
	if got := v.Member("s").Text(); got != "x\ny" {
		t.Errorf("Text() = %q", got)
	}
	if b, ok := v.Member("t").Bool(); !b || !ok {
		t.Errorf("Bool() = %v, %v, want true, true", b, ok)
	}
	if !v.Member("n").IsNull() || v.Member("none").Exists() || v.At("s", "x").Exists() {
		t.Error("null, a missing member and a member of a string are not told apart")
	}
	var elements []string
	for e := range v.At("a", `b"c`).Elements() {
		elements = append(elements, e.Text())
	}
	if diff := cmp.Diff([]string{"1", "2.50"}, elements); diff != "" {
		t.Errorf("Elements() (-want +got):\n%s", diff)
	}
	same, err := shadow.ParseValue([]byte(`{"t":true,"n":null,"s":"x\u000ay","a":{"b\"c":[1.0,2.5]}}`), shadow.Limits{})
	if err != nil || !v.Equal(same) {
		t.Errorf("Equal = false for the same value (%v)", err)
	}
	for _, bad := range []string{"", "{", "1 2", "\xff", "nan"} {
		if _, err := shadow.ParseValue([]byte(bad), shadow.Limits{}); err == nil {
			t.Errorf("ParseValue(%q) gives no error", bad)
		}
	}
}

func TestDifferences(t *testing.T) {
	t.Parallel()
	req, err := shadow.ParseUpdate([]byte(`{"state":{"desired":{"a":1,"b":{"c":[1],"d":true},"e":{}},"reported":{"a":1.0,"b":{"d":false}}}}`), shadow.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	change, err := shadow.Apply(nil, req, 7, shadow.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, d := range change.After.Differences() {
		got = append(got, strings.Join(d.Path, ".")+" "+d.Desired.Text()+" "+d.Reported.Text())
	}
	if diff := cmp.Diff([]string{"b.c [1] ", "b.d true false", "e {} "}, got); diff != "" {
		t.Errorf("Differences() (-want +got):\n%s", diff)
	}
	if got := change.After.Reported().Member("a").Time(); got != 7 {
		t.Errorf("Time() = %d, want 7", got)
	}
	if got := string(change.State().At("desired", "b").Raw()); got != `{"c":[1],"d":true}` {
		t.Errorf("State().At(desired, b) = %s", got)
	}
}
