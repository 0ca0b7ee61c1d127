package mapping

import (
	"slices"
	"strconv"

	"github.com/umbra-iot/umbra/shadow"
)

// linkState is whether a device is there.
type linkState uint8

const (
	linkUnknown linkState = iota
	linkDown
	linkUp
)

// slotKind is one of the things that the sources of a mapping tell about: those with one slot name
// speak for the same.
type slotKind struct {
	name     string
	identity []int // the terms of the identity that it depends on
	full     bool
}

func (k *slotKind) equal(o slotKind) bool {
	return k.name == o.name && slices.Equal(k.identity, o.identity)
}

const sessionSlot = "@session"

func slotKinds(m *Mapping) []slotKind {
	var kinds []slotKind
	if m.link == nil {
		return nil
	}
	for _, s := range m.link.sources {
		k := slotKind{s.slot, s.identity, s.full}
		if !slices.ContainsFunc(kinds, k.equal) {
			kinds = append(kinds, k)
		}
	}
	all := make([]int, len(m.identity))
	for i := range all {
		all[i] = i
	}
	return append(kinds, slotKind{sessionSlot, all, true})
}

// key returns the key of the slot that a binding shares with all that agree in the terms.
func (k *slotKind) key(identity []string) string {
	parts := []string{k.name, strconv.Itoa(len(k.identity))}
	for _, i := range k.identity {
		parts = append(parts, identity[i])
	}
	return key(parts...)
}

// slot is what is known of one source, or of several that speak for one.
type slot struct {
	key     string
	known   bool
	up      bool
	ended   bool     // it is false because its session ended without a word: what is retained is older
	owner   *session // the session that it is about
	first   string   // the word by which the owner first said that it is there
	last    string   // the last word
	members map[*binding]struct{}
}

func (b *binding) join(i int, sl *slot) {
	b.slots[i] = sl
	sl.members[b] = struct{}{}
}

// slot returns the slot of a kind for what is known of an identity, made if need be.
func (s *mappingState) slot(k *slotKind, identity []string) *slot {
	name := k.key(identity)
	sl := s.slots[name]
	if sl == nil {
		sl = &slot{key: name, members: map[*binding]struct{}{}}
		s.slots[name] = sl
		if b := s.find(identity); k.full && b != nil {
			b.join(slices.IndexFunc(s.kinds, k.equal), sl)
		}
	}
	return sl
}

func (s *mappingState) kind(src *source) *slotKind {
	for i := range s.kinds {
		if s.kinds[i].name == src.slot && slices.Equal(s.kinds[i].identity, src.identity) {
			return &s.kinds[i]
		}
	}
	return nil
}

// linkMessage takes a message for a source. It returns the binding that it is about, nil for none or many.
func (e *Engine) linkMessage(s *mappingState, h *hit, p *Prepared, now int64) *binding {
	src := h.source
	env := p.environment(h.caps, src.as)
	identity, ok := s.m.partial(src, env)
	if !ok {
		return nil
	}
	if len(p.Payload) == 0 && src.constant == nil {
		return e.clearSource(s, src, identity, p, now)
	}
	up, word, bad := e.sourceValue(s, src, h, p, identity)
	if bad != nil {
		e.failMessage(s.m, p, "", bad)
		return nil
	}
	if word == nil {
		return nil
	}
	sl := s.slot(s.kind(src), identity)
	if sl.foreign(p) || p.Replayed && up && sl.ended {
		return s.find(identity)
	}
	sl.ended = false
	var b *binding
	known := s.find(identity) != nil
	if src.full {
		if b, bad = e.bind(s, identity, env, now); bad != nil {
			e.failMessage(s.m, p, "", bad)
			return nil
		}
		e.touch(b, p, now)
		if r := e.reportOf(b, p); src.rawTo != nil {
			r.ops = append(r.ops, op{path: src.rawTo, value: *word})
		}
	}
	e.say(s, sl, p, up, word.Text())
	e.setSlot(sl, up, p, now)
	if b != nil {
		e.writeLink(b, e.reportOf(b, p))
	}
	if b != nil && !known {
		e.ask(b, "first_seen", now)
	}
	return b
}

// say notes who said what of a slot.
func (e *Engine) say(s *mappingState, sl *slot, p *Prepared, up bool, word string) {
	if p.Will {
		sl.owner = nil
		return
	}
	ses := e.sessions[p.Client]
	if ses == nil || p.Replayed {
		return
	}
	if sl.owner != ses && up && (sl.owner == nil || !sl.owner.alive) && s.m.link.session == sessionAlways {
		sl.owner, sl.first = ses, ""
		ses.claims = append(ses.claims, claim{s, sl})
	}
	if sl.owner == ses {
		sl.last = word
		if up && sl.first == "" {
			sl.first = word
		}
	}
}

// sourceValue returns what a message says of the link, and its word; a nil word for nothing.
func (e *Engine) sourceValue(s *mappingState, src *source, h *hit, p *Prepared, identity []string) (up bool, word *shadow.Value, bad *refusal) {
	if src.as == asSparkplug {
		return e.sparkplugSource(s, src, p, identity)
	}
	d := p.as(src.as)
	if src.constant != nil {
		return *src.constant, &d.value, nil
	}
	if d.bad != nil && !s.bareWord(src, p) {
		return false, nil, d.bad
	}
	var raw shadow.Value
	if d.bad != nil || !d.value.IsObject() && len(src.get.keys) > 0 {
		raw = decodeAuto(p.Payload) // a bare word where JSON is expected, as older versions send it
	} else {
		src.get.find(d.value, nil, func(v shadow.Value, _ captures) bool {
			raw = v
			return false
		})
	}
	if !raw.Exists() {
		return false, nil, nil
	}
	env := &exprEnv{environment: *p.environment(h.caps, src.as)}
	v, drop, bad := src.convert.apply(raw, env)
	if bad != nil || drop {
		return false, nil, bad
	}
	b, ok := truth(v, src.hasTable)
	if !ok {
		return false, nil, refuse(CodeMap, "%.60q does not tell whether the device is there: give the source a map", raw.Text())
	}
	return b, &raw, nil
}

// bareWord reports that a payload that is no JSON may be a word of the source's table.
func (s *mappingState) bareWord(src *source, p *Prepared) bool {
	if src.convert.table == nil || len(p.Payload) > maxKeyBytes {
		return false
	}
	_, ok := src.convert.table.lookup(string(p.Payload))
	return ok
}

// truth reads a value as a bool: also numbers, and the usual words when there is no table.
func truth(v shadow.Value, hasTable bool) (b, ok bool) {
	if b, ok = v.Bool(); ok {
		return b, true
	}
	if f, isNumber := v.Float(); isNumber {
		return f != 0, true
	}
	if hasTable {
		return false, false
	}
	t, _ := builtin("online", false)
	if w, found := t.lookup(v.Text()); found {
		return w.Bool()
	}
	w, bad := decodeBool(v.Text())
	if bad != nil {
		return false, false
	}
	return w.Bool()
}

func (e *Engine) sparkplugSource(s *mappingState, src *source, p *Prepared, identity []string) (bool, *shadow.Value, *refusal) {
	metrics, bad := decodeMetrics(p.Payload)
	if bad != nil {
		return false, nil, bad
	}
	word := metricsValue(metrics)
	up := src.constant != nil && *src.constant
	if src.constant == nil {
		return false, nil, refuse(CodeType, "a source of a codec needs const")
	}
	seq, has := sequence(metrics)
	b := s.find(identity)
	if has && b != nil && b.births != nil && b.births.BdSeq != nil && !up && *b.births.BdSeq != seq {
		return false, nil, nil // the death of an older session
	}
	return up, &word, nil
}

// clearSource takes an empty payload, which forgets a source when it was retained.
func (e *Engine) clearSource(s *mappingState, src *source, identity []string, p *Prepared, now int64) *binding {
	if !p.Retain || src.empty == emptyIgnore {
		return nil
	}
	b := s.find(identity)
	if src.full && b != nil && (src.empty == emptyRetire || src.empty == emptyDelete) {
		e.retire(b, p, src.empty == emptyDelete, now)
		return nil
	}
	sl := s.slots[s.kind(src).key(identity)]
	if sl == nil {
		return b
	}
	sl.known = false
	e.recompute(sl, p, now)
	if b != nil && src.rawTo != nil {
		r := e.reportOf(b, p)
		r.ops = append(r.ops, op{path: src.rawTo})
	}
	return b
}

// setSlot notes what a source says, and writes the link of all whom it is about.
func (e *Engine) setSlot(sl *slot, up bool, p *Prepared, now int64) {
	sl.known, sl.up = true, up
	e.recompute(sl, p, now)
}

func (e *Engine) recompute(sl *slot, p *Prepared, now int64) {
	members := make([]*binding, 0, len(sl.members))
	for b := range sl.members {
		members = append(members, b)
	}
	slices.SortFunc(members, func(a, b *binding) int {
		return slices.Compare(a.identity, b.identity)
	})
	for _, b := range members {
		e.refresh(b, p, now)
	}
}

// refresh computes the link of a binding anew and writes it when it has changed or was just told.
func (e *Engine) refresh(b *binding, p *Prepared, now int64) {
	if b.state.m.link == nil {
		return
	}
	was := b.link
	e.setLink(b, b.compute(e), now)
	if was != b.link {
		e.writeLink(b, e.reportOf(b, p))
	}
}

// compute is the AND of all sources that are known, and of the parent.
func (b *binding) compute(e *Engine) linkState {
	state := linkUnknown
	for _, sl := range b.slots {
		switch {
		case sl == nil || !sl.known:
		case !sl.up:
			return linkDown
		default:
			state = linkUp
		}
	}
	if state == linkUp && b.parent != "" && b.parent != b.id.Thing {
		for _, p := range e.things[b.parent] {
			if p.state.m.link != nil && p.link == linkDown {
				return linkDown
			}
		}
	}
	return state
}

func (e *Engine) writeLink(b *binding, r *Report) {
	o := op{path: b.state.m.link.path}
	switch b.link {
	case linkUp:
		o.value = literal([]byte("true"))
	case linkDown:
		o.value = literal([]byte("false"))
	case linkUnknown:
	}
	r.ops = append(r.ops, o)
}

// setLink changes the link; when it turns true, what is outstanding is sent.
func (e *Engine) setLink(b *binding, state linkState, now int64) {
	if state == b.link {
		return
	}
	b.link = state
	for child := range e.parents[b.id.Thing] {
		if child != b {
			e.refresh(child, nil, now)
		}
	}
	if b.state.replaying {
		return
	}
	if state != linkUp {
		e.holdAll(b)
		return
	}
	e.ask(b, "online", now)
	e.linkUp(b, now)
}

// up reports whether commands may be sent.
func (b *binding) up() bool { return b.state.m.link == nil || b.link == linkUp }

// setParent notes the thing whose link a binding shares.
func (e *Engine) setParent(b *binding, thing string) {
	if b.parent == thing {
		return
	}
	if set := e.parents[b.parent]; set != nil {
		delete(set, b)
		if len(set) == 0 {
			delete(e.parents, b.parent)
		}
	}
	b.parent = thing
	if thing == "" {
		return
	}
	if e.parents[thing] == nil {
		e.parents[thing] = map[*binding]struct{}{}
	}
	e.parents[thing][b] = struct{}{}
}
