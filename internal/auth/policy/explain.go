package policy

import (
	"fmt"
	"slices"
	"strings"
)

// Explanation tells why something is allowed or denied.
type Explanation struct {
	Allowed   bool      `json:"allowed"`
	Reason    string    `json:"reason"`              // a sentence
	Policy    string    `json:"policy,omitempty"`    // of the statement that decided
	Statement int       `json:"statement,omitempty"` // from 1; 0 when none decided
	Sid       string    `json:"sid,omitempty"`
	Effect    string    `json:"effect,omitempty"`
	Others    []Verdict `json:"others,omitempty"` // statements about the action that did not count
}

// Verdict tells why a statement did not count.
type Verdict struct {
	Policy    string `json:"policy"`
	Statement int    `json:"statement"` // from 1
	Sid       string `json:"sid,omitempty"`
	Effect    string `json:"effect"`
	Reason    string `json:"reason"`
}

// Explain decides as Allows does, and says which statement decided.
func (r *Rights) Explain(action, resource string) Explanation {
	c := r.set.candidates(action)
	if c.timed {
		r = r.set.Bind(r.env)
	}
	var e Explanation
	for _, st := range slices.Concat(c.denies.all, c.allows.all) {
		name := r.set.policies[st.policy].Name
		why := r.excuse(st, resource)
		if why != "" {
			e.Others = append(e.Others, Verdict{name, st.index + 1, st.sid, st.effect(), why})
			continue
		}
		e.Allowed, e.Effect = !st.deny, st.effect()
		e.Policy, e.Statement, e.Sid = name, st.index+1, st.sid
		e.Reason = fmt.Sprintf("statement %s of policy %q %s", st.title(), name,
			map[bool]string{true: "denies it", false: "allows it, and none denies it"}[st.deny])
		return e
	}
	switch {
	case len(r.set.policies) == 0:
		e.Reason = "no policy is attached"
	case len(e.Others) == 0:
		e.Reason = "no statement is about this action"
	default:
		e.Reason = "no statement about this action counts"
	}
	return e
}

func (st *statement) effect() string {
	if st.deny {
		return "Deny"
	}
	return "Allow"
}

// title names the statement by number and Sid.
func (st *statement) title() string {
	if st.sid == "" {
		return fmt.Sprint(st.index + 1)
	}
	return fmt.Sprintf("%d (%s)", st.index+1, st.sid)
}

// excuse says why a statement does not count, "" when it does.
func (r *Rights) excuse(st candidate, resource string) string {
	b := &r.bound[st.policy]
	if !st.names([]byte(resource), b.values) {
		if missing := st.missing(b.values); len(missing) > 0 {
			return "its resource does not match: no value of " + strings.Join(missing, ", ")
		}
		return "its resource does not match"
	}
	if b.met[st.place] {
		return ""
	}
	for i := range st.conditions {
		if c := &st.conditions[i]; !c.holds(st.deny, b.values) {
			have := "absent"
			if list := b.values[c.ref].list; len(list) > 0 {
				have = fmt.Sprintf("%q", list)
			}
			return fmt.Sprintf("condition %s does not hold: the value is %s", c.source, have)
		}
	}
	return ""
}

// missing returns the variables of the resources that have no value.
func (st *statement) missing(values []value) []string {
	var names []string
	for i := range st.resources {
		if !st.resources[i].resolved(values) {
			names = append(names, st.resources[i].source)
		}
	}
	return names
}
