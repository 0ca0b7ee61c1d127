package mapping

import (
	"cmp"
	"slices"
	"strings"

	"github.com/umbra-iot/umbra/shadow"
)

// binding is a device that a mapping has seen: the texts that identify it, and its thing.
type binding struct {
	state    *mappingState
	id       shadow.ID
	identity []string
	gone     bool

	slots     []*slot // of state.kinds; nil until used
	link      linkState
	parent    string
	births    *births
	client    string           // the last that published for the device
	heard     bool             // since the start
	seen      int64            // ms since the epoch of the last message
	storedAt  int64            // of seen, as it was last stored
	loaded    bool             // the document is known
	version   uint64           // of it
	doc       *shadow.Document // only where an expression looks at it
	commands  map[string]*commandState
	uncovered [][]string
	asking    map[*query]bool // queries that wait for a subscription
	updates   bucket
	sending   bucket
	delayed   []*Prepared // messages that came too fast, the newest of each topic
	throttled map[string]int64
	saved     *Saved // of the last run, until the document is there
	due       int64  // of the timer, 0 for none
}

// bucket is a token bucket.
type bucket struct {
	tokens float64
	at     int64
}

// take takes a token; otherwise it returns when there is going to be one.
func (b *bucket) take(rate, burst float64, now int64) (ok bool, next int64) {
	if b.at == 0 {
		b.tokens, b.at = burst, now
	}
	b.tokens = min(burst, b.tokens+float64(now-b.at)/1000*rate)
	b.at = now
	if b.tokens >= 1 {
		b.tokens--
		return true, 0
	}
	return false, now + int64((1-b.tokens)/rate*1000) + 1
}

// environment returns what templates of commands know of a binding.
func (b *binding) environment(caps captures) *exprEnv {
	env := &exprEnv{environment: environment{thing: b.id.Thing}, doc: b.doc}
	env.caps = append(env.caps, caps...)
	for i, t := range b.state.m.identity {
		switch {
		case t.payload != nil:
		case t.name == "client":
			env.client = b.identity[i]
		case t.name == "user":
			env.user = b.identity[i]
		default:
			env.caps = append(env.caps, capture{t.name, b.identity[i]})
		}
	}
	return env
}

// identify returns the texts of the identity that an environment gives; ok is false when one is missing.
func (m *Mapping) identify(env *environment) (identity []string, ok bool) {
	identity = make([]string, len(m.identity))
	for i, t := range m.identity {
		if identity[i], ok = t.lookup(env); !ok {
			return nil, false
		}
	}
	return identity, true
}

// find returns the binding of an identity, nil when there is none.
func (s *mappingState) find(identity []string) *binding {
	if len(identity) == 1 {
		return s.bindings[identity[0]]
	}
	return s.bindings[key(identity...)]
}

// bind returns the binding of an identity, made if need be.
func (e *Engine) bind(s *mappingState, identity []string, env *environment, now int64) (*binding, *refusal) {
	if b := s.find(identity); b != nil {
		return b, nil
	}
	named := *env // the thing's name is made of what is stored, not of what else the message has
	named.caps = nil
	for i, t := range s.m.identity {
		if t.payload == nil {
			named.caps = append(named.caps, capture{t.name, identity[i]})
		}
	}
	name, missing, ok := s.m.thing.render(&named)
	if !ok {
		return nil, refuse(CodeThingName, "{%s} has no value", missing)
	}
	shadowName, _, _ := s.m.shadow.render(&named)
	id := shadow.ID{Thing: name, Name: shadowName}
	if err := id.Validate(); err != nil {
		return nil, refuse(CodeThingName, "%.140q is no name of a thing (the filter slug makes one): %v", id.String(), err)
	}
	for _, other := range e.things[name] {
		if !slices.Equal(other.identity, identity) || other.state == s {
			return nil, refuse(CodeCollision, "the thing belongs to %s of %s", strings.Join(other.identity, ", "), other.state.m.name)
		}
	}
	if len(s.bindings) >= s.m.limits.things {
		return nil, refuse(CodeThingLimit, "the mapping has %d things already", len(s.bindings))
	}
	b := &binding{state: s, id: id, identity: identity, commands: map[string]*commandState{}, seen: now}
	e.addBinding(b)
	if !s.replaying {
		e.out.Loads = append(e.out.Loads, id)
	}
	e.store(b)
	return b, nil
}

func (e *Engine) addBinding(b *binding) {
	s := b.state
	s.bindings[key(b.identity...)] = b
	e.things[b.id.Thing] = append(e.things[b.id.Thing], b)
	b.slots = make([]*slot, len(s.kinds))
	for i := range s.kinds {
		k := &s.kinds[i]
		if sl := s.slots[k.key(b.identity)]; sl != nil {
			b.join(i, sl)
		} else if !k.full { // so that finding all whom a shared source is about never takes a search
			b.join(i, s.slot(k, b.identity))
		}
	}
}

// unbind forgets a device, and has it removed from the store.
func (e *Engine) unbind(b *binding) {
	e.detach(b)
	e.out.Gone = append(e.out.Gone, b.save())
}

// detach takes a device out of the engine.
func (e *Engine) detach(b *binding) {
	b.gone = true
	delete(b.state.bindings, key(b.identity...))
	rest := slices.DeleteFunc(e.things[b.id.Thing], func(o *binding) bool { return o == b })
	if e.things[b.id.Thing] = rest; len(rest) == 0 {
		delete(e.things, b.id.Thing)
	}
	for i, sl := range b.slots {
		if sl == nil {
			continue
		}
		delete(sl.members, b)
		if len(sl.members) == 0 && (b.state.kinds[i].full || !sl.known && sl.owner == nil) {
			delete(b.state.slots, sl.key)
		}
	}
	for _, c := range b.commands {
		e.counts.add(c.state, -1)
	}
	e.waiting.remove(b)
	e.setParent(b, "")
}

// store has a binding stored with the other effects.
func (e *Engine) store(b *binding) {
	b.storedAt = b.seen
	for i, c := range e.out.Changed {
		if c.Mapping == b.state.m.name && slices.Equal(c.Identity, b.identity) {
			e.out.Changed[i] = b.save()
			return
		}
	}
	e.out.Changed = append(e.out.Changed, b.save())
}

// seenStep is how exactly the time of the last message is stored.
const seenStep = 60_000 // ms

// touch notes that a device has said something.
func (e *Engine) touch(b *binding, p *Prepared, now int64) {
	if p.Replayed || p.Will {
		return
	}
	b.seen, b.heard = now, true
	if p.Client != "" {
		b.client = p.Client
	}
	if b.seen-b.storedAt >= seenStep {
		e.store(b)
	}
}

// ordered returns the commands in the order of their rules.
func (b *binding) ordered() []*commandState {
	out := make([]*commandState, 0, len(b.commands))
	for _, c := range b.commands {
		out = append(out, c)
	}
	slices.SortFunc(out, func(x, y *commandState) int {
		return cmp.Or(cmp.Compare(x.rule.line, y.rule.line), cmp.Compare(x.index, y.index), cmp.Compare(x.key, y.key))
	})
	return out
}
