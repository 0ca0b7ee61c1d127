package mapping

import (
	"fmt"
	"regexp/syntax"
	"slices"
	"strings"
)

// checkSet checks mappings against each other, and each for feeding itself.
func checkSet(mappings []*Mapping) LoadError {
	var found LoadError
	for i, m := range mappings {
		for _, o := range mappings[:i] {
			found = append(found, checkPair(m, o)...)
		}
		found = append(found, checkLoops(m, mappings)...)
		found = append(found, checkReversible(m)...)
	}
	return found
}

// checkPair finds two mappings that write the same.
func checkPair(m, o *Mapping) LoadError {
	at := func(warning bool, line int, key, format string, args ...any) *Diagnostic {
		return &Diagnostic{File: m.file, Line: line, Key: key, Text: fmt.Sprintf(format, args...), Warning: warning}
	}
	if m.name == o.name {
		return LoadError{at(false, m.line, "mapping", "there is another mapping %q at %s:%d", m.name, o.file, o.line)}
	}
	if m.thing.text != o.thing.text || m.shadow.text != o.shadow.text {
		return nil
	}
	var found LoadError
	for _, r := range m.reports {
		for _, other := range o.reports {
			if !r.ignore && !other.ignore && r.topic.text == other.topic.text {
				found = append(found, at(false, r.line, r.key+".topic", "%s:%d writes the same topic to the same thing", o.file, other.line))
			}
		}
	}
	if len(found) > 0 {
		return found
	}
	found = append(found, at(true, m.line, "thing", "the mapping %s (%s:%d) makes the same names of things", o.name, o.file, o.line))
	for _, c := range m.commands {
		for _, other := range o.commands {
			if c.paths != nil && other.paths != nil && c.paths[0].text == other.paths[0].text {
				found = append(found, at(true, c.line, c.key+".path", "%s:%d sends commands for the same path", o.file, other.line))
			}
		}
	}
	return found
}

// checkLoops finds commands and queries that a mapping would take for a report.
func checkLoops(m *Mapping, all []*Mapping) LoadError {
	if m.allowOverlap {
		return nil
	}
	var found LoadError
	check := func(t *template, line int, key string, paths []*pathPattern) {
		for _, topic := range m.samples(t, paths) {
			if o, rule, where := firstHit(topic, all); o != nil && !o.allowOverlap {
				found = append(found, &Diagnostic{File: m.file, Line: line, Key: key + ".topic", Text: fmt.Sprintf(
					"a loop: the command %s is a report for %s of %s (%s:%d); an ignore rule before it stops that, allow_overlap: true allows it",
					topic, rule, o.name, o.file, where)})
				return
			}
		}
	}
	for _, c := range m.commands {
		check(c.topic, c.line, c.key, c.paths)
	}
	for _, q := range m.queries {
		check(q.topic, q.line, q.key, nil)
	}
	return found
}

// firstHit returns the mapping and the rule that take a topic for a report or a source.
func firstHit(topic string, all []*Mapping) (m *Mapping, rule string, line int) {
	levels := appendLevels(nil, topic)
	for _, o := range all {
		if o.link != nil {
			for _, s := range o.link.sources {
				if _, ok := s.topic.match(levels); ok {
					return o, s.key, s.line
				}
			}
		}
		if r := o.reportFor(levels); r != nil {
			return o, r.key, r.line
		}
	}
	return nil, "", 0
}

// reportFor returns the rule that takes a topic for a report, nil when none does or it is ignored.
func (m *Mapping) reportFor(levels []string) *report {
	for _, r := range m.reports {
		_, ok := r.topic.match(levels)
		switch {
		case !ok:
		case !r.ignore:
			return r
		case r.when == nil && r.whenExpr == nil:
			return nil
		}
	}
	return nil
}

// samples returns topics that a template may make.
func (m *Mapping) samples(t *template, paths []*pathPattern) []string {
	var out []string
	for variant := range 3 {
		env := &environment{thing: "thing", value: "1", typed: []byte("1"), client: "client", user: "user"}
		for _, tm := range t.terms() {
			if tm.payload == nil {
				env.caps = append(env.caps, capture{tm.name, m.sample(tm.name, paths, variant)})
			}
		}
		named := *t
		named.parts = slices.Clone(t.parts)
		for i, p := range named.parts { // filters and payload terms may refuse a sample
			if p.term != nil && (p.term.payload != nil || len(p.term.filters) > 0) {
				named.parts[i] = part{text: "1"}
			}
		}
		if topic, _, ok := named.render(env); ok && !slices.Contains(out, topic) {
			out = append(out, topic)
		}
	}
	return out
}

// sample returns a text that fits what is captured by a name.
func (m *Mapping) sample(name string, paths []*pathPattern, variant int) string {
	for _, p := range paths {
		for i := range p.keys {
			if slices.Contains(p.keys[i].names, name) {
				if expr := captureExpr(p.text, name); expr != "" {
					return sampleOf(expr, variant)
				}
			}
		}
	}
	if expr := m.vars[name]; expr != "" {
		return sampleOf(expr, variant)
	}
	multi := false
	for _, r := range m.reports {
		if expr := captureExpr(r.topic.text, name); expr != "" {
			return sampleOf(expr, variant)
		}
		multi = multi || strings.Contains(r.topic.text, "{"+name+"+}")
	}
	if multi {
		return []string{"x", "x/y", "0"}[variant]
	}
	return []string{"x", "0", "x-1"}[variant]
}

// sampleOf returns a text that an expression matches: of alternatives the first, or by variant.
func sampleOf(expr string, variant int) string {
	re, err := syntax.Parse(expr, syntax.Perl)
	if err != nil {
		return "x"
	}
	var b strings.Builder
	appendSample(&b, re.Simplify(), variant)
	return b.String()
}

func appendSample(b *strings.Builder, re *syntax.Regexp, variant int) {
	switch re.Op {
	case syntax.OpLiteral:
		b.WriteString(string(re.Rune))
	case syntax.OpCharClass:
		if len(re.Rune) > 0 {
			b.WriteRune(re.Rune[0])
		}
	case syntax.OpAnyChar, syntax.OpAnyCharNotNL:
		b.WriteByte('x')
	case syntax.OpStar, syntax.OpQuest:
		if variant > 0 {
			appendSample(b, re.Sub[0], variant)
		}
	case syntax.OpPlus, syntax.OpCapture:
		appendSample(b, re.Sub[0], variant)
	case syntax.OpRepeat:
		for range max(re.Min, min(variant, 1)) {
			appendSample(b, re.Sub[0], variant)
		}
	case syntax.OpConcat:
		for _, s := range re.Sub {
			appendSample(b, s, variant)
		}
	case syntax.OpAlternate:
		appendSample(b, re.Sub[variant%len(re.Sub)], variant)
	default: // anchors and what is empty
	}
}

// checkReversible warns of tables that say a value one way only.
func checkReversible(m *Mapping) LoadError {
	var found LoadError
	for _, c := range m.commands {
		out := c.payload.convert.table
		if out == nil {
			continue
		}
		for _, r := range m.reports {
			for _, f := range r.fields {
				if f.convert.table == nil || len(c.paths) == 0 || f.target.text != c.paths[0].text {
					continue
				}
				if word := irreversible(f.convert.table, out); word != "" {
					found = append(found, &Diagnostic{File: m.file, Line: c.line, Key: c.key + ".payload.map", Warning: true, Text: fmt.Sprintf(
						"the report rule %s can write %s, which this table has no word for", r.key, word)})
				}
			}
		}
	}
	return found
}

// irreversible returns a value that one table gives and the other does not take, "" for none.
func irreversible(in, out *table) string {
	var words []string
	for _, v := range in.entries {
		if _, ok := out.lookup(v.Text()); !ok {
			words = append(words, v.Text())
		}
	}
	if len(words) == 0 {
		return ""
	}
	return slices.Min(words)
}
