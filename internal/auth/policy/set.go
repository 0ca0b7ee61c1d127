package policy

import (
	"encoding/binary"
	"slices"
	"strings"
)

// Set is the policies of one principal, indexed by action and resource.
type Set struct {
	policies []*Policy
	byAction map[string]*candidates
}

// candidates are the statements that are about an action, those that deny first.
type candidates struct {
	denies, allows list
	timed          bool // what they decide may depend on the time
}

type candidate struct {
	*statement
	policy int // index in the set
	place  int // among the statements of the policy that are kept
}

// NewSet returns the set of some policies. Actions are those that are asked for
// most; every other one can be asked for too, but is looked for in all statements.
func NewSet(policies []*Policy, actions []string) *Set {
	s := &Set{policies: policies, byAction: make(map[string]*candidates, len(actions))}
	known := map[string]*candidates{} // many actions have the same statements
	for _, a := range actions {
		c := s.find(a)
		key := c.key()
		if known[key] == nil {
			known[key] = &candidates{newList(c.denies.all), newList(c.allows.all), c.timed}
		}
		s.byAction[a] = known[key]
	}
	return s
}

// isTimed reports whether the policy may decide the same question in another way at another time.
func (p *Policy) isTimed() bool {
	return slices.ContainsFunc(p.refs, func(r ref) bool { return (&Env{}).lookup(r).timed })
}

// find collects the statements that are about an action, without index.
func (s *Set) find(action string) *candidates {
	var c candidates
	name := []byte(strings.ToLower(action))
	for n, p := range s.policies {
		timed := p.isTimed()
		for i := range p.statements {
			st := candidate{&p.statements[i], n, i}
			if !st.covers(name) {
				continue
			}
			c.timed = c.timed || timed
			if st.deny {
				c.denies.all = append(c.denies.all, st)
			} else {
				c.allows.all = append(c.allows.all, st)
			}
		}
	}
	return &c
}

// key is the same for the same statements.
func (c *candidates) key() string {
	var key []byte
	for _, st := range slices.Concat(c.denies.all, c.allows.all) {
		key = binary.AppendUvarint(binary.AppendUvarint(key, uint64(st.policy)), uint64(st.place))
	}
	return string(key)
}

func (s *Set) candidates(action string) *candidates {
	if c, ok := s.byAction[action]; ok {
		return c
	}
	return s.find(action)
}

// covers reports whether the statement is about an action, whose name is in lower case.
func (st *statement) covers(action []byte) bool {
	if st.unintelligible && len(st.actions) == 0 {
		return true
	}
	matches := slices.ContainsFunc(st.actions, func(p pattern) bool { return p.match(action, nil) })
	return matches != st.notAction
}

// Rights are a set of policies bound to what is known of a connection. They can
// be asked by many goroutines at the same time.
type Rights struct {
	set   *Set
	env   *Env
	bound []bound // by policy
}

// bound is a policy with the values of its names.
type bound struct {
	values []value
	met    []bool // by place of the statement: all conditions hold, as far as they do not depend on the time
}

// Bind returns the rights of a connection. env is not changed afterwards.
func (s *Set) Bind(env *Env) *Rights {
	r := &Rights{set: s, env: env, bound: make([]bound, len(s.policies))}
	for n, p := range s.policies {
		b := bound{values: p.lookup(env), met: make([]bool, len(p.statements))}
		for i := range p.statements {
			b.met[i] = p.statements[i].conditionsHold(b.values)
		}
		r.bound[n] = b
	}
	return r
}

func (p *Policy) lookup(env *Env) []value {
	values := make([]value, len(p.refs))
	for i, name := range p.refs {
		values[i] = env.lookup(name)
	}
	return values
}

// conditionsHold reports whether all conditions hold.
func (st *statement) conditionsHold(values []value) bool {
	if st.unintelligible {
		return true
	}
	for i := range st.conditions {
		if !st.conditions[i].holds(st.deny, values) {
			return false
		}
	}
	return true
}

// Timed reports whether the answer to the same question about an action may be another one at another time: whether a
// policy that depends on the time has a statement about it.
func (r *Rights) Timed(action string) bool { return r.set.candidates(action).timed }

// Allows reports whether an action is allowed on a resource, which is an ARN or "*".
func (r *Rights) Allows(action string, resource []byte) bool {
	c := r.set.candidates(action)
	if c.timed {
		r = r.set.Bind(r.env)
	}
	return !c.denies.any(r, resource) && c.allows.any(r, resource)
}

// names reports whether a statement is about a resource.
func (st *statement) names(resource []byte, values []value) bool {
	if st.unintelligible && len(st.resources) == 0 {
		return true
	}
	for i := range st.resources {
		if st.resources[i].match(resource, values) {
			return !st.notResource
		}
	}
	if !st.notResource || st.deny {
		return st.notResource
	}
	return !slices.ContainsFunc(st.resources, func(p pattern) bool { return !p.resolved(values) })
}
