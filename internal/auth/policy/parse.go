package policy

import (
	"errors"
	"fmt"
	"strings"
)

// Policy is a compiled document.
type Policy struct {
	Name       string // for explanations
	statements []statement
	refs       []ref // what its variables and conditions are about
}

// statement is one statement of a document.
type statement struct {
	index          int // from 0
	sid            string
	deny           bool
	actions        []pattern // in lower case
	notAction      bool
	resources      []pattern
	notResource    bool
	conditions     []condition
	unintelligible bool // not understood: it denies whatever actions and resources it names
}

// Parse parses and compiles a document. The error is an *Error, or several of them joined.
func Parse(name string, src []byte) (*Policy, error) {
	p := &parser{src: src, policy: &Policy{Name: name}}
	p.document()
	if err := errors.Join(p.errs...); err != nil {
		return nil, err
	}
	return p.policy, nil
}

// Salvage makes of a document that Parse refuses what is safe to make of it: it
// allows nothing, denies what its well-formed statements deny, and denies all
// that those name which are not known to be an Allow.
func Salvage(name string, src []byte) *Policy {
	p := &parser{src: src, policy: &Policy{Name: name}}
	p.document()
	kept := p.policy.statements[:0]
	for _, s := range p.policy.statements {
		if s.deny {
			kept = append(kept, s)
		}
	}
	if len(p.policy.statements) == 0 {
		kept = append(kept, statement{deny: true, unintelligible: true})
	}
	p.policy.statements = kept
	return p.policy
}

// Len returns the number of statements.
func (p *Policy) Len() int { return len(p.statements) }

// parser makes a policy of nodes, and collects what is wrong.
type parser struct {
	src       []byte
	policy    *Policy
	variables bool
	errs      []error

	known  *Known // nil when nobody wants doubts
	doubts []string
}

func (p *parser) fail(at int, format string, args ...any) {
	p.errs = append(p.errs, failAt(p.src, at, format, args...))
}

func (p *parser) document() {
	root, err := read(p.src)
	if err != nil {
		p.errs = append(p.errs, err)
		return
	}
	if root.kind != kindObject {
		p.fail(root.at, "a policy is a JSON object")
		return
	}
	var statements *node
	for i, k := range root.keys {
		v := &root.fields[i]
		switch k.name {
		case "Version":
			p.version(v)
		case "Id":
			p.text(v, "Id")
		case "Statement":
			statements = v
		default:
			p.fail(k.at, "unknown element %q of a policy: Version, Id or Statement", k.name)
		}
	}
	if statements == nil {
		p.fail(root.at, "a policy has a Statement")
		return
	}
	p.list(statements, "Statement")
}

func (p *parser) version(v *node) {
	switch {
	case v.kind == kindString && v.text == "2012-10-17":
		p.variables = true
	case v.kind == kindString && v.text == "2008-10-17":
	default:
		p.fail(v.at, "Version is \"2012-10-17\" or \"2008-10-17\"")
	}
}

// list parses the statements, one or several. The version may come after them, so it is looked at before.
func (p *parser) list(v *node, name string) {
	list := []node{*v}
	if v.kind == kindList {
		list = v.list
	}
	if len(list) == 0 {
		p.fail(v.at, "%s is empty", name)
	}
	for i := range list {
		before := len(p.errs)
		s := p.statement(&list[i])
		s.index = i
		if len(p.errs) > before {
			s.unintelligible = true
		}
		p.policy.statements = append(p.policy.statements, s)
	}
}

func (p *parser) statement(v *node) statement {
	s := statement{deny: true} // until it is known to be an Allow
	if v.kind != kindObject {
		p.fail(v.at, "a statement is a JSON object")
		return s
	}
	var effect, action, resource bool
	for i, k := range v.keys {
		field := &v.fields[i]
		switch k.name {
		case "Sid":
			s.sid = p.text(field, "Sid")
		case "Effect":
			effect = true
			s.deny = p.effect(field)
		case "Action", "NotAction":
			if action {
				p.fail(k.at, "a statement has one of Action and NotAction")
			}
			action, s.notAction = true, k.name == "NotAction"
			s.actions = p.actions(field, k.name)
		case "Resource", "NotResource":
			if resource {
				p.fail(k.at, "a statement has one of Resource and NotResource")
			}
			resource, s.notResource = true, k.name == "NotResource"
			s.resources = p.resources(field, k.name)
		case "Condition":
			s.conditions = p.conditions(field)
		default:
			p.fail(k.at, "unknown element %q of a statement: Sid, Effect, Action, NotAction, Resource, NotResource or Condition", k.name)
		}
	}
	if !effect || !action || !resource {
		p.fail(v.at, "a statement has Effect, Action or NotAction, and Resource or NotResource")
	}
	return s
}

// effect reports whether a statement denies.
func (p *parser) effect(v *node) (deny bool) {
	if v.kind == kindString && v.text == "Allow" {
		return false
	}
	if v.kind != kindString || v.text != "Deny" {
		p.fail(v.at, "Effect is \"Allow\" or \"Deny\"")
	}
	return true
}

func (p *parser) text(v *node, name string) string {
	if v.kind != kindString {
		p.fail(v.at, "%s is a string", name)
	}
	return v.text
}

// strings returns one string or a list of them, which is not empty.
func (p *parser) strings(v *node, name string) []node {
	list := []node{*v}
	if v.kind == kindList {
		list = v.list
	}
	if len(list) == 0 {
		p.fail(v.at, "%s is empty", name)
	}
	var out []node
	for i := range list {
		if list[i].kind != kindString {
			p.fail(list[i].at, "%s is a string or a list of strings", name)
			continue
		}
		out = append(out, list[i])
	}
	return out
}

func (p *parser) actions(v *node, name string) []pattern {
	var out []pattern
	for _, n := range p.strings(v, name) {
		service, action, found := strings.Cut(n.text, ":")
		if n.text != "*" && (!found || service == "" || action == "") {
			p.fail(n.at, "action %q is neither \"*\" nor a service, a colon and a name, such as \"iot:Connect\"", n.text)
		}
		c, err := compiler{wildcards: true}.compile(strings.ToLower(n.text))
		if err != nil {
			p.fail(n.at, "action %q: %v", n.text, err)
		}
		p.doubtAction(&n, &c)
		out = append(out, c)
	}
	return out
}

func (p *parser) resources(v *node, name string) []pattern {
	var out []pattern
	for _, n := range p.strings(v, name) {
		if !strings.HasPrefix(n.text, "arn:") && !strings.HasPrefix(n.text, "*") {
			p.fail(n.at, "resource %q is neither \"*\" nor an ARN, such as \"arn:aws:iot:*:*:topic/a\"", n.text)
		}
		c, err := p.compiler(true).compile(n.text)
		if err == nil {
			err = checkPlace(&c)
		}
		if err != nil {
			p.fail(n.at, "resource %q: %v", n.text, err)
		}
		p.doubtVariables(&n, &c)
		c.confine()
		out = append(out, c)
	}
	return out
}

func (p *parser) compiler(wildcards bool) compiler {
	return compiler{variables: p.variables, wildcards: wildcards, refs: &p.policy.refs}
}

// checkPlace refuses variables before the fifth colon of an ARN.
func checkPlace(p *pattern) error {
	colons := 0
	for _, pt := range p.parts {
		switch {
		case pt.kind == '*' || colons >= 5:
			return nil
		case pt.kind == partText:
			colons += strings.Count(pt.text, ":")
		case pt.kind == partVariable:
			return fmt.Errorf("a variable can only stand after the fifth colon")
		}
	}
	return nil
}
