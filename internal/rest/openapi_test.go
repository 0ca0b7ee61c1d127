package rest_test

import (
	"encoding/json"
	"mime"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"

	"github.com/umbra-iot/umbra/internal/rest"
	"github.com/umbra-iot/umbra/schemas"
)

// spec is openapi.json as far as queries and answers are concerned.
type spec struct {
	Paths      map[string]map[string]*operation
	Components struct {
		Parameters map[string]*parameter
		Responses  map[string]*response
	}
}

type operation struct {
	OperationID string
	Parameters  []*parameter
	Responses   map[string]*response
}

type parameter struct {
	Ref      string `json:"$ref"`
	Name, In string
}

type response struct {
	Ref     string `json:"$ref"`
	Content map[string]struct {
		Schema struct {
			Ref string `json:"$ref"`
		}
	}
}

func loadSpec(t *testing.T) *spec {
	t.Helper()
	data, err := os.ReadFile("openapi.json")
	if err != nil {
		t.Fatal(err)
	}
	s := new(spec)
	if err := json.Unmarshal(data, s); err != nil {
		t.Fatal(err)
	}
	return s
}

var validator = sync.OnceValues(schemas.Compile)

func validate(t *testing.T, name, doc string) {
	t.Helper()
	v, err := validator()
	if err != nil {
		t.Fatal(err)
	}
	if err := v.Validate(name, []byte(doc)); err != nil {
		t.Errorf("%.300s is no %s: %v", doc, name, err)
	}
}

var placeholder = regexp.MustCompile(`\\\{[a-zA-Z]+\\\}`)

// operation finds what a request asks for, nil when that is not in the file.
func (s *spec) operation(req *http.Request) *operation {
	for path, operations := range s.Paths {
		part := `[^/]+`
		if path == "/topics/{topic}" || path == "/retainedMessage/{topic}" {
			part = `.*`
		}
		pattern := "^" + placeholder.ReplaceAllString(regexp.QuoteMeta(path), part) + "$"
		if regexp.MustCompile(pattern).MatchString(req.URL.EscapedPath()) {
			return operations[strings.ToLower(req.Method)]
		}
	}
	return nil
}

// check holds an answer against the file. What is not in the file has to be an error.
func (s *spec) check(t *testing.T, req *http.Request, a answer) {
	t.Helper()
	op := s.operation(req)
	if op == nil {
		if a.status != http.StatusNotFound && a.status != http.StatusMethodNotAllowed {
			t.Errorf("%s %s = %d, and is not in openapi.json", req.Method, req.URL, a.status)
		}
		return
	}
	resp := op.Responses[statusText(a.status)]
	if resp == nil && a.status >= 400 {
		resp = op.Responses["default"]
	}
	if resp == nil {
		t.Errorf("%s: answer %d is not in openapi.json", op.OperationID, a.status)
		return
	}
	if name, ok := strings.CutPrefix(resp.Ref, "#/components/responses/"); ok {
		resp = s.Components.Responses[name]
	}
	if a.body == "" && len(resp.Content) == 0 {
		return
	}
	kind, _, err := mime.ParseMediaType(a.header.Get("Content-Type"))
	content, ok := resp.Content[kind]
	if err != nil || !ok {
		t.Errorf("%s: Content-Type %q of answer %d is not in openapi.json", op.OperationID, kind, a.status)
		return
	}
	if name, ok := strings.CutPrefix(content.Schema.Ref, "schemas/"); ok {
		validate(t, strings.TrimSuffix(name, ".json"), a.body)
	}
}

func statusText(status int) string {
	b, err := json.Marshal(status)
	if err != nil {
		panic(err)
	}
	return string(b)
}

// query returns the names of the query parameters of an operation.
func (s *spec) query(op *operation) (names []string) {
	for _, p := range op.Parameters {
		if name, ok := strings.CutPrefix(p.Ref, "#/components/parameters/"); ok {
			p = s.Components.Parameters[name]
		}
		if p.In == "query" {
			names = append(names, p.Name)
		}
	}
	return names
}

// TestRoutesAreDescribed holds the routes, with their queries, and openapi.json together, both ways.
func TestRoutesAreDescribed(t *testing.T) {
	t.Parallel()
	var want, got []string
	for _, r := range rest.Routes() {
		path := strings.NewReplacer("{$}", "", "...}", "}").Replace(r.Pattern)
		want = append(want, strings.TrimSpace(r.Method+" "+path+" "+r.Query))
	}
	s := loadSpec(t)
	for path, operations := range s.Paths {
		for method, op := range operations {
			got = append(got, strings.Join(append([]string{strings.ToUpper(method), path}, s.query(op)...), " "))
		}
	}
	slices.Sort(want)
	slices.Sort(got)
	if !slices.Equal(got, want) {
		t.Errorf("openapi.json has\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// TestDescriptionIsValid has another program read the file, with all schemas that it refers to.
func TestDescriptionIsValid(t *testing.T) {
	t.Parallel()
	loader := openapi3.NewLoader()
	loader.ReadFromURIFunc = func(_ *openapi3.Loader, u *url.URL) ([]byte, error) {
		if dir, file := filepath.Split(u.Path); strings.HasSuffix(dir, "schemas/") {
			return os.ReadFile(filepath.Join("..", "..", "schemas", file))
		}
		return os.ReadFile("openapi.json")
	}
	doc, err := loader.LoadFromURI(&url.URL{Path: "/v1/openapi.json"})
	if err != nil {
		t.Fatal(err)
	}
	if err := doc.Validate(t.Context()); err != nil {
		t.Error(err)
	}
}
