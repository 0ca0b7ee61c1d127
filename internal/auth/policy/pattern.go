package policy

import (
	"bytes"
	"errors"
	"slices"
	"strings"
	"unicode/utf8"
)

// pattern is text with wildcards and variables.
type pattern struct {
	source string
	parts  []part
}

// part is one of: literal text, "*", "?", a variable.
type part struct {
	kind    byte   // partText, '*', '?', partVariable
	text    string // partText; of a variable: its default
	ref     int    // partVariable: index in the variables of the set
	defined bool   // the variable has a default
	things  bool   // the variable stands in names of things and shadows
}

const (
	partText     = 't'
	partVariable = 'v'
)

// errVariable is the cause of errors about variables that have no end or no name.
var errVariable = errors.New("a variable is not closed or has no name")

// compiler collects the variables of a set of patterns.
type compiler struct {
	variables bool // the version of the document has variables
	wildcards bool // "*" and "?" are not literal
	refs      *[]ref
}

// compile parses a pattern.
func (c compiler) compile(s string) (pattern, error) {
	p := pattern{source: s}
	for s != "" {
		i := strings.IndexFunc(s, func(r rune) bool { return c.wildcards && (r == '*' || r == '?') || c.variables && r == '$' })
		if i < 0 {
			i = len(s)
		}
		p.literal(s[:i])
		if s = s[i:]; s == "" {
			break
		}
		switch {
		case s[0] != '$':
			p.parts = append(p.parts, part{kind: s[0]})
			s = s[1:]
		case !strings.HasPrefix(s, "${"):
			p.literal("$")
			s = s[1:]
		default:
			end := strings.IndexByte(s, '}')
			if end < 0 || !c.variable(&p, s[2:end]) {
				return p, errVariable
			}
			s = s[end+1:]
		}
	}
	return p, nil
}

// literal appends text to the pattern.
func (p *pattern) literal(s string) {
	if s == "" {
		return
	}
	if n := len(p.parts); n > 0 && p.parts[n-1].kind == partText {
		p.parts[n-1].text += s
		return
	}
	p.parts = append(p.parts, part{kind: partText, text: s})
}

// variable appends what stands between the braces of a variable.
func (c compiler) variable(p *pattern, s string) bool {
	if s == "*" || s == "?" || s == "$" {
		p.literal(s)
		return true
	}
	name, rest, found := strings.Cut(s, ",")
	v := part{kind: partVariable}
	if found {
		quoted := strings.TrimSpace(rest)
		if len(quoted) < 2 || quoted[0] != '\'' || quoted[len(quoted)-1] != '\'' {
			return false
		}
		v.text, v.defined = quoted[1:len(quoted)-1], true
	}
	if name = strings.TrimSpace(name); name == "" {
		return false
	}
	v.ref = add(c.refs, parseRef(name))
	p.parts = append(p.parts, v)
	return true
}

// add returns the index of r in the list, to which it is added if need be.
func add(list *[]ref, r ref) int {
	for i, known := range *list {
		if known == r {
			return i
		}
	}
	*list = append(*list, r)
	return len(*list) - 1
}

// resolve returns the text of a part and whether it has one; "*" and "?" have none.
func (p *part) resolve(values []value) (text string, ok bool) {
	if p.kind == partText {
		return p.text, true
	}
	if v := &values[p.ref]; v.single && (!v.path || !p.things) {
		return v.text, true
	}
	return p.text, p.defined
}

// ofThings is how the resource parts begin that have names of things and shadows in them.
var ofThings = []string{"thing/", "topic/$aws/things/", "topicfilter/$aws/things/"}

// confine marks the variables of a resource that stand in names of things and shadows: the name of a principal that is no
// such name would be a path there, to a shadow of another thing. Where wildcards hide how the resource part begins, that it looks like
// one of things is enough.
func (p *pattern) confine() {
	begins := p.beginning()
	if !slices.ContainsFunc(ofThings, func(kind string) bool {
		return strings.HasPrefix(begins, kind) || begins == "" && (strings.Contains(p.source, ":"+kind) || strings.Contains(p.source, "*"+kind))
	}) {
		return
	}
	for i := range p.parts {
		p.parts[i].things = p.parts[i].kind == partVariable
	}
}

// maxNamed is the length of the longest name of a thing.
const maxNamed = 128

// isNamed reports whether a thing can have this name.
func isNamed(s string) bool {
	other := func(c rune) bool {
		letter := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9'
		return !letter && !strings.ContainsRune(":_-", c)
	}
	return s != "" && len(s) <= maxNamed && !strings.ContainsFunc(s, other)
}

// resolved reports whether every variable has a value.
func (p *pattern) resolved(values []value) bool {
	for i := range p.parts {
		if p.parts[i].kind != partVariable {
			continue
		}
		if _, ok := p.parts[i].resolve(values); !ok {
			return false
		}
	}
	return true
}

// match reports whether s matches. A pattern with a variable that has no value matches nothing.
// The last "*" takes over when the text after it does not fit, so the time is bounded by the
// product of the lengths.
func (p *pattern) match(s []byte, values []value) bool {
	if len(p.parts) > 0 && p.parts[0].kind == partText && !hasPrefix(s, p.parts[0].text) {
		return false
	}
	at, star, mark := 0, -1, 0
	for i := 0; ; {
		if i == len(p.parts) && at == len(s) {
			return true
		}
		if i < len(p.parts) {
			if p.parts[i].kind == '*' {
				i++
				star, mark = i, at
				continue
			}
			if n, ok := p.parts[i].eat(s[at:], values); ok {
				i, at = i+1, at+n
				continue
			}
		}
		if star < 0 || mark >= len(s) {
			return false
		}
		_, n := utf8.DecodeRune(s[mark:])
		mark += n
		i, at = star, mark
	}
}

func hasPrefix(s []byte, prefix string) bool {
	return len(s) >= len(prefix) && string(s[:len(prefix)]) == prefix
}

// eat returns how many bytes at the beginning of s the part stands for.
func (p *part) eat(s []byte, values []value) (n int, ok bool) {
	if p.kind == '?' {
		_, n = utf8.DecodeRune(s)
		return n, len(s) > 0
	}
	text, ok := p.resolve(values)
	return len(text), ok && hasPrefix(s, text)
}

// appendText appends the text that a pattern without wildcards stands for, and reports whether
// every variable has a value.
func (p *pattern) appendText(dst []byte, values []value) ([]byte, bool) {
	for i := range p.parts {
		text, ok := p.parts[i].resolve(values)
		if !ok {
			return dst, false
		}
		dst = append(dst, text...)
	}
	return dst, true
}

// splitARN returns the patterns of the six parts of an ARN; nil when there are fewer.
func (p *pattern) splitARN() []pattern {
	const components = 6
	list := []pattern{{}}
	for _, pt := range p.parts {
		for pt.kind == partText && len(list) < components {
			before, after, found := strings.Cut(pt.text, ":")
			if !found {
				break
			}
			list[len(list)-1].literal(before)
			list = append(list, pattern{})
			pt.text = after
		}
		last := &list[len(list)-1]
		if pt.kind == partText {
			last.literal(pt.text)
			continue
		}
		last.parts = append(last.parts, pt)
	}
	if len(list) < components {
		return nil
	}
	return list
}

// matchARN matches an ARN part by part.
func matchARN(components []pattern, arn string, values []value) bool {
	parts := bytes.SplitN([]byte(arn), []byte{':'}, len(components))
	if len(parts) != len(components) {
		return false
	}
	for i := range components {
		if !components[i].match(parts[i], values) {
			return false
		}
	}
	return true
}
