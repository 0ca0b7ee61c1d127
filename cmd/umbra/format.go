package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"text/template"

	"go.yaml.in/yaml/v3"
)

// Names of the output formats of -o.
const (
	formatTable    = "table"
	formatWide     = "wide"
	formatShort    = "short"
	formatJSON     = "json"
	formatYAML     = "yaml"
	formatNDJSON   = "ndjson"
	formatCSV      = "csv"
	formatName     = "name"
	formatRaw      = "raw"
	formatJSONPath = "jsonpath"
	formatTemplate = "template"
)

// errNoMatch says that the path of jsonpath leads nowhere. One with a wildcard asks for a list, which may be empty.
var errNoMatch = errors.New("there is no value")

// format is a parsed -o flag.
type format struct {
	kind     string
	query    query              // of jsonpath
	asked    string             // the text of query
	template *template.Template // of template
}

// parseFormat accepts one of the allowed formats.
func parseFormat(s string, allowed []string) (format, error) {
	kind, argument, hasArgument := strings.Cut(s, "=")
	takesArgument := kind == formatJSONPath || kind == formatTemplate
	known := false
	for _, name := range allowed {
		known = known || name == kind
	}
	if !known || hasArgument != takesArgument {
		return format{}, usagef("output format %q is not one of %s", s, describeFormats(allowed))
	}
	f := format{kind: kind}
	var err error
	switch kind {
	case formatJSONPath:
		f.asked = argument
		f.query, err = parseQuery(argument)
	case formatTemplate:
		f.template, err = template.New("-o").
			Funcs(template.FuncMap{"json": func(v any) string { return string(encodeJSON(v)) }}).
			Parse(argument)
	}
	if err != nil {
		return format{}, usagef("output format %s: %v", kind, err)
	}
	return f, nil
}

func describeFormats(allowed []string) string {
	out := make([]string, len(allowed))
	for i, name := range allowed {
		switch name {
		case formatJSONPath:
			name = "jsonpath=$.PATH"
		case formatTemplate:
			name = "template=TEXT"
		}
		out[i] = name
	}
	return strings.Join(out, ", ")
}

// document writes one JSON document in a format made from it alone. The text of numbers and, but
// for yaml, the order of keys stay as they are.
func (f format) document(w io.Writer, doc []byte) error {
	switch f.kind {
	case formatRaw:
		_, err := fmt.Fprintf(w, "%s\n", doc)
		return err
	case formatJSON, formatNDJSON:
		var b bytes.Buffer
		indent := func() error { return json.Indent(&b, doc, "", "  ") }
		if f.kind == formatNDJSON {
			indent = func() error { return json.Compact(&b, doc) }
		}
		if err := indent(); err != nil {
			return fmt.Errorf("the server sent no JSON: %w", err)
		}
		_, err := fmt.Fprintf(w, "%s\n", &b)
		return err
	}
	value, err := decodeJSON(doc)
	if err != nil {
		return fmt.Errorf("the server sent no JSON: %w", err)
	}
	return f.value(w, value)
}

// value writes one value in the formats yaml, jsonpath and template.
func (f format) value(w io.Writer, value any) error {
	switch f.kind {
	case formatYAML:
		e := yaml.NewEncoder(w)
		e.SetIndent(2)
		if err := e.Encode(yamlNode(value)); err != nil {
			return fmt.Errorf("write yaml: %w", err)
		}
		return e.Close()
	case formatJSONPath:
		values := f.query.find(value)
		if len(values) == 0 && !f.query.many() {
			return failf(exitNotFound, "%w at %s", errNoMatch, f.asked)
		}
		for _, found := range values {
			if _, err := fmt.Fprintln(w, plain(found)); err != nil {
				return err
			}
		}
		return nil
	case formatTemplate:
		if err := f.template.Execute(w, value); err != nil {
			return failf(exitOther, "output format template: %w", err)
		}
		_, err := fmt.Fprintln(w)
		return err
	}
	return fmt.Errorf("no way to write a value as %q", f.kind)
}

// plain returns a string as it is and any other value as JSON.
func plain(v any) string {
	if s, ok := v.(string); ok {
		return s
	}
	return string(encodeJSON(v))
}

// yamlNode exists because the yaml package would write a json.Number as a string.
func yamlNode(v any) *yaml.Node {
	switch v := v.(type) {
	case object:
		n := &yaml.Node{Kind: yaml.MappingNode}
		for _, key := range sortedKeys(v) {
			n.Content = append(n.Content, yamlNode(key), yamlNode(v[key]))
		}
		return n
	case []any:
		n := &yaml.Node{Kind: yaml.SequenceNode}
		for _, item := range v {
			n.Content = append(n.Content, yamlNode(item))
		}
		return n
	case json.Number:
		return &yaml.Node{Kind: yaml.ScalarNode, Value: v.String()}
	}
	n := &yaml.Node{}
	if err := n.Encode(v); err != nil {
		panic(err) // string, bool or nil
	}
	return n
}
