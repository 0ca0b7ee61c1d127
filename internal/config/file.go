package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"

	"go.yaml.in/yaml/v3"
)

// readFile returns the settings of a YAML file: one mapping of names to scalars. What it could read is
// returned beside the error, so that all errors of a file are seen at once.
func readFile(path string, table []Setting) (map[string]given, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("reading the settings: %w", err)
	}
	var doc yaml.Node
	dec := yaml.NewDecoder(bytes.NewReader(data))
	if err := dec.Decode(&doc); errors.Is(err, io.EOF) {
		return nil, nil // an empty file
	} else if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	if err := dec.Decode(new(yaml.Node)); !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("%s: more than one document", path)
	}
	top := doc.Content[0]
	if top.Kind != yaml.MappingNode {
		return nil, fmt.Errorf("%s:%d: not a mapping of settings to values", path, top.Line)
	}
	return readMapping(path, top, table)
}

func readMapping(path string, top *yaml.Node, table []Setting) (map[string]given, error) {
	values := map[string]given{}
	var errs []error
	for i := 0; i < len(top.Content); i += 2 {
		key, value := top.Content[i], top.Content[i+1]
		at := fmt.Sprintf("%s:%d", path, key.Line)
		_, twice := values[key.Value]
		known := slices.ContainsFunc(table, func(s Setting) bool { return s.Name == key.Value })
		switch {
		case !known:
			errs = append(errs, fmt.Errorf("%s: unknown setting %q", at, key.Value))
		case twice:
			errs = append(errs, fmt.Errorf("%s: %s is set a second time", at, key.Value))
		case value.Kind != yaml.ScalarNode || value.Tag == "!!null":
			errs = append(errs, fmt.Errorf("%s: %s needs a single value", at, key.Value))
		default:
			values[key.Value] = given{at + ": " + key.Value, value.Value}
		}
	}
	return values, errors.Join(errs...)
}
