package topic_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/umbra-iot/umbra/broker/topic"
)

func TestValid(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("x", topic.MaxLength)
	tests := []struct {
		in           string
		name, filter error
	}{
		{in: "a"},
		{in: "/"},
		{in: "a//b/"},
		{in: "Äpfel/\U0001F34E"},
		{in: " "},
		{in: "$aws/things/lamp/shadow/update"},
		{in: "$share"},
		{in: "$SHARE/x"},
		{in: long},
		{in: "", name: topic.ErrEmpty, filter: topic.ErrEmpty},
		{in: long + "x", name: topic.ErrTooLong, filter: topic.ErrTooLong},
		{in: "a\x00", name: topic.ErrEncoding, filter: topic.ErrEncoding},
		{in: "a\xff", name: topic.ErrEncoding, filter: topic.ErrEncoding},
		{in: "\xed\xa0\x80", name: topic.ErrEncoding, filter: topic.ErrEncoding}, // a surrogate
		{in: "+", name: topic.ErrWildcard},
		{in: "#", name: topic.ErrWildcard},
		{in: "+/+/#", name: topic.ErrWildcard},
		{in: "/+", name: topic.ErrWildcard},
		{in: "a/+/b", name: topic.ErrWildcard},
		{in: "a+", name: topic.ErrWildcard, filter: topic.ErrWildcard},
		{in: "a/+b/c", name: topic.ErrWildcard, filter: topic.ErrWildcard},
		{in: "a#", name: topic.ErrWildcard, filter: topic.ErrWildcard},
		{in: "a/#/b", name: topic.ErrWildcard, filter: topic.ErrWildcard},
		{in: "#/", name: topic.ErrWildcard, filter: topic.ErrWildcard},
		{in: "##", name: topic.ErrWildcard, filter: topic.ErrWildcard},
		{in: "$share/g/a"},
		{in: "$share/g//"},
		{in: "$share/g/+/#", name: topic.ErrWildcard},
		{in: "$share/g/a+", name: topic.ErrWildcard, filter: topic.ErrWildcard},
		{in: "$share/", filter: topic.ErrShare},
		{in: "$share/g", filter: topic.ErrShare},
		{in: "$share/g/", filter: topic.ErrShare},
		{in: "$share//a", filter: topic.ErrShare},
		{in: "$share/+/a", name: topic.ErrWildcard, filter: topic.ErrShare},
		{in: "$share/g#/a", name: topic.ErrWildcard, filter: topic.ErrShare},
	}
	for _, tt := range tests {
		if err := topic.ValidName(tt.in); !errors.Is(err, tt.name) {
			t.Errorf("ValidName(%.40q) = %v, want %v", tt.in, err, tt.name)
		}
		if err := topic.ValidFilter(tt.in); !errors.Is(err, tt.filter) {
			t.Errorf("ValidFilter(%.40q) = %v, want %v", tt.in, err, tt.filter)
		}
	}
}

func TestParseShare(t *testing.T) {
	t.Parallel()
	tests := []struct {
		in, group, rest string
		shared          bool
		err             error
	}{
		{in: "a/b", rest: "a/b"},
		{in: "$share", rest: "$share"},
		{in: "$Share/g/a", rest: "$Share/g/a"},
		{in: "$share/g/a/b", group: "g", rest: "a/b", shared: true},
		{in: "$share/g//", group: "g", rest: "/", shared: true},
		{in: "$share/$share/$share/x/y", group: "$share", rest: "$share/x/y", shared: true},
		{in: "$share/g", shared: true, err: topic.ErrShare},
	}
	for _, tt := range tests {
		group, rest, shared, err := topic.ParseShare(tt.in)
		if group != tt.group || rest != tt.rest || shared != tt.shared || !errors.Is(err, tt.err) {
			t.Errorf("ParseShare(%q) = %q, %q, %v, %v, want %q, %q, %v, %v",
				tt.in, group, rest, shared, err, tt.group, tt.rest, tt.shared, tt.err)
		}
	}
}

// matches has the examples of MQTT 5, 4.7, and what people get wrong.
var matches = []struct {
	filter, name string
	want         bool
}{
	{"a", "a", true},
	{"a", "A", false},
	{"a", "a/", false},
	{"a/", "a", false},
	{"/a", "a", false},
	{"a/b", "a/b", true},
	{"a/b", "a/b/c", false},
	{"a/b/c", "a/b", false},
	{"sport/tennis/player1/#", "sport/tennis/player1", true},
	{"sport/tennis/player1/#", "sport/tennis/player1/ranking", true},
	{"sport/tennis/player1/#", "sport/tennis/player1/score/wimbledon", true},
	{"sport/tennis/player1/#", "sport/tennis/player10", false},
	{"sport/#", "sport", true},
	{"sport/#", "sport/", true},
	{"#", "a/b/c", true},
	{"#", "/", true},
	{"sport/tennis/+", "sport/tennis/player1", true},
	{"sport/tennis/+", "sport/tennis/player1/ranking", false},
	{"sport/+", "sport", false},
	{"sport/+", "sport/", true},
	{"+/+", "/finance", true},
	{"/+", "/finance", true},
	{"+", "/finance", false},
	{"+/#", "a", true},
	{"+/#", "a/b/c", true},
	{"a/+/#", "a", false},
	{"a/+/#", "a/b", true},
	{"+/b/#", "a/b", true},
	{"a/+/c", "a//c", true},
	{"a//c", "a/b/c", false},
	{"#", "$SYS/x", false},
	{"+/x", "$SYS/x", false},
	{"+/#", "$SYS/x", false},
	{"#", "$", false},
	{"$SYS/#", "$SYS/x", true},
	{"$SYS/#", "$SYS", true},
	{"$SYS/+", "$SYS/x", true},
	{"a/#", "a/$b", true},
	{"a/+", "a/$b", true},
	{"$aws/things/+/shadow/update/#", "$aws/things/lamp/shadow/update/delta", true},
	{"$aws/things/lamp/shadow/update/+", "$aws/things/lamp/shadow/update", false},
}

func TestMatch(t *testing.T) {
	t.Parallel()
	for _, tt := range matches {
		if got := topic.Match(tt.filter, tt.name); got != tt.want {
			t.Errorf("Match(%q, %q) = %v, want %v", tt.filter, tt.name, got, tt.want)
		}
		ix := topic.NewIndex[int](0)
		if _, err := ix.Set(tt.filter, 1, topic.Options{}); err != nil {
			t.Fatalf("Set(%q) = %v", tt.filter, err)
		}
		if got := len(ix.Append(nil, tt.name)); got > 1 || got == 1 != tt.want {
			t.Errorf("Append(%q) with filter %q gave %d entries, want match %v", tt.name, tt.filter, got, tt.want)
		}
	}
}

// FuzzFilter checks laws that hold for every pair of strings.
func FuzzFilter(f *testing.F) {
	for _, m := range matches {
		f.Add(m.filter, m.name)
	}
	f.Add("$share/g/a/+", "a/b")
	f.Add("$share/g/#", "$a")
	f.Fuzz(func(t *testing.T, filter, name string) {
		if topic.ValidName(name) == nil && !strings.HasPrefix(name, "$share/") {
			if err := topic.ValidFilter(name); err != nil {
				t.Fatalf("ValidFilter(%q) = %v, want nil for a valid name", name, err)
			}
			if !topic.Match(name, name) {
				t.Fatalf("Match(%q, itself) = false", name)
			}
		}
		ix := topic.NewIndex[int](0)
		_, err := ix.Set(filter, 1, topic.Options{})
		if want := topic.ValidFilter(filter); (err == nil) != (want == nil) {
			t.Fatalf("Set(%q) = %v, ValidFilter = %v", filter, err, want)
		}
		if err != nil || topic.ValidName(name) != nil {
			return
		}
		_, rest, _, _ := topic.ParseShare(filter)
		got := len(ix.Append(nil, name)) == 1
		if want := topic.Match(rest, name); got != want {
			t.Fatalf("Append(%q) with filter %q matched = %v, Match = %v", name, filter, got, want)
		}
		if !ix.Remove(filter, 1) || ix.Len() != 0 || ix.Nodes() != 0 {
			t.Fatalf("after Remove(%q): Len = %d, Nodes = %d, want 0", filter, ix.Len(), ix.Nodes())
		}
	})
}
