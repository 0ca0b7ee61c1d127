// Package schemas holds the JSON Schemas (draft 2020-12) of every document
// that Umbra takes or sends, and checks documents against them.
//
// Each schema is one file, for example update-accepted.json. Its $id is the
// path under which the HTTP API serves it, /v1/schemas/update-accepted.json,
// and a reference to another schema is relative, so the files work from any
// server and from a plain directory.
//
// The schemas of what Umbra sends say exactly what this release sends: they
// allow no other members. Programs that validate what they receive and want
// to accept later releases too should not insist on that. The schemas of
// requests say what is accepted; sizes and depth are settings of the service
// and are not in them.
package schemas

import (
	"bytes"
	"embed"
	"fmt"
	"io/fs"
	"strings"

	"github.com/santhosh-tekuri/jsonschema/v6"
)

// Root is the path under which the HTTP API serves the schemas.
const Root = "/v1/schemas/"

//go:embed *.json
var files embed.FS

// FS returns the schema files, all of them at its root.
func FS() fs.FS { return files }

// Names returns the names of the schemas, such as "update-accepted", in order.
func Names() []string {
	entries, err := files.ReadDir(".")
	if err != nil {
		panic("schemas: embedded files: " + err.Error()) // part of the binary
	}
	names := make([]string, len(entries))
	for i, e := range entries {
		names[i] = strings.TrimSuffix(e.Name(), ".json")
	}
	return names
}

// Validator checks documents. It may be used by several goroutines.
type Validator struct {
	compiled map[string]*jsonschema.Schema // by name
}

// Compile compiles all schemas.
func Compile() (*Validator, error) {
	// Any absolute URL will do: the schemas refer to each other by relative references only, and none is fetched.
	const base = "file://" + Root
	compiler := jsonschema.NewCompiler()
	for _, name := range Names() {
		data, err := files.ReadFile(name + ".json")
		if err != nil {
			return nil, fmt.Errorf("schemas: %w", err)
		}
		doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(data))
		if err != nil {
			return nil, fmt.Errorf("schemas: %s: %w", name, err)
		}
		if err := compiler.AddResource(base+name+".json", doc); err != nil {
			return nil, fmt.Errorf("schemas: %s: %w", name, err)
		}
	}
	v := &Validator{compiled: make(map[string]*jsonschema.Schema)}
	for _, name := range Names() {
		schema, err := compiler.Compile(base + name + ".json")
		if err != nil {
			return nil, fmt.Errorf("schemas: %s: %w", name, err)
		}
		v.compiled[name] = schema
	}
	return v, nil
}

// Validate reports why doc, a JSON text, is not an instance of the schema with this name ("update-accepted").
// An unknown name is an error too.
func (v *Validator) Validate(name string, doc []byte) error {
	schema, ok := v.compiled[name]
	if !ok {
		return fmt.Errorf("schemas: no schema %q", name)
	}
	value, err := jsonschema.UnmarshalJSON(bytes.NewReader(doc))
	if err != nil {
		return fmt.Errorf("schemas: %s: %w", name, err)
	}
	if err := schema.Validate(value); err != nil {
		return fmt.Errorf("schemas: %w", err)
	}
	return nil
}
