package mapping

import (
	"maps"
	"slices"
	"strings"
)

// current returns a message prepared with the engine's set, also when that has been replaced since; nil when no rule
// is about it now.
func (e *Engine) current(p *Prepared) *Prepared {
	if p.set == e.set {
		return p
	}
	return e.set.Prepare(p.Message)
}

// Use puts another set in force. A mapping that is in both sets, as the same *Mapping, goes on as if nothing had
// happened. One that has the name of an earlier one keeps its devices, the states of their commands, and of their
// links what sources of the same topics have said. Devices of mappings that are gone, or name them otherwise, are
// forgotten.
//
// What retained messages tell is to be given to [Engine.Replay] then, and after that [Engine.Started] is to be called,
// as at the start: only then are commands of mappings that are new or changed sent.
func (e *Engine) Use(set *Set, now int64) *Effects {
	out := e.step()
	old := e.states
	e.set, e.states = set, nil
	successors := map[*mappingState]*mappingState{}
	var late []*Prepared
	for _, m := range set.mappings {
		i := slices.IndexFunc(old, func(s *mappingState) bool { return s.m.name == m.name })
		if i >= 0 && old[i].m == m {
			e.states, successors[old[i]] = append(e.states, old[i]), old[i]
			continue
		}
		s := newState(m)
		e.states = append(e.states, s)
		if i >= 0 && old[i].identifies(m) {
			successors[old[i]] = s
			s.takeSlots(old[i])
		}
	}
	for _, s := range old {
		next := successors[s]
		if next == s {
			continue
		}
		for _, b := range sortBindings(slices.Collect(maps.Values(s.bindings))) {
			late = append(late, b.delayed...)
			e.succeed(b, next)
		}
	}
	e.moveClaims(successors)
	e.relink()
	for _, p := range late {
		e.message(p, now, true)
	}
	return out
}

// identifies reports that another mapping identifies devices by the same captures.
func (s *mappingState) identifies(m *Mapping) bool {
	return slices.EqualFunc(s.m.identity, m.identity, func(a, b *term) bool { return a.key() == b.key() })
}

// takeSlots takes over what the sources of an earlier state have said, as far as they are about the same topics.
func (s *mappingState) takeSlots(old *mappingState) {
	for i := range s.kinds {
		k := &s.kinds[i]
		if !slices.ContainsFunc(old.kinds, k.equal) || !slices.Equal(s.m.slotTopics(k.name), old.m.slotTopics(k.name)) {
			continue
		}
		for name, sl := range old.slots {
			if strings.HasPrefix(name, key(k.name, "")) {
				s.slots[name] = sl
			}
		}
	}
}

// slotTopics returns the topics of the sources that speak for a slot.
func (m *Mapping) slotTopics(name string) []string {
	var topics []string
	for _, s := range m.link.sources {
		if s.slot == name {
			topics = append(topics, s.topic.text)
		}
	}
	return topics
}

// succeed replaces a binding by one of the state that follows, nil for none.
func (e *Engine) succeed(b *binding, next *mappingState) {
	saved, parent := b.save(), b.parent
	e.detach(b)
	var n *binding
	if next != nil {
		n = e.restore(next, saved)
	}
	if n == nil {
		e.out.Gone = append(e.out.Gone, saved)
		return
	}
	n.client, n.updates, n.sending = b.client, b.updates, b.sending
	if l := next.m.link; l != nil {
		n.link = b.link
		if l.parent != nil {
			e.setParent(n, parent)
		}
	}
}

// moveClaims gives sessions the slots of the states that follow, and those that their wills are for in new mappings.
func (e *Engine) moveClaims(successors map[*mappingState]*mappingState) {
	for _, client := range slices.Sorted(maps.Keys(e.sessions)) {
		ses := e.sessions[client]
		var kept []claim
		for _, c := range ses.claims {
			if next := successors[c.s]; next != nil && next.slots[c.sl.key] == c.sl {
				kept = append(kept, claim{next, c.sl})
			}
		}
		ses.claims = kept
		for _, s := range e.states {
			if s.replaying {
				e.claimWill(s, ses)
			}
		}
	}
}

// relink computes the links of the mappings that have changed from what is known of their sources.
func (e *Engine) relink() {
	for _, s := range e.states {
		if !s.replaying || s.m.link == nil {
			continue
		}
		for _, b := range sortBindings(slices.Collect(maps.Values(s.bindings))) {
			if b.link = b.compute(e); b.link != linkUnknown {
				e.writeLink(b, e.reportOf(b, nil))
			}
		}
	}
}

// Replay takes a retained message for the mappings that [Engine.Use] has put in force, new or changed.
func (e *Engine) Replay(p *Prepared, now int64) *Effects {
	out := e.step()
	if p = e.current(p); p == nil {
		return out
	}
	fresh := *p
	fresh.hits = slices.DeleteFunc(slices.Clone(p.hits), func(h hit) bool { return !e.states[h.mapping].replaying })
	if len(fresh.hits) > 0 {
		e.message(&fresh, now, false)
	}
	return out
}
