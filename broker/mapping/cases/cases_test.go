package cases_test

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/umbra-iot/umbra/broker/mapping/cases"
)

func TestCases(t *testing.T) {
	t.Parallel()
	for _, name := range files(t) {
		f := load(t, name)
		for i := range f.Sequences {
			s := &f.Sequences[i]
			t.Run(s.ID, func(t *testing.T) {
				t.Parallel()
				if err := cases.Run(f, s, nil); err != nil {
					t.Errorf("%s: %v", s.Title, err)
				}
			})
		}
	}
}

// TestCasesNotice alters every expectation in turn: the run has to notice.
func TestCasesNotice(t *testing.T) {
	t.Parallel()
	for _, name := range files(t) {
		f := load(t, name)
		for i := range f.Sequences {
			s := f.Sequences[i]
			steps := s.Steps
			for k := range steps {
				altered, ok := alter(steps[k])
				if !ok {
					continue
				}
				s.Steps = append([]cases.Step(nil), steps...)
				s.Steps[k] = altered
				if err := cases.Run(f, &s, nil); err == nil {
					t.Errorf("%s: step %d expects something else, and passes", s.ID, k+1)
				}
			}
		}
	}
}

func alter(s cases.Step) (cases.Step, bool) {
	switch s.Expect {
	case "shadow":
		s.Reported = append(bytes.TrimSuffix(bytes.Clone(s.Reported), []byte("}")), `,"x":1}`...)
		if bytes.HasPrefix(s.Reported, []byte("{,")) {
			s.Reported = json.RawMessage(`{"x":1}`)
		}
	case "command":
		s.Topic += "x"
	case "no_command":
		s.Expect = "command"
	case "error":
		s.Code += "x"
	case "no_error":
		s.Expect = "error"
		s.Code = "decode"
	default:
		return s, false
	}
	return s, true
}

func files(t *testing.T) []string {
	t.Helper()
	names, err := filepath.Glob("testdata/*.json")
	if err != nil || len(names) == 0 {
		t.Fatalf("no cases: %v", err)
	}
	return names
}

func load(t *testing.T, name string) *cases.File {
	t.Helper()
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	f, err := cases.Parse(text)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	if len(f.Sequences) == 0 || strings.TrimSpace(f.Sequences[0].ID) == "" {
		t.Fatalf("%s has no sequences", name)
	}
	return f
}
