package mapping

import (
	"cmp"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// Load compiles the mappings of a file: one for each YAML document in it (JSON is YAML). name is the
// file's, for messages. The diagnostics are warnings when err is nil; a [LoadError] has them too.
func Load(name string, text []byte) ([]*Mapping, []*Diagnostic, error) {
	r := &reader{file: name}
	var out []*Mapping
	docs := r.documents(text)
	if len(docs) == 0 && len(r.found) == 0 {
		r.found = append(r.found, &Diagnostic{File: name, Line: 1, Text: "there is no mapping in the file"})
	}
	for _, n := range docs {
		out = append(out, r.mapping(n))
	}
	return finish(out, r.found)
}

func finish(out []*Mapping, found LoadError) ([]*Mapping, []*Diagnostic, error) {
	slices.SortStableFunc(found, func(a, b *Diagnostic) int {
		return cmp.Or(cmp.Compare(a.File, b.File), cmp.Compare(a.Line, b.Line))
	})
	if slices.ContainsFunc(found, func(d *Diagnostic) bool { return !d.Warning }) {
		return nil, found, found
	}
	return out, found, nil
}

// mapping compiles one document.
func (r *reader) mapping(n *yaml.Node) *Mapping {
	o := r.object(n, "")
	m := &Mapping{file: r.file, line: n.Line, vars: map[string]string{}}
	if v := o.integer("version", 1, 1, 1); !o.has("version") || v != 1 {
		o.failAt("version", "must be 1")
	}
	m.name = o.str("mapping", "")
	if !validName(m.name) {
		o.failAt("mapping", "must be a name of 1 to 64 letters, digits, _, - and .")
	}
	m.readVars(o)
	m.allowOverlap = o.boolean("allow_overlap", false)
	m.allowDollar = o.boolean("allow_dollar", false)
	m.deliver = o.oneOf("deliver", "all", "client") == "client"
	m.known = o.oneOf("create", "auto", "known") == "known"
	switch o.oneOf("conflict", "latest", "desired", "device") {
	case "desired":
		m.conflict = conflictDesired
	case "device":
		m.conflict = conflictDevice
	}
	if c := o.str("codec", ""); c == codecSparkplug {
		m.codec = asSparkplug
	} else if c != "" {
		o.failAt("codec", "unknown codec %q (there is %s)", c, codecSparkplug)
	}
	m.readThing(o)
	m.readLimits(o)
	for i, n := range o.list("report") {
		m.reports = append(m.reports, m.readReport(r.object(n, "report["+strconv.Itoa(i)+"]")))
	}
	m.readLink(o)
	m.readCommands(o)
	m.readQueries(o)
	if len(m.reports) == 0 && len(m.commands) == 0 && m.link == nil {
		o.failAt("report", "a mapping needs report or commands")
	}
	o.done()
	return m
}

func validName(s string) bool {
	return s != "" && len(s) <= 64 && slug(strings.ReplaceAll(s, ".", "_")) == strings.ReplaceAll(s, ".", "_")
}

func (m *Mapping) readVars(o *object) {
	n := o.take("vars")
	if n == nil {
		return
	}
	vars := o.r.object(n, "vars")
	for _, name := range vars.names {
		m.vars[name] = vars.str(name, "")
		if !isName(name) {
			vars.failAt(name, "is not a name of letters, digits and _")
		}
		if _, err := compileLevel("{"+name+":"+m.vars[name]+"}", nil, true); err != nil {
			vars.failAt(name, "%v", err)
		}
	}
}

func (m *Mapping) readThing(o *object) {
	if !o.has("thing") {
		o.failAt("thing", "is missing: the template of the thing's name")
	}
	m.thing = o.template("thing", "thing")
	for _, t := range m.thing.terms() {
		if !slices.ContainsFunc(m.identity, func(have *term) bool { return have.key() == t.key() }) {
			m.identity = append(m.identity, t)
		}
		if t.payload == nil && slices.Contains([]string{"", "thing", "value", "payload", "topic"}, t.name) {
			o.failAt("thing", "{%s} is not an identity", t.name)
		}
	}
	m.shadow = o.template("shadow", "")
	for _, t := range m.shadow.terms() {
		if m.term(t.key()) < 0 {
			o.failAt("shadow", "{%s} is not in thing", t.key())
		}
	}
	if o.has("from_client") {
		m.fromClient = o.template("from_client", "")
	}
}

// template compiles a member. In case of an error it returns an empty one.
func (o *object) template(key, otherwise string) *template {
	t, err := compileTemplate(o.str(key, otherwise))
	if err != nil {
		o.failAt(key, "%v", err)
		return &template{}
	}
	return t
}

// term returns the index of an identity term, -1 when it is none.
func (m *Mapping) term(key string) int {
	return slices.IndexFunc(m.identity, func(t *term) bool { return t.key() == key })
}

func (m *Mapping) readLimits(o *object) {
	m.limits = limits{things: defaultThings, updates: defaultUpdates, payload: defaultPayload, document: defaultDocument, commands: defaultCommands}
	n := o.take("limits")
	if n == nil {
		return
	}
	l := o.r.object(n, "limits")
	m.limits.things = l.integer("things", defaultThings, 1, 100_000_000)
	m.limits.updates = l.rate("per_thing_updates", defaultUpdates)
	m.limits.commands = l.rate("per_thing_commands", defaultCommands)
	m.limits.payload = l.size("payload", defaultPayload)
	m.limits.document = l.size("doc", defaultDocument)
	l.done()
}

// rate reads "20/s" or "100/m", per second.
func (o *object) rate(key string, otherwise float64) float64 {
	text := o.str(key, "")
	if text == "" {
		return otherwise
	}
	number, unit, _ := strings.Cut(text, "/")
	f, err := strconv.ParseFloat(number, 64)
	per := map[string]float64{"": 1, "s": 1, "m": 60, "h": 3600}[unit]
	if err != nil || f <= 0 || per == 0 {
		o.failAt(key, "must be a rate such as 20/s")
		return otherwise
	}
	return f / per
}

// size reads a number of bytes such as 128KiB.
func (o *object) size(key string, otherwise int) int {
	text := o.str(key, "")
	if text == "" {
		return otherwise
	}
	unit := 1
	for suffix, u := range map[string]int{"KiB": 1 << 10, "MiB": 1 << 20, "kB": 1000, "MB": 1_000_000} {
		if number, ok := strings.CutSuffix(text, suffix); ok {
			text, unit = strings.TrimSpace(number), u
		}
	}
	n, err := strconv.Atoi(strings.TrimSuffix(text, "B"))
	if err != nil || n <= 0 || n > 1<<30/unit {
		o.failAt(key, "must be a size such as 128KiB")
		return otherwise
	}
	return n * unit
}

// pattern compiles the topic of a rule.
func (m *Mapping) pattern(o *object, key string) *pattern {
	if !o.has(key) {
		o.failAt(key, "is missing")
		return &pattern{levels: []level{{}}, min: 1}
	}
	text := o.str(key, "")
	p, err := compilePattern(text, m.vars)
	if err != nil {
		o.failAt(key, "%v", err)
		return &pattern{text: text, levels: []level{{}}, min: 1}
	}
	if strings.HasPrefix(text, "$") {
		first, _, _ := strings.Cut(text, "/")
		switch {
		case first == "$aws" || first == "$SYS":
			o.failAt(key, "%s belongs to the server", first)
		case !m.allowDollar:
			o.failAt(key, "topics that begin with $ need allow_dollar: true")
		}
	}
	return p
}
