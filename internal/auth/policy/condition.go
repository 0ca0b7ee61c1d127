package policy

import (
	"slices"
	"strings"
)

// condition is one operator on one key.
type condition struct {
	source string // as in the document: operator and key
	op     *operator
	set    setOperator
	exists bool // ...IfExists
	ref    int  // of the key
	values []operand
}

// setOperator says which values of a key have to match.
type setOperator byte

const (
	anyOf  setOperator = iota // without a set operator
	forAll                    // ForAllValues
	forAny                    // ForAnyValue
)

// conditions parses the Condition element.
func (p *parser) conditions(v *node) []condition {
	if v.kind != kindObject {
		p.fail(v.at, "Condition is a JSON object")
		return nil
	}
	var out []condition
	for i, k := range v.keys {
		proto := condition{source: k.name}
		if !proto.operator(k.name) {
			p.fail(k.at, "unknown condition operator %q", k.name)
			continue
		}
		tests := &v.fields[i]
		if tests.kind != kindObject || len(tests.keys) == 0 {
			p.fail(tests.at, "%s is a JSON object of keys and values", k.name)
			continue
		}
		for j, key := range tests.keys {
			c := proto
			c.source += " " + key.name
			c.ref = add(&p.policy.refs, parseRef(key.name))
			p.doubtKey(key)
			c.values = p.operands(&tests.fields[j], c.op)
			out = append(out, c)
		}
	}
	return out
}

// operator parses the name of an operator.
func (c *condition) operator(name string) bool {
	if rest, ok := strings.CutPrefix(name, "ForAllValues:"); ok {
		c.set, name = forAll, rest
	} else if rest, ok := strings.CutPrefix(name, "ForAnyValue:"); ok {
		c.set, name = forAny, rest
	}
	name, c.exists = strings.CutSuffix(name, "IfExists")
	c.op = operatorOf(name)
	return c.op != nil && (name != "Null" || !c.exists && c.set == anyOf)
}

// operands parses the values of a condition: one or a list, which may be empty.
func (p *parser) operands(v *node, op *operator) []operand {
	list := []node{*v}
	if v.kind == kindList {
		list = v.list
	}
	var out []operand
	for i := range list {
		n := &list[i]
		if n.kind != kindString && n.kind != kindScalar {
			p.fail(n.at, "the value of a condition is a string, number or boolean, or a list of these")
			continue
		}
		o, err := op.parse(p.compiler(op.wildcards), n.text)
		if err != nil {
			p.fail(n.at, "value %q of a condition: %v", n.text, err)
			continue
		}
		p.doubtVariables(n, &o.pattern)
		out = append(out, o)
	}
	return out
}

// holds evaluates the condition.
func (c *condition) holds(deny bool, values []value) bool {
	list := values[c.ref].list
	if c.op.null {
		return c.isNull(len(list) == 0)
	}
	if len(list) == 0 {
		return c.exists || c.set == forAll || c.set == anyOf && c.op.negates
	}
	if c.op.negates && !deny && c.unresolved(values) {
		return false
	}
	matches := func(v string) bool { return c.matches(v, values) }
	differs := func(v string) bool { return !c.matches(v, values) }
	switch {
	case c.set == forAny && c.op.negates:
		return slices.ContainsFunc(list, differs)
	case c.op.negates: // ForAllValues, and without set operator
		return !slices.ContainsFunc(list, matches)
	case c.set == forAll:
		return !slices.ContainsFunc(list, differs)
	default:
		return slices.ContainsFunc(list, matches)
	}
}

// matches reports whether a value of the key matches one of the condition's, as the operator says without its "Not".
func (c *condition) matches(v string, values []value) bool {
	for i := range c.values {
		if c.op.match(&c.values[i], v, values) {
			return true
		}
	}
	return false
}

// unresolved reports whether a value of the condition has a variable without value.
func (c *condition) unresolved(values []value) bool {
	for i := range c.values {
		if !c.values[i].pattern.resolved(values) {
			return true
		}
	}
	return false
}

func (c *condition) isNull(absent bool) bool {
	for i := range c.values {
		if c.values[i].truth == absent {
			return true
		}
	}
	return false
}
