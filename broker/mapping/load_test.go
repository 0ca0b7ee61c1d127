package mapping_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/umbra-iot/umbra/broker/mapping"
)

const base = "version: 1\nmapping: m\nthing: \"t-{dev}\"\n"

func TestLoadErrors(t *testing.T) {
	t.Parallel()
	report := "report:\n  - {topic: \"a/{dev}\", to: x}\n"
	for name, c := range map[string]struct{ text, want string }{
		"unknown key":          {base + report + "colour: red\n", "m.yaml:6: colour: unknown key"},
		"unknown deep key":     {base + "report:\n  - topic: \"a/{dev}\"\n    to: x\n    two: y\n", "m.yaml:7: report[0].two: unknown key"},
		"bool key":             {base + "report:\n  - {topic: \"a/{dev}\", to: x, map: {on: true}}\n", "m.yaml:5: report[0].map.on: the key on is a bool in YAML, not a string: quote it (\"on\")"},
		"number key":           {base + "report:\n  - {topic: \"a/{dev}\", to: x, map: {1: true}}\n", "report[0].map.1: the key 1 is not a string"},
		"twice":                {base + report + "thing: x\n", "m.yaml:6: thing: the key is there twice"},
		"no thing":             {"version: 1\nmapping: m\n" + "report:\n  - {topic: a, to: x}\n", "thing: is missing"},
		"no rules":             {base, "report: a mapping needs report or commands"},
		"version":              {"mapping: m\nthing: x\n" + "report: [{topic: a, to: x}]\n", "version: must be 1"},
		"regexp":               {base + "report:\n  - {topic: \"a/{dev}/{n:[}\", to: x}\n", "report[0].topic: {n}: "},
		"two multi":            {base + "report:\n  - {topic: \"{dev+}/x/{b+}\", to: x}\n", "report[0].topic: two captures of several levels"},
		"rest not last":        {base + "report:\n  - {topic: \"{dev}/#/x\", to: x}\n", "report[0].topic: # is not the last level"},
		"capture twice":        {base + "report:\n  - {topic: \"{dev}/{dev}\", to: x}\n", "{dev} is captured twice"},
		"brace":                {base + "report:\n  - {topic: \"{dev\", to: x}\n", "report[0].topic: a brace is not closed"},
		"wildcard":             {base + "report:\n  - {topic: \"{dev}/x+\", to: x}\n", "a wildcard is not alone in its level"},
		"dollar":               {base + "report:\n  - {topic: \"$x/{dev}\", to: x}\n", "allow_dollar: true"},
		"aws":                  {base + "allow_dollar: true\nreport:\n  - {topic: \"$aws/{dev}\", to: x}\n", "$aws belongs to the server"},
		"identity missing":     {base + "report:\n  - {topic: a/b, to: x}\n", "report[0].topic: does not capture {dev}, which thing needs"},
		"target capture":       {base + "report:\n  - {topic: \"a/{dev}\", to: \"x.{n}\"}\n", "report[0].to: {n} is captured nowhere"},
		"command capture":      {base + report + "commands:\n  - {path: p, topic: \"c/{nope}\"}\n", "commands[0].topic: {nope} is not known to commands"},
		"filter":               {"version: 1\nmapping: m\nthing: \"{dev|slugg}\"\n" + report, "thing: unknown filter \"slugg\""},
		"loop":                 {base + "report:\n  - {topic: \"a/{dev}/#\", to: x}\ncommands:\n  - {path: p, topic: \"a/{dev}/set\"}\n", "m.yaml:7: commands[0].topic: a loop"},
		"loop of link":         {base + "link: {from: [{topic: \"a/{dev}\"}]}\ncommands:\n  - {path: p, topic: \"a/{dev}\"}\n", "commands[0].topic: a loop"},
		"loop of query":        {base + report + "query:\n  - {topic: \"a/{dev}\"}\n", "query[0].topic: a loop"},
		"case":                 {base + "report:\n  - {topic: \"a/{dev}\", to: x, map: {a: 1, A: 2}}\n", "is there twice, since case does not count"},
		"toggle":               {base + report + "commands:\n  - {path: p, topic: \"c/{dev}\", payload: {map: {\"true\": TOGGLE, \"false\": \"OFF\"}}}\n", "toggle is not a state"},
		"expression":           {base + "report:\n  - {topic: \"a/{dev}\", as: json, fields: {x: {get: y, expr: \"paylod.x\"}}}\n", "unknown name paylod"},
		"clock":                {base + "report:\n  - {topic: \"a/{dev}\", as: json, fields: {x: {get: y, expr: \"now()\"}}}\n", "bad expression"},
		"same mapping twice":   {base + report + "---\n" + base + report, "there is another mapping \"m\""},
		"same thing, topic":    {base + report + "---\n" + strings.Replace(base, "mapping: m", "mapping: n", 1) + report, "writes the same topic to the same thing"},
		"yaml":                 {"a: [", "m.yaml:1: "},
		"empty":                {"", "there is no mapping in the file"},
		"fields and to":        {base + "report:\n  - {topic: \"a/{dev}\", fields: {x: y}, to: z}\n", "report[0].to: belongs into the fields"},
		"ignore and to":        {base + "report:\n  - {topic: \"a/{dev}\", ignore: true, to: z}\n", "has no meaning with ignore: true"},
		"scale":                {base + "report:\n  - {topic: \"a/{dev}\", to: z, scale: big}\n", "must be [factor, offset]"},
		"command without path": {base + report + "commands:\n  - {topic: \"c/{dev}\"}\n", "needs either path or paths"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			err := load(c.text)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("Load: %v, want %s", err, c.want)
			}
			if list, ok := errors.AsType[mapping.LoadError](err); ok {
				for _, d := range list {
					if d.File == "" || d.Line == 0 {
						t.Errorf("no place in %q", d.Error())
					}
				}
			}
		})
	}
}

func load(text string) error {
	mappings, _, err := mapping.Load("m.yaml", []byte(text))
	if err != nil {
		return err
	}
	_, _, err = mapping.NewSet(mappings)
	return err
}

func TestLoadWarnings(t *testing.T) {
	t.Parallel()
	text := base + `
report:
  - {topic: "a/{dev}", as: string, map: on_off, to: on}
  - {topic: "b/{dev}", as: json, fields: {"pin.{n}": none}}
commands:
  - {path: on, topic: "c/{dev}", retain: true, payload: {map: {"true": "1"}}}
`
	mappings, warnings, err := mapping.Load("m.yaml", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	_, more, err := mapping.NewSet(mappings)
	if err != nil {
		t.Fatal(err)
	}
	var all strings.Builder
	for _, w := range append(warnings, more...) {
		all.WriteString(w.Error() + "\n")
	}
	for _, want := range []string{"Valetudo", "only one of true and false", "no word for", "{n} is captured nowhere"} {
		if !strings.Contains(all.String(), want) {
			t.Errorf("no warning with %q in\n%s", want, all.String())
		}
	}
}

func TestExamplesLoad(t *testing.T) {
	t.Parallel()
	names, err := filepath.Glob("testdata/examples/*.yaml")
	if err != nil || len(names) == 0 {
		t.Fatalf("no examples: %v", err)
	}
	for _, name := range names {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if err := load(string(text)); err != nil {
			t.Errorf("%s:\n%v", name, err)
		}
	}
}

func FuzzLoad(f *testing.F) {
	names, _ := filepath.Glob("testdata/examples/*.yaml")
	for _, name := range names {
		text, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(string(text))
	}
	f.Add(base + "report: [{topic: \"{dev}/{x:(a|b)}{y}\", to: \"{x}\"}]")
	f.Fuzz(func(t *testing.T, text string) {
		mappings, found, err := mapping.Load("f", []byte(text))
		if (err == nil) != (mappings != nil) {
			t.Fatalf("Load gives %v and %v", mappings, err)
		}
		for _, d := range found {
			if err == nil && !d.Warning {
				t.Fatalf("an error that is none: %v", d)
			}
		}
		if err == nil {
			_, _, _ = mapping.NewSet(mappings) // must not panic
		}
	})
}
