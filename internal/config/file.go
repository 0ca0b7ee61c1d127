package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// readFile returns the settings of a YAML file: one mapping of names to scalars, and to the lists of listeners and mappings. What it could read is
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
		return nil, syntaxError(path, data, err)
	}
	var second yaml.Node
	if err := dec.Decode(&second); err == nil {
		return nil, fmt.Errorf("%s:%d: more than one document", path, second.Line)
	} else if !errors.Is(err, io.EOF) {
		return nil, syntaxError(path, data, err)
	}
	top := doc.Content[0]
	if top.Kind != yaml.MappingNode {
		return nil, fmt.Errorf("%s:%d: not a mapping of settings to values", path, top.Line)
	}
	return readMapping(path, top, table)
}

var yamlError = regexp.MustCompile(`^yaml: (?:line (\d+): )?(.*)`)

// syntaxError says where err is in the file as the other errors do. The YAML package names every line but the first.
func syntaxError(path string, data []byte, err error) error {
	m := yamlError.FindStringSubmatch(err.Error())
	if m == nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	line := 1
	if n, err := strconv.Atoi(m[1]); err == nil {
		line = n
	}
	hint := ""
	lines := strings.Split(string(data), "\n")
	if line <= len(lines) && strings.HasSuffix(strings.TrimSpace(lines[line-1]), ":") {
		hint = " (quote values that end in a colon)"
	}
	return fmt.Errorf("%s:%d: %s%s", path, line, m[2], hint)
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
		case key.Value == "listeners" && value.Kind == yaml.SequenceNode:
			list, err := listenersText(value)
			if err != nil {
				errs = append(errs, fmt.Errorf("%s: %s: %w", at, key.Value, err))
			}
			values[key.Value] = given{at + ": " + key.Value, list}
		case key.Value == "mappings" && value.Kind == yaml.SequenceNode:
			var list []string
			if err := value.Decode(&list); err != nil {
				errs = append(errs, fmt.Errorf("%s: %s: %w", at, key.Value, err))
			}
			values[key.Value] = given{at + ": " + key.Value, strings.Join(list, ",")}
		case value.Kind != yaml.ScalarNode || value.Tag == "!!null":
			errs = append(errs, fmt.Errorf("%s: %s needs a single value", at, key.Value))
		default:
			values[key.Value] = given{at + ": " + key.Value, value.Value}
		}
	}
	return values, errors.Join(errs...)
}
