package mapping

import (
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// readLink reads link. An empty table is none.
func (m *Mapping) readLink(o *object) {
	n := o.take("link")
	if n == nil {
		return
	}
	l := o.r.object(n, "link")
	if len(l.names) == 0 {
		return
	}
	m.link = &link{path: literalPath(l.str("path", "connected"))}
	if l.has("session") {
		m.link.session = sessionNever
		if l.boolean("session", true) {
			m.link.session = sessionAlways
		}
	}
	rawTo := literalPath(l.str("raw_to", ""))
	for i, n := range l.list("from") {
		s := m.readSource(l.r.object(n, "link.from["+strconv.Itoa(i)+"]"), i)
		if s.rawTo == nil {
			s.rawTo = rawTo
		}
		m.link.sources = append(m.link.sources, s)
	}
	if len(m.link.sources) == 0 && m.link.session != sessionAlways && !m.anyUp() {
		l.failAt("from", "is missing (or session: true)")
	}
	if p := l.take("parent"); p != nil {
		m.readParent(l.r.object(p, "link.parent"))
	} else {
		m.homieParent()
	}
	l.done()
}

// homieParent gives mappings of Homie 5 the parent that the convention gives every device: the will
// is that of the root device, so without it the children of a lost root would go on as connected.
func (m *Mapping) homieParent() {
	const description = "/$description"
	if len(m.identity) != 1 || m.identity[0].payload != nil {
		return
	}
	capture := m.identity[0].name
	for _, r := range m.reports {
		if !strings.HasPrefix(r.topic.text, "homie/5/{"+capture) || !strings.HasSuffix(r.topic.text, description) || len(r.topic.levels) != 4 {
			continue
		}
		get, err := compilePath("root", nil)
		thing, bad := compileTemplate(strings.Replace(m.thing.text, "{"+capture, "{", 1))
		if err == nil && bad == nil {
			m.link.parent = &parent{topic: r.topic, get: get, thing: thing}
		}
		return
	}
}

func (m *Mapping) anyUp() bool {
	return slices.ContainsFunc(m.reports, func(r *report) bool { return r.up })
}

func (m *Mapping) readSource(o *object, index int) *source {
	s := &source{line: o.node.Line, key: o.path, topic: m.pattern(o, "topic"), slot: o.str("slot", "")}
	if s.slot == "" {
		s.slot = "#" + strconv.Itoa(index)
	}
	s.get = m.payloadPath(o, "get", o.str("get", "."))
	s.rawTo = literalPath(o.str("raw_to", ""))
	s.empty = o.emptyAction()
	s.convert = m.readConversion(o, s.topic.captured(), false)
	s.hasTable = s.convert.table != nil || s.convert.expr != nil
	if o.has("const") {
		b := o.boolean("const", false)
		s.constant = &b
	}
	switch {
	case m.codec != asDefault:
		s.as = m.codec
	case len(s.get.keys) > 0:
		s.as = asJSON
	case s.convert.as != asDefault:
		s.as, s.convert.as = s.convert.as, asDefault
	default:
		s.as = asAuto
	}
	names := s.topic.captured()
	for i, t := range m.identity {
		if t.payload != nil || slices.Contains(names, t.name) || t.name == "client" || t.name == "user" {
			s.identity = append(s.identity, i)
		}
	}
	s.full = len(s.identity) == len(m.identity)
	o.done()
	return s
}

func (m *Mapping) readParent(o *object) {
	p := &parent{thing: o.template("thing", ""), path: literalPath(o.str("path", ""))}
	if o.has("topic") {
		p.topic = m.pattern(o, "topic")
		p.get = m.payloadPath(o, "get", o.str("get", "."))
	}
	if p.topic == nil && p.path == nil {
		o.failAt("path", "is missing (or topic and get)")
	}
	if len(p.thing.parts) == 0 {
		o.failAt("thing", "is missing: the template of the parent's name, with {} for the value")
	}
	if n := len(p.path); n > 0 && p.topic == nil && !m.writes(strings.Join(p.path, ".")) {
		p.aside = p.path[n-1]
	}
	o.done()
	m.link.parent = p
}

// writes reports whether a rule has a target.
func (m *Mapping) writes(target string) bool {
	return slices.ContainsFunc(m.reports, func(r *report) bool {
		return slices.ContainsFunc(r.fields, func(f *field) bool { return f.target.text == target || f.target.text == "." })
	})
}

func (m *Mapping) readQueries(o *object) {
	for i, n := range o.list("query") {
		q := o.r.object(n, "query["+strconv.Itoa(i)+"]")
		rule := &query{
			line: q.node.Line, key: q.path, topic: q.template("topic", ""), payload: q.str("payload", ""),
			qos: byte(q.integer("qos", 1, 0, 2)), at: map[string]bool{}, //nolint:gosec // 0 to 2
		}
		m.checkCommandTopic(q, rule.topic, nil)
		for _, word := range q.strings("at") {
			if !slices.Contains([]string{"online", "first_seen", "start"}, word) {
				q.failAt("at", "must be online, first_seen or start")
			}
			rule.at[word] = true
		}
		if len(rule.at) == 0 {
			rule.at["online"], rule.at["first_seen"] = true, true
		}
		q.done()
		m.queries = append(m.queries, rule)
	}
}

// checkCommandTopic checks that a topic's captures are known when it is rendered.
func (m *Mapping) checkCommandTopic(o *object, t *template, captures []string) {
	if len(t.parts) == 0 {
		o.failAt("topic", "is missing")
	}
	m.checkOutbound(o, "topic", t, captures)
}

// checkOutbound checks that a template names only what a command knows.
func (m *Mapping) checkOutbound(o *object, key string, t *template, captures []string) {
	for _, tm := range t.terms() {
		known := tm.payload == nil && (tm.name == "thing" || tm.name == "value" || slices.Contains(captures, tm.name)) || m.term(tm.key()) >= 0
		if !known {
			o.failAt(key, "{%s} is not known to commands: they have what thing names, the captures of their path, thing and value", tm.key())
		}
	}
}

func isMapping(n *yaml.Node) bool { return n != nil && n.Kind == yaml.MappingNode }
