package mapping

import (
	"slices"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
)

func (m *Mapping) readCommands(o *object) {
	for i, n := range o.list("commands") {
		m.commands = append(m.commands, m.readCommand(o.r.object(n, "commands["+strconv.Itoa(i)+"]")))
	}
}

func (m *Mapping) readCommand(o *object) *command {
	c := &command{line: o.node.Line, key: o.path, topic: o.template("topic", "")}
	m.readCommandPaths(o, c)
	var captures []string
	for _, p := range c.paths {
		captures = append(captures, p.captured()...)
	}
	for _, path := range o.strings("except") {
		c.except = append(c.except, literalPath(path))
	}
	c.qos = byte(o.integer("qos", 1, 0, 2)) //nolint:gosec // 0 to 2
	c.retain = o.boolean("retain", false)
	if c.retain {
		o.warnAt("retain", "retained commands are thrown away by Valetudo, forbidden by Homie, and switch Tasmota devices by themselves at every start")
	}
	c.whole = o.boolean("whole", false)
	c.await = o.boolean("await_subscriber", true)
	c.tolerance = o.number("tolerance", 0)
	m.readAck(o, c)
	m.readPayload(o, c, captures)
	m.checkCommandTopic(o, c.topic, captures)
	o.done()
	return c
}

// readCommandPaths reads path or paths.
func (m *Mapping) readCommandPaths(o *object, c *command) {
	texts := o.strings("paths")
	c.group = o.has("paths")
	if o.has("path") {
		texts = append(texts, o.str("path", ""))
	}
	if o.has("path") == o.has("paths") {
		o.failAt("path", "needs either path or paths")
	}
	for _, text := range texts {
		p, err := compilePath(text, m.pathVars(text))
		if err != nil {
			o.failAt("path", "%v", err)
			continue
		}
		c.paths = append(c.paths, p)
	}
}

// pathVars returns the expressions of captures in a path of desired. Where report rules write the
// same path, its captures mean what they mean there.
func (m *Mapping) pathVars(path string) map[string]string {
	vars := map[string]string{}
	for _, r := range m.reports {
		for _, f := range r.fields {
			if f.target.text != path {
				continue
			}
			collectExprs(vars, r.topic.text, r.topic.captured())
			collectExprs(vars, f.get.text, f.get.captured())
		}
	}
	for name, expr := range m.vars {
		if vars[name] == "" {
			vars[name] = expr
		}
	}
	return vars
}

// collectExprs adds the expressions that captures have in a pattern; several are alternatives.
func collectExprs(vars map[string]string, pattern string, names []string) {
	for _, name := range names {
		if expr := captureExpr(pattern, name); expr != "" && vars[name] != expr {
			vars[name] = strings.TrimPrefix(vars[name]+"|"+expr, "|")
		}
	}
}

// captureExpr returns the expression that a capture has in a pattern, "" for none.
func captureExpr(text, name string) string {
	i := strings.Index(text, "{"+name+":")
	if i < 0 {
		return ""
	}
	end := closing(text[i:])
	if end < 0 {
		return ""
	}
	return text[i+len(name)+2 : i+end]
}

func (m *Mapping) readAck(o *object, c *command) {
	c.timeout, c.retries, c.backoff = defaultAckTimeout.Milliseconds(), defaultAckRetries, defaultBackoff
	n := o.take("ack")
	if n == nil {
		return
	}
	a := o.r.object(n, o.child("ack"))
	c.timeout = a.duration("timeout", defaultAckTimeout)
	c.retries = a.integer("retries", defaultAckRetries, 0, 100)
	c.backoff = a.number("backoff", defaultBackoff)
	c.tolerance = a.number("tolerance", c.tolerance)
	if c.timeout < (10 * time.Millisecond).Milliseconds() {
		a.failAt("timeout", "must be at least 10ms")
	}
	if c.backoff < 1 || c.backoff > 10 {
		a.failAt("backoff", "must be a number from 1 to 10")
	}
	a.done()
}

// readPayload reads how the value becomes a payload.
func (m *Mapping) readPayload(o *object, c *command, captures []string) {
	c.payload.convert.round = -1
	n := o.take("payload")
	if n == nil {
		return
	}
	if n.Kind == yaml.ScalarNode {
		switch n.Value {
		case "value":
		case "json":
			c.payload.kind = payloadJSON
		default:
			o.failAt("payload", "must be value, json, or a table with map, scale, round, text, json, metrics or expr")
		}
		return
	}
	p := o.r.object(n, o.child("payload"))
	c.payload.convert = m.readConversion(p, captures, true)
	kinds := 0
	if p.has("text") {
		kinds++
		c.payload.kind, c.payload.text = payloadText, p.template("text", "")
		m.checkOutbound(p, "text", c.payload.text, captures)
	}
	if v := p.take("json"); v != nil {
		kinds++
		c.payload.kind = payloadTemplate
		c.payload.json = m.jsonTemplate(p, v, captures)
	}
	if p.boolean("metrics", false) {
		kinds++
		c.payload.kind = payloadMetrics
	}
	if kinds > 1 {
		p.failAt("text", "needs only one of text, json and metrics")
	}
	p.done()
}

// jsonTemplate is a JSON value whose strings are templates.
type jsonTemplate struct {
	raw     []byte // what is no string and holds none
	text    *template
	isArray bool
	keys    []string
	kids    []*jsonTemplate // of objects and arrays
}

func (m *Mapping) jsonTemplate(o *object, n *yaml.Node, captures []string) *jsonTemplate {
	n = o.r.visit(n)
	t := &jsonTemplate{}
	switch {
	case n == nil:
	case isMapping(n):
		table := o.r.object(n, o.child("json"))
		for _, name := range table.names {
			t.keys = append(t.keys, name)
			t.kids = append(t.kids, m.jsonTemplate(table, table.take(name), captures))
		}
	case n.Kind == yaml.SequenceNode:
		t.isArray = true
		for _, e := range n.Content {
			t.kids = append(t.kids, m.jsonTemplate(o, e, captures))
		}
	case n.Tag == "!!str":
		text, err := compileTemplate(n.Value)
		if err != nil {
			o.r.fail(n, o.child("json"), "%v", err)
			text = &template{}
		}
		m.checkOutbound(o, "json", text, captures)
		t.text = text
	default:
		t.raw = o.r.jsonValue(n, o.child("json")).Raw()
	}
	return t
}

// leavesOut reports whether a command leaves a path out.
func (c *command) leavesOut(path []string) bool {
	return slices.ContainsFunc(c.except, func(e []string) bool { return hasPrefix(path, e) })
}
