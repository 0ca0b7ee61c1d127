package main

import (
	"cmp"
	"encoding/json"
	"strings"
)

// condition is something that wait waits for.
type condition struct {
	text string
	met  func(*document) bool // of a document that is nil when the shadow does not exist
}

const conditionHelp = "want in-sync, exists, deleted, PATH, or PATH compared with a value by ==, !=, <, <=, > or >="

// parseCondition reads in-sync, exists, deleted, PATH (it is there) and PATH==VALUE with its like.
func parseCondition(s string) (condition, error) {
	c := condition{text: s}
	switch s {
	case "in-sync":
		c.met = func(d *document) bool { return d != nil && d.inSync() }
		return c, nil
	case "exists":
		c.met = func(d *document) bool { return d != nil }
		return c, nil
	case "deleted":
		c.met = func(d *document) bool { return d == nil }
		return c, nil
	}
	left, operator, right := splitCondition(s)
	p, err := documentPath(left)
	if err != nil {
		return c, usagef("condition %q: %s", s, conditionHelp)
	}
	holds, ok := comparison(operator)
	if !ok || operator != "" && right == "" {
		return c, usagef("condition %q: %s", s, conditionHelp)
	}
	c.met = func(d *document) bool {
		if d == nil {
			return false
		}
		got, there := lookup(d.members, p)
		if !there {
			return operator == "!="
		}
		return holds(got, right)
	}
	return c, nil
}

// splitCondition cuts at the operator, which is "" when there is none.
func splitCondition(s string) (left, operator, right string) {
	i := indexUnescaped(s, "=!<>")
	if i < 0 {
		return s, "", ""
	}
	end := i + 1
	if end < len(s) && s[end] == '=' {
		end++
	}
	return strings.TrimSpace(s[:i]), s[i:end], strings.TrimSpace(s[end:])
}

// comparison returns what an operator means. "" asks nothing but that there is a value.
func comparison(operator string) (holds func(got any, want string) bool, ok bool) {
	ordered := func(accept func(order int) bool) func(any, string) bool {
		return func(got any, want string) bool {
			order, comparable := compareWith(got, want)
			return comparable && accept(order)
		}
	}
	switch operator {
	case "":
		return func(any, string) bool { return true }, true
	case "==":
		return sameAs, true
	case "!=":
		return func(got any, want string) bool { return !sameAs(got, want) }, true
	case "<":
		return ordered(func(order int) bool { return order < 0 }), true
	case "<=":
		return ordered(func(order int) bool { return order <= 0 }), true
	case ">":
		return ordered(func(order int) bool { return order > 0 }), true
	case ">=":
		return ordered(func(order int) bool { return order >= 0 }), true
	}
	return nil, false
}

// sameAs compares a value with what an operator typed: JSON, or the bare text of a string.
func sameAs(got any, want string) bool {
	if s, ok := got.(string); ok && s == want {
		return true
	}
	v, err := decodeJSON([]byte(want))
	return err == nil && equal(got, v)
}

// compareWith orders a number with a number and a string with a string, which need no quotes.
func compareWith(got any, want string) (order int, comparable bool) {
	var v any = want
	if decoded, err := decodeJSON([]byte(want)); err == nil {
		v = decoded
	}
	switch got := got.(type) {
	case json.Number:
		if n, ok := v.(json.Number); ok {
			return compareNumbers(got, n), true
		}
	case string:
		if s, ok := v.(string); ok {
			return cmp.Compare(got, s), true
		}
	}
	return 0, false
}
