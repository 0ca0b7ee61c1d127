package mapping

import (
	"errors"
	"fmt"
	"regexp"
	"strings"
)

// capture is a part of a topic, or of a key, with the name it has in the rule.
type capture struct{ name, text string }

// captures are those of one match.
type captures []capture

func (c captures) get(name string) (string, bool) {
	for i := range c {
		if c[i].name == name {
			return c[i].text, true
		}
	}
	return "", false
}

type levelKind uint8

const (
	levelLiteral levelKind = iota
	levelAny               // + or a capture of a whole level
	levelRegexp            // captures with expressions, or among literal text
	levelMulti             // {name+}: one or more levels
	levelRest              // #: zero or more levels, the last
)

// level is one level of a pattern, or one key of a path.
type level struct {
	kind  levelKind
	text  string         // of levelLiteral
	name  string         // of levelAny and levelMulti; "" is not captured
	re    *regexp.Regexp // of levelRegexp, and of levelMulti when the capture has an expression
	names []string       // of the groups of re
}

// pattern is a compiled topic pattern.
type pattern struct {
	text   string
	levels []level
	min    int // levels that a topic has at least
}

// compilePattern compiles a topic pattern. vars gives captures their expressions.
func compilePattern(text string, vars map[string]string) (*pattern, error) {
	if text == "" {
		return nil, errors.New("the pattern is empty")
	}
	p := &pattern{text: text}
	seen := map[string]bool{}
	multi := false
	parts, err := splitOutside(text, '/')
	if err != nil {
		return nil, err
	}
	for i, part := range parts {
		l, err := compileLevel(part, vars, false)
		if err != nil {
			return nil, err
		}
		switch {
		case l.kind == levelRest && i != len(parts)-1:
			return nil, errors.New("# is not the last level")
		case l.kind == levelMulti && multi:
			return nil, errors.New("two captures of several levels")
		}
		multi = multi || l.kind == levelMulti
		if err := l.addNames(seen); err != nil {
			return nil, err
		}
		if l.kind != levelRest {
			p.min++
		}
		p.levels = append(p.levels, l)
	}
	return p, nil
}

func (l *level) addNames(seen map[string]bool) error {
	for _, name := range l.captured() {
		if seen[name] {
			return fmt.Errorf("{%s} is captured twice", name)
		}
		seen[name] = true
	}
	return nil
}

// captured returns the names of the captures of a level.
func (l *level) captured() []string {
	if l.name != "" {
		return []string{l.name}
	}
	return l.names
}

// splitOutside splits text at each sep that is not inside of braces.
func splitOutside(text string, sep byte) ([]string, error) {
	var parts []string
	depth, start := 0, 0
	for i := range len(text) {
		switch c := text[i]; {
		case c == '{':
			depth++
		case c == '}':
			depth--
			if depth < 0 {
				return nil, errors.New("a closing brace without an opening one")
			}
		case c == sep && depth == 0:
			parts = append(parts, text[start:i])
			start = i + 1
		}
	}
	if depth != 0 {
		return nil, errors.New("a brace is not closed")
	}
	return append(parts, text[start:]), nil
}

// compileLevel compiles a level of a topic or, with inPath, a key of a path, where + and # are
// ordinary characters.
func compileLevel(part string, vars map[string]string, inPath bool) (level, error) {
	if !inPath {
		switch {
		case part == "+":
			return level{kind: levelAny}, nil
		case part == "#":
			return level{kind: levelRest}, nil
		case strings.ContainsAny(outside(part), "+#"):
			return level{}, fmt.Errorf("a wildcard is not alone in its level %q", part)
		}
	}
	if !strings.Contains(part, "{") {
		return level{kind: levelLiteral, text: part}, nil
	}
	tokens, err := tokenize(part)
	if err != nil {
		return level{}, err
	}
	if len(tokens) == 1 && tokens[0].name != "" {
		return compileWhole(tokens[0], vars, inPath)
	}
	return compileMixed(tokens, vars, inPath)
}

// outside returns what of a level is not in braces.
func outside(part string) string {
	var b strings.Builder
	depth := 0
	for _, r := range part {
		switch {
		case r == '{':
			depth++
		case r == '}':
			depth--
		case depth == 0:
			b.WriteRune(r)
		}
	}
	return b.String()
}

// compileWhole compiles a level that is one capture.
func compileWhole(t token, vars map[string]string, inPath bool) (level, error) {
	expr := t.expr
	if expr == "" {
		expr = vars[t.name]
	}
	if t.multi && inPath {
		return level{}, fmt.Errorf("{%s+} in a path", t.name)
	}
	l := level{kind: levelAny, name: t.name}
	if t.multi {
		l.kind = levelMulti
	}
	if expr == "" {
		return l, nil
	}
	re, err := anchored("("+expr+")", 1)
	if err != nil {
		return level{}, fmt.Errorf("{%s}: %w", t.name, err)
	}
	if t.multi {
		l.re = re
		return l, nil
	}
	return level{kind: levelRegexp, re: re, names: []string{t.name}}, nil
}

// compileMixed compiles a level of text and captures.
func compileMixed(tokens []token, vars map[string]string, inPath bool) (level, error) {
	l := level{kind: levelRegexp}
	var b strings.Builder
	for _, t := range tokens {
		if t.name == "" {
			b.WriteString(regexp.QuoteMeta(t.text))
			continue
		}
		if t.multi {
			return level{}, fmt.Errorf("{%s+} is not alone in its level", t.name)
		}
		expr := t.expr
		if expr == "" {
			expr = vars[t.name]
		}
		switch {
		case expr != "":
		case inPath:
			expr = ".*"
		default:
			expr = "[^/]+"
		}
		if _, err := regexp.Compile(expr); err != nil {
			return level{}, fmt.Errorf("{%s}: %w", t.name, err)
		}
		b.WriteString("(" + expr + ")")
		l.names = append(l.names, t.name)
	}
	re, err := anchored(b.String(), len(l.names))
	if err != nil {
		return level{}, err
	}
	l.re = re
	return l, nil
}

// anchored compiles an expression for a whole text. Groups of the user's own would shift those of
// the captures, so they must not capture.
func anchored(expr string, groups int) (*regexp.Regexp, error) {
	re, err := regexp.Compile("^(?:" + nonCapturing(expr) + ")$")
	if err != nil {
		return nil, fmt.Errorf("bad expression: %w", err)
	}
	if re.NumSubexp() != groups {
		return nil, errors.New("bad expression: named groups are not allowed")
	}
	return re, nil
}

// nonCapturing turns groups inside of groups into groups that do not capture; the outermost are
// those of the captures.
func nonCapturing(expr string) string {
	var b strings.Builder
	depth, inClass := 0, false
	for i := 0; i < len(expr); i++ {
		c := expr[i]
		b.WriteByte(c)
		switch {
		case c == '\\' && i+1 < len(expr):
			i++
			b.WriteByte(expr[i])
		case inClass:
			inClass = c != ']'
		case c == '[':
			inClass = true
			if i+1 < len(expr) && expr[i+1] == ']' { // a bracket that is first is a member
				i++
				b.WriteByte(']')
			}
		case c == '(':
			depth++
			if depth > 1 && (i+1 == len(expr) || expr[i+1] != '?') {
				b.WriteString("?:")
			}
		case c == ')':
			depth--
		}
	}
	return b.String()
}

// captured returns the names of all captures.
func (p *pattern) captured() []string {
	var names []string
	for i := range p.levels {
		names = append(names, p.levels[i].captured()...)
	}
	return names
}

// match matches a topic that has been split into levels, and returns its captures.
func (p *pattern) match(topic []string) (captures, bool) {
	var caps captures
	if len(topic) < p.min || !p.reserved(topic[0]) {
		return nil, false
	}
	t := 0
	for i := range p.levels {
		l := &p.levels[i]
		switch l.kind {
		case levelRest:
			return caps, true
		case levelMulti:
			n := len(topic) - p.min + 1
			if p.levels[len(p.levels)-1].kind == levelRest {
				return p.matchOpen(i, topic, t, caps)
			}
			var ok bool
			if caps, ok = l.matchText(strings.Join(topic[t:t+n], "/"), caps); !ok {
				return nil, false
			}
			t += n
		default:
			if t >= len(topic) {
				return nil, false
			}
			var ok bool
			if caps, ok = l.matchText(topic[t], caps); !ok {
				return nil, false
			}
			t++
		}
	}
	return caps, t == len(topic)
}

// matchOpen matches from a capture of several levels on, where # makes their number free: the fewest
// that fit.
func (p *pattern) matchOpen(i int, topic []string, t int, caps captures) (captures, bool) {
	rest := &pattern{levels: p.levels[i+1:]}
	for k := i + 1; k < len(p.levels); k++ {
		if p.levels[k].kind != levelRest {
			rest.min++
		}
	}
	for n := 1; t+n+rest.min <= len(topic); n++ {
		c, ok := p.levels[i].matchText(strings.Join(topic[t:t+n], "/"), caps)
		if !ok {
			continue
		}
		if t+n == len(topic) {
			return c, rest.min == 0
		}
		if c, ok = rest.matchLevels(topic[t+n:], c); ok {
			return c, true
		}
	}
	return nil, false
}

// matchLevels is match below the first level.
func (p *pattern) matchLevels(topic []string, caps captures) (captures, bool) {
	for i := range p.levels {
		if p.levels[i].kind == levelRest {
			return caps, true
		}
		if i >= len(topic) {
			return nil, false
		}
		var ok bool
		if caps, ok = p.levels[i].matchText(topic[i], caps); !ok {
			return nil, false
		}
	}
	return caps, len(p.levels) == len(topic)
}

// reserved reports that the pattern may match a topic with this first level: one that begins with $
// only when the pattern names it.
func (p *pattern) reserved(first string) bool {
	return first == "" || first[0] != '$' || p.levels[0].kind == levelLiteral ||
		p.levels[0].kind == levelRegexp && strings.HasPrefix(p.text, "$")
}

// matchText matches one level, or a key, and appends its captures.
func (l *level) matchText(text string, caps captures) (captures, bool) {
	switch l.kind {
	case levelLiteral:
		return caps, l.text == text
	case levelAny, levelMulti:
		if l.re != nil && !l.re.MatchString(text) || l.name != "" && text == "" {
			return nil, false
		}
		if l.name != "" {
			caps = append(caps, capture{l.name, text})
		}
		return caps, true
	case levelRegexp:
		found := l.re.FindStringSubmatchIndex(text)
		if found == nil {
			return nil, false
		}
		for i, name := range l.names {
			caps = append(caps, capture{name, text[found[2*i+2]:found[2*i+3]]})
		}
		return caps, true
	case levelRest:
	}
	return nil, false
}

// filter returns the MQTT topic filter of all that the pattern may match, with what is known of the
// captures put in.
func (p *pattern) filter(known captures) string {
	var out []string
	for i := range p.levels {
		l := &p.levels[i]
		text, ok := known.get(l.name)
		switch {
		case l.kind == levelLiteral:
			out = append(out, l.text)
		case l.kind == levelRest:
			return strings.Join(append(out, "#"), "/")
		case l.name != "" && ok:
			out = append(out, text)
		case l.kind == levelRegexp && len(l.names) == 1 && l.whole():
			if text, ok = known.get(l.names[0]); !ok {
				text = "+"
			}
			out = append(out, text)
		case l.kind == levelMulti:
			return strings.Join(append(out, "#"), "/")
		default:
			out = append(out, "+")
		}
	}
	return strings.Join(out, "/")
}

// whole reports that the one group of re is the whole level.
func (l *level) whole() bool {
	s := l.re.String()
	return strings.HasPrefix(s, "^(?:(") && strings.HasSuffix(s, "))$")
}
