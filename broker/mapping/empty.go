package mapping

import (
	"slices"

	"github.com/umbra-iot/umbra/shadow"
)

// clear takes an empty retained payload for a report rule.
func (e *Engine) clear(b *binding, r *report, p *Prepared, h *hit, now int64) {
	switch r.empty {
	case emptyIgnore:
	case emptyRetire, emptyDelete:
		e.retire(b, p, r.empty == emptyDelete, now)
	case emptyClear:
		out := e.reportOf(b, p)
		for _, f := range r.fields {
			out.ops = append(out.ops, b.clearing(f, p.environment(h.caps, r.as)))
		}
		e.touch(b, p, now)
	}
}

// clearing returns the op that removes what a field writes. Captures that the payload would have
// given stand for any key.
func (b *binding) clearing(f *field, env *environment) op {
	named := b.environment(env.caps)
	var path []string
	for i, k := range f.target.keys {
		s, _, ok := k.render(&named.environment)
		if !ok {
			return op{path: path, pattern: f.wild(i, &named.environment)}
		}
		path = append(path, s)
	}
	if len(path) == 0 {
		return op{keep: b.state.m.linkPaths()}
	}
	return op{path: path}
}

// wild returns the keys of a target from the i-th on as patterns.
func (f *field) wild(i int, env *environment) []level {
	var out []level
	for _, k := range f.target.keys[i:] {
		if s, _, ok := k.render(env); ok {
			out = append(out, level{kind: levelLiteral, text: s})
			continue
		}
		var tokens []token
		for _, p := range k.parts {
			text, known := p.text, true
			if p.term != nil {
				text, known = p.term.render(env)
			}
			if known {
				tokens = append(tokens, token{text: text})
				continue
			}
			t := token{name: "x" + p.term.name}
			if len(p.term.filters) == 0 {
				t.expr = captureExpr(f.get.text, p.term.name)
			}
			tokens = append(tokens, t)
		}
		l, err := compileMixed(tokens, nil, true)
		if err != nil {
			return nil
		}
		out = append(out, l)
	}
	return out
}

// linkPaths returns what of reported is about the link.
func (m *Mapping) linkPaths() [][]string {
	out := [][]string{}
	if m.link == nil {
		return out
	}
	out = append(out, m.link.path)
	for _, s := range m.link.sources {
		if s.rawTo != nil {
			out = append(out, s.rawTo)
		}
	}
	return out
}

// retire takes a device away: reported is emptied but for the link, which is false, and the binding
// is forgotten; or the shadow is deleted.
func (e *Engine) retire(b *binding, p *Prepared, remove bool, now int64) {
	if remove {
		e.out.Deletes = append(e.out.Deletes, Delete{b.id, p.Client, p.Principal})
	} else {
		out := e.reportOf(b, p)
		out.ops = []op{{keep: [][]string{}}}
		if l := b.state.m.link; l != nil {
			out.ops = append(out.ops, op{path: l.path, value: literal([]byte("false"))})
		}
	}
	e.setLink(b, linkDown, now)
	e.unbind(b)
}

// parentMessage takes the parent of a device from a topic of its own.
func (e *Engine) parentMessage(s *mappingState, h *hit, p *Prepared, now int64) {
	env := p.environment(h.caps, asJSON)
	identity, ok := s.m.identify(env)
	if !ok {
		return
	}
	b := s.find(identity)
	if b == nil && len(p.Payload) > 0 {
		var bad *refusal
		if b, bad = e.bind(s, identity, env, now); bad != nil {
			e.failMessage(s.m, p, "", bad)
			return
		}
	}
	if b == nil {
		return
	}
	var value shadow.Value
	h.parent.get.find(env.payload, nil, func(v shadow.Value, _ captures) bool {
		value = v
		return false
	})
	e.adopt(b, value, now)
}

// parentOf takes the parent of a device from what is written to its path.
func (e *Engine) parentOf(b *binding, ops []op, payload shadow.Value, now int64) {
	l := b.state.m.link
	if l == nil || l.parent == nil || l.parent.path == nil || l.parent.topic != nil {
		return
	}
	for i := range ops {
		if o := &ops[i]; hasPrefix(l.parent.path, o.path) {
			if v := o.value.At(l.parent.path[len(o.path):]...); v.Exists() {
				e.adopt(b, v, now)
				return
			}
		}
	}
	if l.parent.aside == "" {
		return
	}
	v := payload.Member(l.parent.aside)
	beside := l.parent.path[:len(l.parent.path)-1]
	if v.Exists() && slices.ContainsFunc(ops, func(o op) bool { return hasPrefix(o.path, beside) }) {
		e.adopt(b, v, now)
	}
}

func (e *Engine) adopt(b *binding, value shadow.Value, now int64) {
	thing := ""
	if value.IsString() && value.Text() != "" {
		env := b.environment(nil)
		env.parent = value.Text()
		thing, _, _ = b.state.m.link.parent.thing.render(&env.environment)
	}
	e.setParent(b, thing)
	e.refresh(b, nil, now)
}

// Owner is a device that a retained message is about.
type Owner struct {
	Mapping string
	ID      shadow.ID
	Bound   bool // the device is known
}

// Owners returns whose state or link a retained message tells, by the rules that would take it.
func (e *Engine) Owners(p *Prepared) []Owner {
	var out []Owner
	for i := range p.hits {
		h := &p.hits[i]
		s := e.states[h.mapping]
		var f form
		switch {
		case h.source != nil && h.source.full:
			f = h.source.as
		case h.report != nil && !h.report.ignore:
			f = h.report.as
		default:
			continue
		}
		identity, ok := s.m.identify(p.environment(h.caps, f))
		if !ok {
			continue
		}
		named := &binding{state: s, identity: identity}
		env := named.environment(nil)
		name, _, _ := s.m.thing.render(&env.environment)
		shadowName, _, _ := s.m.shadow.render(&env.environment)
		o := Owner{Mapping: s.m.name, ID: shadow.ID{Thing: name, Name: shadowName}}
		if b := s.find(identity); b != nil {
			o.ID, o.Bound = b.id, true
		}
		if !slices.Contains(out, o) {
			out = append(out, o)
		}
		if h.source != nil {
			return out // the report rules are not for it
		}
	}
	return out
}

// feeds returns filters for the topics that tell of a device.
func (b *binding) feeds() []string {
	known := b.environment(nil).caps
	var out []string
	add := func(p *pattern) {
		if f := p.filter(known); !slices.Contains(out, f) {
			out = append(out, f)
		}
	}
	for _, r := range b.state.m.reports {
		if !r.ignore {
			add(r.topic)
		}
	}
	if b.state.m.link != nil {
		for _, s := range b.state.m.link.sources {
			if s.full {
				add(s.topic)
			}
		}
	}
	return out
}
