package main

import (
	"encoding/json"
	"strings"
)

// path leads to a value: the keys of the objects around it, from the outside in.
type path []string

// String writes the keys with dots between them; a dot that belongs to a key is written "\.".
func (p path) String() string {
	escaped := make([]string, len(p))
	for i, key := range p {
		escaped[i] = strings.NewReplacer(`\`, `\\`, `.`, `\.`).Replace(key)
	}
	return strings.Join(escaped, ".")
}

// hasPrefix reports whether p leads to prefix or to something inside of it.
func (p path) hasPrefix(prefix path) bool {
	if len(p) < len(prefix) {
		return false
	}
	for i, key := range prefix {
		if p[i] != key {
			return false
		}
	}
	return true
}

// parsePath reads "a.b\.c" as the keys "a" and "b.c".
func parsePath(s string) (path, error) {
	var p path
	for _, part := range splitUnescaped(s, '.') {
		if part == "" {
			return nil, usagef("path %q has an empty key; keys stand between dots, a dot in a key is written \\.", s)
		}
		p = append(p, unescape(part))
	}
	return p, nil
}

// indexUnescaped returns the index of the first byte out of chars that no backslash precedes, or -1.
func indexUnescaped(s, chars string) int {
	for i := 0; i < len(s); i++ {
		switch {
		case s[i] == '\\':
			i++
		case strings.IndexByte(chars, s[i]) >= 0:
			return i
		}
	}
	return -1
}

func splitUnescaped(s string, sep byte) []string {
	var parts []string
	for {
		i := indexUnescaped(s, string(sep))
		if i < 0 {
			return append(parts, s)
		}
		parts, s = append(parts, s[:i]), s[i+1:]
	}
}

// unescape drops the backslash before each escaped byte.
func unescape(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+1 < len(s) {
			i++
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

// parseAssignment reads k=v (v is JSON when it is valid JSON, else a string) and k:=v (v is JSON).
func parseAssignment(arg string) (path, any, error) {
	i := indexUnescaped(arg, "=")
	if i <= 0 {
		return nil, nil, usagef("%q is no assignment; write PATH=VALUE or PATH:=JSON", arg)
	}
	key, value := arg[:i], []byte(arg[i+1:])
	parts := splitUnescaped(key, ':')
	forced := parts[len(parts)-1] == "" // it ends with a colon that is not escaped
	if forced {
		key = key[:len(key)-1]
	}
	p, err := parsePath(key)
	if err != nil {
		return nil, nil, err
	}
	if !forced && !json.Valid(value) {
		return p, string(value), nil
	}
	v, err := decodeJSON(value)
	if err != nil {
		return nil, nil, usagef("value of %s is not JSON: %v", p, err)
	}
	return p, v, nil
}

// parseAssignments returns assignments as a patch, and their paths.
func parseAssignments(args []string) (patch object, paths []path, err error) {
	patch = object{}
	for _, arg := range args {
		p, v, err := parseAssignment(arg)
		if err != nil {
			return nil, nil, err
		}
		if err := put(patch, p, v); err != nil {
			return nil, nil, failf(exitUsage, "%q: %w", arg, err)
		}
		paths = append(paths, p)
	}
	return patch, paths, nil
}
