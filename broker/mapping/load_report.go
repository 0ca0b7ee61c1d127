package mapping

import (
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/umbra-iot/umbra/shadow"
)

func (m *Mapping) readReport(o *object) *report {
	r := &report{line: o.node.Line, key: o.path, topic: m.pattern(o, "topic")}
	r.ignore = o.boolean("ignore", false)
	r.liveOnly = !o.boolean("retained", true)
	r.empty = o.emptyAction()
	r.interval = o.duration("min_interval", 0)
	r.up = o.boolean("up", false)
	r.metrics = o.boolean("metrics", false)
	r.skip = o.strings("skip")
	if o.has("from_client") {
		r.fromClient = o.template("from_client", "")
	}
	m.readForm(o, r)
	m.readWhen(o, r)
	if r.ignore {
		for _, key := range []string{"to", "fields", "get"} {
			if o.has(key) {
				o.failAt(key, "has no meaning with ignore: true")
			}
		}
		o.done()
		return r
	}
	m.readFields(o, r)
	o.done()
	m.checkReport(o, r)
	return r
}

func (o *object) emptyAction() emptyAction {
	switch o.oneOf("empty", "clear", "retire", "delete", "ignore") {
	case "retire":
		return emptyRetire
	case "delete":
		return emptyDelete
	case "ignore":
		return emptyIgnore
	}
	return emptyClear
}

// readForm reads how the payload is decoded.
func (m *Mapping) readForm(o *object, r *report) {
	if s := o.str("as", ""); s != "" {
		f, ok := parseForm(s)
		if !ok {
			o.failAt("as", "must be json, string, number, bool, auto, raw, hex or %s", codecSparkplug)
		}
		r.as = f
	}
	switch {
	case m.codec != asDefault && (r.as == asDefault || r.as == asJSON):
		r.as = m.codec
	case o.has("get") && r.as != asSparkplug: // as is that of the value
		r.as = asJSON
	case r.as != asDefault:
	case o.has("fields") || o.has("get") || o.has("when"):
		r.as = asJSON
	default:
		r.as = asAuto
	}
	if r.metrics && r.as != asSparkplug && r.as != asJSON {
		o.failAt("metrics", "needs JSON or a codec")
	}
}

func (m *Mapping) readWhen(o *object, r *report) {
	n := o.take("when")
	if n == nil {
		return
	}
	if n.Kind == yaml.ScalarNode {
		r.whenExpr = m.expression(o, "when", n.Value, r.topic.captured())
		return
	}
	w := o.r.object(n, o.child("when"))
	if text := w.str("expr", ""); text != "" {
		r.whenExpr = m.expression(w, "expr", text, r.topic.captured())
	}
	for _, name := range w.names {
		if name != "expr" {
			r.when = append(r.when, condition{literalPath(name), o.r.jsonValue(w.take(name), w.child(name))})
		}
	}
}

func (m *Mapping) expression(o *object, key, text string, captures []string) *expression {
	e, err := compileExpr(text, captures)
	if err != nil {
		o.failAt(key, "%s", strings.ReplaceAll(err.Error(), "\n", " "))
		return nil
	}
	m.documents = m.documents || e.document
	return e
}

// readFields reads what is taken from the payload: a table of fields, or the rule itself is one.
func (m *Mapping) readFields(o *object, r *report) {
	n := o.take("fields")
	if n == nil {
		if !o.has("to") && !r.metrics && r.up {
			return
		}
		if !o.has("to") && !r.metrics {
			o.failAt("to", "is missing (or fields, or ignore)")
		}
		f := m.readField(o, r, o.str("to", "."), "to")
		if !o.has("get") || f.convert.as == asJSON {
			f.convert.as = asDefault // it was the form of the payload
		}
		r.fields = append(r.fields, f)
		return
	}
	for _, key := range []string{"to", "get", "map", "scale", "round", "split", "expr", "else", "drop"} {
		if o.has(key) {
			o.take(key)
			o.failAt(key, "belongs into the fields when there are fields")
		}
	}
	replace := o.oneOf("mode", "merge", "replace") == "replace"
	deadband := o.number("deadband", 0)
	fields := o.r.object(n, o.child("fields"))
	for _, target := range fields.names {
		f := m.readFieldMember(fields, r, target)
		f.replace = f.replace || replace
		if f.deadband == 0 {
			f.deadband = deadband
		}
		r.fields = append(r.fields, f)
	}
}

// readFieldMember reads "target: path" or "target: {get: path, ...}".
func (m *Mapping) readFieldMember(fields *object, r *report, target string) *field {
	n := fields.take(target)
	if n != nil && n.Kind == yaml.ScalarNode {
		f := &field{convert: conversion{round: -1}}
		f.target = m.target(fields, target, target)
		f.get = m.payloadPath(fields, target, n.Value)
		return f
	}
	if n == nil {
		return &field{target: &keyTemplate{}, get: &pathPattern{}}
	}
	o := fields.r.object(n, fields.child(target))
	f := m.readField(o, r, target, "")
	o.done()
	return f
}

func (m *Mapping) readField(o *object, r *report, target, key string) *field {
	f := &field{target: m.target(o, key, target), get: m.payloadPath(o, "get", o.str("get", "."))}
	f.drop = o.strings("drop")
	f.deadband = o.number("deadband", 0)
	f.replace = o.oneOf("mode", "merge", "replace") == "replace"
	f.convert = m.readConversion(o, append(r.topic.captured(), f.get.captured()...), false)
	return f
}

func (m *Mapping) target(o *object, key, text string) *keyTemplate {
	t, err := compileTarget(text)
	if err != nil {
		o.failAt(key, "%v", err)
		return &keyTemplate{}
	}
	return t
}

func (m *Mapping) payloadPath(o *object, key, text string) *pathPattern {
	p, err := compilePath(text, m.vars)
	if err != nil {
		o.failAt(key, "%v", err)
		return &pathPattern{}
	}
	return p
}

// readConversion reads as, split, expr, map, else, scale and round.
func (m *Mapping) readConversion(o *object, captures []string, outbound bool) conversion {
	c := conversion{split: o.str("split", ""), round: o.integer("round", -1, 0, 15)}
	if s := o.str("as", ""); s != "" {
		f, ok := parseForm(s)
		if !ok {
			o.failAt("as", "must be json, string, number, bool or auto")
		}
		c.as = f
	}
	if text := o.str("expr", ""); text != "" {
		c.expr = m.expression(o, "expr", text, captures)
	}
	c.table = m.readTable(o, outbound)
	m.readElse(o, &c)
	if n := o.take("scale"); n != nil {
		c.scale = true
		c.factor, c.offset = o.readScale(n)
	}
	return c
}

func (o *object) readScale(n *yaml.Node) (factor, offset float64) {
	v := o.r.jsonValue(n, o.child("scale"))
	var numbers []float64
	if f, ok := v.Float(); ok {
		return f, 0
	}
	for e := range v.Elements() {
		if f, ok := e.Float(); ok {
			numbers = append(numbers, f)
		}
	}
	switch len(numbers) {
	case 1:
		return numbers[0], 0
	case 2:
		return numbers[0], numbers[1]
	}
	o.failAt("scale", "must be [factor, offset]")
	return 1, 0
}

func (m *Mapping) readElse(o *object, c *conversion) {
	n := o.take("else")
	if n == nil {
		return
	}
	if n.Kind == yaml.MappingNode {
		e := o.r.object(n, o.child("else"))
		if v := e.take("value"); v != nil {
			c.other, c.value = elseValue, o.r.jsonValue(v, e.child("value"))
		} else {
			e.failAt("value", "is missing")
		}
		e.done()
		return
	}
	switch n.Value {
	case "error":
	case "drop":
		c.other = elseDrop
	case "pass":
		c.other = elsePass
	default:
		o.failAt("else", "must be error, drop, pass or {value: x}")
	}
}

// readTable reads a table or the name of a built-in one.
func (m *Mapping) readTable(o *object, outbound bool) *table {
	n := o.take("map")
	if n == nil {
		return nil
	}
	if n.Kind == yaml.ScalarNode {
		t, ok := builtin(n.Value, outbound)
		if !ok {
			o.failAt("map", "must be a table, or on_off, on_off_lc, online, true_false or one_zero")
		}
		return t
	}
	entries := o.r.object(n, o.child("map"))
	t := &table{entries: map[string]shadow.Value{}}
	for _, word := range entries.names {
		v := o.r.jsonValue(entries.take(word), entries.child(word))
		folded := strings.ToLower(word)
		if _, double := t.entries[folded]; double {
			entries.failAt(word, "is there twice, since case does not count")
		}
		t.entries[folded] = v
		if outbound && strings.EqualFold(v.Text(), "toggle") {
			entries.failAt(word, "toggle is not a state: a repetition would undo it; name the wanted state")
		}
	}
	_, yes := t.entries["true"]
	_, no := t.entries["false"]
	if outbound && yes != no {
		o.warnAt("map", "has an entry for only one of true and false")
	}
	return t
}

// checkReport checks that templates name captures that there are.
func (m *Mapping) checkReport(o *object, r *report) {
	names := r.topic.captured()
	for _, t := range m.identity {
		if t.payload == nil && t.name != "client" && t.name != "user" && !slices.Contains(names, t.name) {
			o.failAt("topic", "does not capture {%s}, which thing needs", t.name)
		}
	}
	for _, f := range r.fields {
		have := append(slices.Clone(names), f.get.captured()...)
		for _, name := range f.get.captured() {
			if slices.Contains(names, name) {
				o.failAt("fields", "{%s} is captured by the topic and by the payload", name)
			}
		}
		for _, t := range f.target.terms() {
			if t.payload != nil || slices.Contains(have, t.name) || slices.Contains([]string{"thing", "client", "user", "topic", "value"}, t.name) {
				continue
			}
			if o.has("fields") {
				f.inert = true
				o.warnAt("fields", "%s: {%s} is captured nowhere, so that nothing is ever written", f.target.text, t.name)
				continue
			}
			o.failAt("to", "{%s} is captured nowhere", t.name)
		}
	}
}
