package schemas_test

import (
	"encoding/json"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/umbra-iot/umbra/schemas"
)

// samples is the content of testdata/NAME.json.
type samples struct {
	Good []json.RawMessage
	Bad  []struct {
		Why string
		Doc json.RawMessage
	}
}

// common holds parts for the other schemas and is not one of a document.
const common = "common"

func compile(t *testing.T) *schemas.Validator {
	t.Helper()
	v, err := schemas.Compile()
	if err != nil {
		t.Fatalf("Compile() = %v", err)
	}
	return v
}

func TestSamples(t *testing.T) {
	t.Parallel()
	v := compile(t)
	for _, name := range schemas.Names() {
		if name == common {
			continue
		}
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			data, err := os.ReadFile(filepath.Join("testdata", name+".json"))
			if err != nil {
				t.Fatal(err)
			}
			var s samples
			if err := json.Unmarshal(data, &s); err != nil {
				t.Fatal(err)
			}
			if len(s.Good) == 0 || len(s.Bad) == 0 {
				t.Errorf("%d good and %d bad samples, want some of each", len(s.Good), len(s.Bad))
			}
			for _, doc := range s.Good {
				if err := v.Validate(name, doc); err != nil {
					t.Errorf("Validate(%s) = %v, want nil", doc, err)
				}
			}
			for _, bad := range s.Bad {
				if v.Validate(name, bad.Doc) == nil {
					t.Errorf("Validate(%s) = nil, want an error: %s", bad.Doc, bad.Why)
				}
			}
		})
	}
}

// TestSamplesHaveSchemas finds samples that no test reads.
func TestSamplesHaveSchemas(t *testing.T) {
	t.Parallel()
	paths, err := filepath.Glob("testdata/*")
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range paths {
		if _, err := fs.Stat(schemas.FS(), filepath.Base(p)); err != nil {
			t.Errorf("%s is of no schema: %v", p, err)
		}
	}
}

func TestIdentity(t *testing.T) {
	t.Parallel()
	for _, name := range schemas.Names() {
		data, err := fs.ReadFile(schemas.FS(), name+".json")
		if err != nil {
			t.Fatal(err)
		}
		var head struct {
			Schema string `json:"$schema"`
			ID     string `json:"$id"`
			Title  string `json:"title"`
		}
		if err := json.Unmarshal(data, &head); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if want := schemas.Root + name + ".json"; head.ID != want {
			t.Errorf("$id of %s = %q, want %q", name, head.ID, want)
		}
		if want := "https://json-schema.org/draft/2020-12/schema"; head.Schema != want {
			t.Errorf("$schema of %s = %q, want %q", name, head.Schema, want)
		}
		if head.Title == "" {
			t.Errorf("%s has no title", name)
		}
	}
}

func TestValidateRefuses(t *testing.T) {
	t.Parallel()
	v := compile(t)
	for _, c := range []struct{ name, doc, want string }{
		{"no-such", `{}`, `no schema "no-such"`},
		{"delta", `{`, "delta"},
		{"delta", `{}{}`, "delta"},
		{"delta", ``, "delta"},
	} {
		err := v.Validate(c.name, []byte(c.doc))
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("Validate(%q, %q) = %v, want an error with %q", c.name, c.doc, err, c.want)
		}
	}
}
