package mapping_test

import (
	"strings"
	"testing"

	"github.com/umbra-iot/umbra/broker/mapping"
)

func TestPatterns(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ pattern, topic, want string }{
		{"tele/{dev}/LWT", "tele/a/LWT", "dev=a"},
		{"tele/{dev}/LWT", "tele/a/b/LWT", "-"},
		{"tele/{dev}/LWT", "tele//LWT", "-"},
		{"z/{dev+}/availability", "z/kitchen/light/availability", "dev=kitchen/light"},
		{"z/{dev+}", "z", "-"},
		{"{p}/status/{comp:[a-z0-9]+}:{id:[0-9]+}", "x/status/switch:0", "p=x comp=switch id=0"},
		{"{p}/status/{comp:[a-z0-9]+}:{id:[0-9]+}", "x/status/switch", "-"},
		{"{p}/status/{comp:[a-z0-9]+}", "x/status/switch:0", "-"},
		{"stat/{dev}/POWER{n:[0-9]*}", "stat/a/POWER", "dev=a n="},
		{"stat/{dev}/POWER{n:[0-9]*}", "stat/a/POWER12", "dev=a n=12"},
		{"d/{dev}/messages/#", "d/a/messages/x/y", "dev=a"},
		{"d/{dev}/messages/#", "d/a/messages", "dev=a"},
		{"d/{dev}/messages/#", "d/a", "-"},
		{"+/{dev}/+", "a/b/c", "dev=b"},
		{"{dev}/x", "$SYS/x", "-"},
		{"{dev}/x", "$other/x", "-"},
		{"{r+}/2/{c}", "US/x/2/LongFast", "r=US/x c=LongFast"},
		{"{dev:(?:shellies/)?[a-z]+}/online", "plug/online", "dev=plug"},
		{"{r+}/mid/#", "a/b/mid/c", "r=a/b"},
		{"{r+}/mid/#", "a/b/mid", "r=a/b"},
		{"{a:(x|y)}{b:[0-9]}", "y7", "a=y b=7"},
	} {
		got, err := mapping.MatchPattern(c.pattern, c.topic)
		if err != nil {
			t.Errorf("MatchPattern(%q): %v", c.pattern, err)
			continue
		}
		if got != c.want {
			t.Errorf("MatchPattern(%q, %q) = %s, want %s", c.pattern, c.topic, got, c.want)
		}
	}
}

func FuzzPattern(f *testing.F) {
	f.Add("a/{b+}/c", "a/x/y/c")
	f.Add("{p}/status/{comp:[a-z0-9]+}:{id:[0-9]+}", "x/status/switch:0")
	f.Add("{r+}/#", "a/b")
	f.Fuzz(func(t *testing.T, pattern, topic string) {
		got, err := mapping.MatchPattern(pattern, topic)
		if err != nil || got == "-" || got == "" {
			return
		}
		for pair := range strings.SplitSeq(got, " ") { // what is captured is part of the topic
			_, text, ok := strings.Cut(pair, "=")
			if ok && !strings.Contains(topic, text) {
				t.Fatalf("MatchPattern(%q, %q) = %q: %q is not in the topic", pattern, topic, got, text)
			}
		}
	})
}
