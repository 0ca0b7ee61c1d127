package mqtt_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestDocumentation checks the tables of docs/mqtt.md: that every statement is
// in them once, with a test or the reason why there is none, and that the tests
// exist. A test of another package than this one has its folder before it.
func TestDocumentation(t *testing.T) {
	t.Parallel()
	const root = "../../"
	text, err := os.ReadFile(root + "docs/mqtt.md")
	if err != nil {
		t.Fatal(err)
	}
	row := regexp.MustCompile(`^\| (MQTT-[0-9.]+-[0-9]+|D[0-9]+) \| .+ \| (.+) \|$`)
	name := regexp.MustCompile("`(?:([a-z0-9/]+)\\.)?(Test[A-Za-z0-9]+)`")
	tests := map[string]map[string]bool{}
	seen, section, rows := map[string]bool{}, "", 0
	for line := range strings.Lines(string(text)) {
		line = strings.TrimSuffix(line, "\n")
		if strings.HasPrefix(line, "#") {
			section = line
		}
		for _, m := range name.FindAllStringSubmatch(line, -1) {
			folder := m[1]
			if folder == "" {
				folder = "test/mqtt"
			}
			if tests[folder] == nil {
				tests[folder] = testsIn(t, root+folder)
			}
			if !tests[folder][m[2]] {
				t.Errorf("docs/mqtt.md names the test %s of %s, which does not exist", m[2], folder)
			}
		}
		m := row.FindStringSubmatch(line)
		if m == nil {
			continue
		}
		rows++
		if seen[section+m[1]] {
			t.Errorf("%s is twice in %q", m[1], section)
		}
		seen[section+m[1]] = true
		if !name.MatchString(m[2]) && !strings.HasPrefix(m[2], "none: ") {
			t.Errorf("%s has neither a test nor a reason", m[1])
		}
	}
	if rows < 300 {
		t.Errorf("docs/mqtt.md has %d statements, want all", rows)
	}
}

func testsIn(t *testing.T, folder string) map[string]bool {
	t.Helper()
	files, err := filepath.Glob(folder + "/*_test.go")
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]bool{}
	for _, file := range files {
		f, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range f.Decls {
			if fn, ok := d.(*ast.FuncDecl); ok && fn.Recv == nil {
				found[fn.Name.Name] = true
			}
		}
	}
	return found
}
