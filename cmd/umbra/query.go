package main

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// query is the part of JSONPath (RFC 9535) that picks values out of a document: $.a.b, ['a.b'],
// [0], [-1], [*] and .*. Braces around it, as kubectl wants them, and a missing "$" are fine.
type query []step

// step leads one level down.
type step struct {
	key   string
	index int
	kind  stepKind
}

type stepKind uint8

const (
	stepKey stepKind = iota
	stepIndex
	stepAll
)

func parseQuery(s string) (query, error) {
	rest := strings.TrimSpace(s)
	if inner, ok := strings.CutPrefix(rest, "{"); ok {
		if rest, ok = strings.CutSuffix(inner, "}"); !ok {
			return nil, fmt.Errorf("%q has no closing brace", s)
		}
	}
	rest = strings.TrimPrefix(rest, "$")
	if rest != "" && rest[0] != '.' && rest[0] != '[' {
		rest = "." + rest
	}
	var q query
	for rest != "" {
		var st step
		var ok bool
		if rest[0] == '.' {
			st, rest, ok = dotStep(rest[1:])
		} else {
			st, rest, ok = bracketStep(rest)
		}
		if !ok {
			return nil, fmt.Errorf("%q is not understood; steps are .key, ['key'], [0], [*] and .*", s)
		}
		q = append(q, st)
	}
	return q, nil
}

func dotStep(s string) (st step, rest string, ok bool) {
	end := strings.IndexAny(s, ".[")
	if end < 0 {
		end = len(s)
	}
	key, rest := s[:end], s[end:]
	if key == "*" {
		return step{kind: stepAll}, rest, true
	}
	return step{key: key}, rest, key != "" && !strings.ContainsAny(key, "]{}'\"*")
}

func bracketStep(s string) (st step, rest string, ok bool) {
	if len(s) > 1 && (s[1] == '\'' || s[1] == '"') {
		end := strings.Index(s[2:], s[1:2]+"]")
		if end < 0 {
			return st, s, false
		}
		return step{key: s[2 : 2+end]}, s[2+end+2:], true
	}
	inner, rest, ok := strings.Cut(strings.TrimPrefix(s, "["), "]")
	if !ok || s[0] != '[' {
		return st, s, false
	}
	if inner == "*" {
		return step{kind: stepAll}, rest, true
	}
	i, err := strconv.Atoi(inner)
	return step{kind: stepIndex, index: i}, rest, err == nil
}

// find returns the values that q leads to, in order of their keys and indexes; none when it leads nowhere.
func (q query) find(v any) []any {
	found := []any{v}
	for _, st := range q {
		var next []any
		for _, v := range found {
			next = st.appendFrom(next, v)
		}
		found = next
	}
	return found
}

// many reports whether q asks for a list of values, not for one.
func (q query) many() bool {
	return slices.ContainsFunc(q, func(st step) bool { return st.kind == stepAll })
}

func (st step) appendFrom(dst []any, v any) []any {
	switch v := v.(type) {
	case object:
		if st.kind == stepAll {
			for _, key := range sortedKeys(v) {
				dst = append(dst, v[key])
			}
		} else if item, ok := v[st.key]; ok && st.kind == stepKey {
			dst = append(dst, item)
		}
	case []any:
		if st.kind == stepAll {
			return append(dst, v...)
		}
		i := st.index
		if i < 0 {
			i += len(v)
		}
		if st.kind == stepIndex && i >= 0 && i < len(v) {
			dst = append(dst, v[i])
		}
	}
	return dst
}
