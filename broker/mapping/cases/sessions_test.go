package cases_test

import (
	"os"
	"regexp"
	"slices"
	"testing"

	"github.com/umbra-iot/umbra/broker/mapping"
	"github.com/umbra-iot/umbra/broker/mapping/cases"
)

var session = regexp.MustCompile("(?s)\n## ([a-z0-9-]+)\n.*?\n```json\n(.*?)\n```\n")

// TestSessionsOfPresets runs the sessions of docs/presets.md: one for each mapping that comes with the program, with that one alone.
func TestSessionsOfPresets(t *testing.T) {
	t.Parallel()
	manual, err := os.ReadFile("../../../docs/presets.md")
	if err != nil {
		t.Fatal(err)
	}
	var told []string
	for _, m := range session.FindAllSubmatch(manual, -1) {
		name := string(m[1])
		told = append(told, name)
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			runSession(t, name, m[2])
		})
	}
	slices.Sort(told)
	if all := slices.Sorted(slices.Values(mapping.Presets())); !slices.Equal(told, all) {
		t.Errorf("docs/presets.md has sessions of %q, want %q", told, all)
	}
}

func runSession(t *testing.T, name string, text []byte) {
	t.Helper()
	preset, ok := mapping.Preset(name)
	if !ok {
		t.Fatalf("there is no preset %s", name)
	}
	given, _, err := mapping.Load(name, preset)
	if err != nil {
		t.Fatal(err)
	}
	f, err := cases.Parse(text)
	if err != nil || len(f.Sequences) != 1 {
		t.Fatalf("%d sequences, %v", len(f.Sequences), err)
	}
	if err := cases.Run(f, &f.Sequences[0], given); err != nil {
		t.Error(err)
	}
}
