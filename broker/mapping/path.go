package mapping

import (
	"errors"
	"slices"
	"strings"

	"github.com/umbra-iot/umbra/shadow"
)

// Bounds of keys that come from topics and payloads.
const (
	maxKeyBytes = 128
	maxDepth    = 8
)

// keyTemplate is the path of a target: a template for each key. No key is the root.
type keyTemplate struct {
	text string
	keys []*template
}

func compileTarget(text string) (*keyTemplate, error) {
	t := &keyTemplate{text: text}
	if text == "." {
		return t, nil
	}
	parts, err := splitOutside(text, '.')
	if err != nil {
		return nil, err
	}
	for _, p := range parts {
		if p == "" {
			return nil, errors.New("a path has an empty key")
		}
		k, err := compileTemplate(p)
		if err != nil {
			return nil, err
		}
		t.keys = append(t.keys, k)
	}
	return t, nil
}

// render returns the keys; code tells why not.
func (t *keyTemplate) render(env *environment) (path []string, code Code, text string) {
	path = make([]string, len(t.keys))
	for i, k := range t.keys {
		s, missing, ok := k.render(env)
		if !ok {
			return nil, CodeType, "{" + missing + "} has no value"
		}
		if k.sole() != nil || len(k.parts) > 1 {
			if c := checkKey(s); c != "" {
				return nil, CodeKeyName, c
			}
		}
		path[i] = s
	}
	return path, "", ""
}

// checkKey returns what is wrong with captured text as a key, "" for nothing.
func checkKey(s string) string {
	switch {
	case s == "":
		return "a captured key is empty"
	case len(s) > maxKeyBytes:
		return "a captured key has more than 128 bytes"
	case s == "__proto__" || s == "constructor" || s == "prototype":
		return "a captured key is " + s
	case strings.HasPrefix(s, "__") && strings.HasSuffix(s, "__"):
		return "a captured key is " + s
	case strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r == 0x7f }):
		return "a captured key has a control character"
	}
	return ""
}

// terms returns the terms of all keys.
func (t *keyTemplate) terms() []*term {
	var out []*term
	for _, k := range t.keys {
		out = append(out, k.terms()...)
	}
	return out
}

// pathPattern is a path whose keys may capture. No key is the root.
type pathPattern struct {
	text string
	keys []level
}

// compilePath compiles a path, of a payload or of desired.
func compilePath(text string, vars map[string]string) (*pathPattern, error) {
	p := &pathPattern{text: text}
	if text == "." || text == "" {
		return p, nil
	}
	parts, err := splitOutside(text, '.')
	if err != nil {
		return nil, err
	}
	seen := map[string]bool{}
	for _, part := range parts {
		if part == "" {
			return nil, errors.New("a path has an empty key")
		}
		l, err := compileLevel(part, vars, true)
		if err != nil {
			return nil, err
		}
		if err := l.addNames(seen); err != nil {
			return nil, err
		}
		p.keys = append(p.keys, l)
	}
	return p, nil
}

func (p *pathPattern) captured() []string {
	var names []string
	for i := range p.keys {
		names = append(names, p.keys[i].captured()...)
	}
	return names
}

// find calls fn for each value of v that the path leads to, until fn returns false.
func (p *pathPattern) find(v shadow.Value, caps captures, fn func(shadow.Value, captures) bool) {
	findKeys(p.keys, v, caps, fn)
}

func findKeys(keys []level, v shadow.Value, caps captures, fn func(shadow.Value, captures) bool) bool {
	if len(keys) == 0 {
		return fn(v, caps)
	}
	l := &keys[0]
	if l.kind == levelLiteral {
		m := v.Member(l.text)
		if !m.Exists() {
			m = elementAt(v, l.text)
		}
		return !m.Exists() || findKeys(keys[1:], m, caps, fn)
	}
	for key, m := range v.Members() {
		c, ok := l.matchText(key, slices.Clip(caps))
		if ok && !findKeys(keys[1:], m, c, fn) {
			return false
		}
	}
	return true
}

// elementAt returns an element of an array by its number.
func elementAt(v shadow.Value, index string) shadow.Value {
	if !v.IsArray() || index == "" || len(index) > 4 {
		return shadow.Value{}
	}
	n := 0
	for _, c := range index {
		if c < '0' || c > '9' {
			return shadow.Value{}
		}
		n = n*10 + int(c-'0')
	}
	for e := range v.Elements() {
		if n == 0 {
			return e
		}
		n--
	}
	return shadow.Value{}
}

// covers matches the beginning of a path and returns the captures.
func (p *pathPattern) covers(path []string) (captures, bool) {
	if len(path) < len(p.keys) {
		return nil, false
	}
	var caps captures
	for i := range p.keys {
		var ok bool
		if caps, ok = p.keys[i].matchText(path[i], caps); !ok {
			return nil, false
		}
	}
	return caps, true
}

// hasPrefix reports whether path begins with prefix.
func hasPrefix(path, prefix []string) bool {
	if len(path) < len(prefix) {
		return false
	}
	for i := range prefix {
		if path[i] != prefix[i] {
			return false
		}
	}
	return true
}

// literalPath splits a path without captures.
func literalPath(text string) []string {
	if text == "" || text == "." {
		return nil
	}
	return strings.Split(text, ".")
}
