package mapping

import (
	"bytes"
	"strconv"

	"github.com/umbra-iot/umbra/shadow"
)

// encode makes the payload of a command.
func (e *Engine) encode(b *binding, c *commandState, leaves []*leaf, now int64) ([]byte, *refusal) {
	rule := &c.rule.payload
	if rule.kind == payloadMetrics {
		return encodeMetrics(leaves, c.base, b.births, now)
	}
	raw := c.whole
	if !c.rule.whole {
		raw = nest(leaves, c.base)
	}
	env := b.environment(c.caps)
	v, bad := rule.value(literal(raw), env)
	if bad != nil {
		return nil, bad
	}
	env.value, env.typed = v.Text(), v.Raw()
	switch rule.kind {
	case payloadJSON:
		return v.Raw(), nil
	case payloadText:
		text, missing, ok := rule.text.render(&env.environment)
		if !ok {
			return nil, refuse(CodeEncode, "{%s} has no value", missing)
		}
		return []byte(text), nil
	case payloadTemplate:
		return rule.json.append(nil, &env.environment)
	case payloadValue, payloadMetrics:
	}
	return []byte(v.Text()), nil
}

// value converts what is outstanding before it is written.
func (r *payloadRule) value(v shadow.Value, env *exprEnv) (shadow.Value, *refusal) {
	out, drop, bad := r.convert.apply(v, env)
	if bad != nil {
		if bad.code != CodeExpr {
			bad.code = CodeEncode
		}
		return out, bad
	}
	if drop || !out.Exists() {
		return out, refuse(CodeEncode, "%.60q cannot be said in this command", v.Text())
	}
	return out, nil
}

// nest makes a JSON value of leaves, below the first base keys of their paths.
func nest(leaves []*leaf, base int) []byte {
	var root node
	for _, l := range leaves {
		if len(l.path) <= base {
			return l.desired
		}
		root.add(&op{path: l.path[base:], value: literal(l.desired)})
	}
	return appendNode(nil, &root)
}

func appendNode(dst []byte, n *node) []byte {
	if n.kids == nil {
		return append(dst, n.value.Raw()...)
	}
	dst = append(dst, '{')
	for i, k := range n.keys {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = append(shadow.AppendString(dst, k), ':')
		dst = appendNode(dst, n.kids[k])
	}
	return append(dst, '}')
}

// append writes the value with templates rendered.
func (t *jsonTemplate) append(dst []byte, env *environment) ([]byte, *refusal) {
	switch {
	case t.raw != nil:
		return append(dst, t.raw...), nil
	case t.text != nil:
		return t.appendText(dst, env)
	}
	open, end := byte('{'), byte('}')
	if t.isArray {
		open, end = '[', ']'
	}
	dst = append(dst, open)
	for i, k := range t.kids {
		if i > 0 {
			dst = append(dst, ',')
		}
		if !t.isArray {
			dst = append(shadow.AppendString(dst, t.keys[i]), ':')
		}
		var bad *refusal
		if dst, bad = k.append(dst, env); bad != nil {
			return nil, bad
		}
	}
	return append(dst, end), nil
}

// appendText writes a string. One that is only {value} keeps the type, and only {x|int} is a number.
func (t *jsonTemplate) appendText(dst []byte, env *environment) ([]byte, *refusal) {
	sole := t.text.sole()
	if sole != nil && sole.payload == nil && sole.name == "value" && len(sole.filters) == 0 {
		return append(dst, env.typed...), nil
	}
	text, missing, ok := t.text.render(env)
	if !ok {
		return nil, refuse(CodeEncode, "{%s} has no value", missing)
	}
	if sole != nil && len(sole.filters) > 0 && sole.filters[len(sole.filters)-1] == "int" {
		if _, err := strconv.ParseInt(text, 10, 64); err == nil {
			return append(dst, text...), nil
		}
	}
	return shadow.AppendString(dst, string(bytes.ToValidUTF8([]byte(text), []byte("\ufffd")))), nil
}
