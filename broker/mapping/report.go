package mapping

import (
	"slices"
	"strings"

	"github.com/umbra-iot/umbra/shadow"
)

// environment returns what templates know of a message.
func (p *Prepared) environment(caps captures, f form) *environment {
	env := &environment{caps: caps, client: p.Client, user: p.User, topic: p.Topic}
	if d := p.decoded[f]; d != nil {
		env.payload = d.value
	}
	return env
}

// message takes a message through the rules of every mapping. late says that it waited because it
// came too fast.
func (e *Engine) message(p *Prepared, now int64, late bool) {
	if p = e.current(p); p == nil || e.stale(p) {
		return
	}
	for i := 0; i < len(p.hits); {
		s := e.states[p.hits[i].mapping]
		n := i
		for n < len(p.hits) && p.hits[n].mapping == p.hits[i].mapping {
			n++
		}
		e.mappingMessage(s, p, p.hits[i:n], now, late)
		i = n
	}
}

// mappingMessage takes a message through the rules of one mapping: what tells of the link first, then
// the first report rule that fits.
func (e *Engine) mappingMessage(s *mappingState, p *Prepared, hits []hit, now int64, late bool) {
	if len(p.Payload) > s.m.limits.payload {
		if !hits[0].onlyIgnores() {
			e.failMessage(s.m, p, "", refuse(CodeTooLarge, "the payload has %d bytes, more than %d", len(p.Payload), s.m.limits.payload))
		}
		return
	}
	var about *binding // the device whose birth or death the message is
	isLink := false
	for i := range hits {
		h := &hits[i]
		switch {
		case h.source != nil:
			isLink = true
			if e.tooFast(s, h, p, now, late) {
				return
			}
			if b := e.linkMessage(s, h, p, now); h.source.constant != nil {
				about = b
			}
		case h.parent != nil:
			e.parentMessage(s, h, p, now)
		default:
			done := e.reportMessage(s, h, p, now, late, func(identity []string) bool {
				return !isLink || about != nil && slices.Equal(about.identity, identity)
			})
			if done {
				return
			}
		}
	}
}

func (h *hit) onlyIgnores() bool { return h.report != nil && h.report.ignore }

// reportMessage takes a message through one report rule. It returns false when the rule does not fit
// after all, so that the next one has a try. mine says whether the message may be about an identity.
func (e *Engine) reportMessage(s *mappingState, h *hit, p *Prepared, now int64, late bool, mine func([]string) bool) bool {
	r := h.report
	if len(p.Payload) > 0 || r.when != nil || r.whenExpr != nil {
		fits, bad := r.fits(h, p)
		if bad != nil {
			e.failMessage(s.m, p, "", bad)
			return true
		}
		if !fits {
			return false
		}
	}
	if r.ignore || r.liveOnly && p.Replayed {
		return true
	}
	env := p.environment(h.caps, r.as)
	identity, ok := s.m.identify(env)
	if !ok || !mine(identity) {
		if !ok && len(p.Payload) > 0 {
			e.failMessage(s.m, p, "", refuse(CodeThingName, "the message does not tell which thing it is about"))
		}
		return true
	}
	if bad := e.owner(s, r, p, env, identity); bad != nil {
		e.failMessage(s.m, p, "", bad)
		return true
	}
	if len(p.Payload) == 0 {
		if b := s.find(identity); b != nil && p.Retain {
			e.clear(b, r, p, h, now)
		}
		return true
	}
	e.write(s, h, p, identity, env, now, late)
	return true
}

// fits reports whether the conditions of a rule hold.
func (r *report) fits(h *hit, p *Prepared) (bool, *refusal) {
	if r.when == nil && r.whenExpr == nil {
		return true, nil
	}
	d := p.as(r.as)
	if d == nil || len(p.Payload) == 0 {
		return false, nil
	}
	if d.bad != nil {
		return false, d.bad
	}
	for _, c := range r.when {
		if !d.value.At(c.path...).Equal(c.want) {
			return false, nil
		}
	}
	if r.whenExpr == nil {
		return true, nil
	}
	return r.whenExpr.test(&exprEnv{environment: *p.environment(h.caps, r.as)}, d.value)
}

// owner refuses messages of clients that are not the device.
func (e *Engine) owner(s *mappingState, r *report, p *Prepared, env *environment, identity []string) *refusal {
	t := r.fromClient
	if t == nil {
		t = s.m.fromClient
	}
	if t == nil || p.Replayed {
		return nil
	}
	named := *env
	named.caps = append(slices.Clone(env.caps), capture{"thing", ""})
	want, _, ok := t.render(&named)
	if !ok || want != p.Client && want != p.User {
		return refuse(CodeOwner, "the client %q is not %q, whom the topic is for (%s)", p.Client, want, strings.Join(identity, ", "))
	}
	return nil
}

// write makes the ops of a message and adds them to the report of its thing.
func (e *Engine) write(s *mappingState, h *hit, p *Prepared, identity []string, env *environment, now int64, late bool) {
	r := h.report
	b := s.find(identity)
	if b != nil && !late && !p.Replayed && !p.Will && e.throttle(b, p, r.interval, now) {
		return
	}
	value, learnt, bad := p.payload(b, r)
	if bad != nil {
		e.failMessage(s.m, p, thingOf(b), bad)
		return
	}
	ops, bad := r.ops(h, b, env, value)
	if bad != nil {
		e.failMessage(s.m, p, thingOf(b), bad)
		return
	}
	if len(ops) == 0 && !r.up {
		return
	}
	known := b != nil
	if !known {
		if b, bad = e.bind(s, identity, env, now); bad != nil {
			e.failMessage(s.m, p, "", bad)
			return
		}
	}
	if !known && r.interval > 0 && !p.Replayed && !p.Will {
		b.throttled = map[string]int64{p.Topic: now}
	}
	if learnt != nil {
		b.births = learnt
	}
	e.touch(b, p, now)
	out := e.reportOf(b, p)
	out.ops = append(out.ops, ops...)
	e.parentOf(b, ops, value, now)
	if !p.Replayed && s.m.link != nil {
		e.present(b, r, p, now)
	}
	if !known {
		e.firstSight(b, out, now)
	}
}

func thingOf(b *binding) string {
	if b == nil {
		return ""
	}
	return b.id.Thing
}

// firstSight completes the first report of a device.
func (e *Engine) firstSight(b *binding, out *Report, now int64) {
	if b.state.m.link != nil {
		if e.setLink(b, b.compute(e), now); b.link != linkUnknown {
			e.writeLink(b, out)
		}
	}
	e.ask(b, "first_seen", now)
}

// present notes that a message shows that its device is there.
func (e *Engine) present(b *binding, r *report, p *Prepared, now int64) {
	s := b.state
	ses := e.sessions[p.Client]
	if s.m.link.session == sessionAlways && ses != nil && !p.Will {
		sl := s.slot(&s.kinds[len(s.kinds)-1], b.identity)
		if sl.owner != ses {
			sl.owner = ses
			ses.claims = append(ses.claims, claim{s, sl})
		}
		e.setSlot(sl, true, p, now)
	}
	if !r.up || p.Will {
		return
	}
	known := false
	for i, sl := range b.slots {
		if sl == nil || !sl.known || s.kinds[i].name == sessionSlot {
			continue
		}
		known = true
		if !sl.up {
			e.setSlot(sl, true, p, now)
		}
	}
	if known {
		return
	}
	for i := range s.kinds { // the first sign of life
		if s.kinds[i].full {
			e.setSlot(s.slot(&s.kinds[i], b.identity), true, p, now)
			return
		}
	}
}

// payload returns the decoded payload for the fields of a rule. learnt replaces the births of the
// device when the message is written.
func (p *Prepared) payload(b *binding, r *report) (v shadow.Value, learnt *births, bad *refusal) {
	if r.as != asSparkplug {
		d := p.as(r.as)
		return d.value, nil, d.bad
	}
	metrics, bad := decodeMetrics(p.Payload)
	if bad != nil {
		return v, nil, bad
	}
	learnt = &births{}
	if b != nil && b.births != nil {
		learnt = b.births
	}
	if bad = learnt.learn(metrics); bad != nil {
		return v, nil, bad
	}
	if seq, ok := sequence(metrics); ok {
		learnt.BdSeq = &seq
	}
	return metricsValue(metrics), learnt, nil
}

// ops returns what a message does to reported: all of it or nothing.
func (r *report) ops(h *hit, b *binding, env *environment, payload shadow.Value) ([]op, *refusal) {
	full := &exprEnv{environment: *env}
	if b != nil {
		full.doc, full.thing = b.doc, b.id.Thing
	}
	if r.metrics {
		return r.metricOps(full, payload)
	}
	var out []op
	for _, f := range r.fields {
		if f.inert {
			continue
		}
		if len(f.get.keys) > 0 && !payload.IsObject() && !payload.IsArray() {
			return nil, refuse(CodeType, "the payload is no JSON object")
		}
		var bad *refusal
		f.get.find(payload, h.caps, func(v shadow.Value, caps captures) bool {
			full.caps = caps
			var o *op
			if o, bad = f.op(full, v); o != nil {
				out = append(out, *o)
			}
			return bad == nil
		})
		if bad != nil {
			return nil, bad
		}
	}
	return out, nil
}

// op returns what one value does, nil for nothing.
func (f *field) op(env *exprEnv, v shadow.Value) (*op, *refusal) {
	v, drop, bad := f.convert.apply(v, env)
	if bad != nil || drop {
		return nil, bad
	}
	if len(f.target.keys) > 0 {
		env.value, env.typed = v.Text(), v.Raw()
	}
	path, code, text := f.target.render(&env.environment)
	if code != "" {
		return nil, &refusal{code, text}
	}
	if len(path) == 0 && !v.IsObject() {
		return nil, refuse(CodeType, "only an object can be written to the root")
	}
	if text := checkValue(v, len(path)); text != "" {
		return nil, refuse(CodeDocLimit, "%s", text)
	}
	return &op{path: path, value: v, drop: f.drop, replace: f.replace, deadband: f.deadband}, nil
}

// checkValue returns what in a value cannot be in a document, "" for nothing.
func checkValue(v shadow.Value, depth int) string {
	if depth > maxDepth {
		return "the document would be nested more than 8 deep"
	}
	for key, m := range v.Members() {
		if strings.ContainsFunc(key, func(r rune) bool { return r < ' ' }) {
			return "a key has a control character"
		}
		if text := checkValue(m, depth+1); text != "" {
			return text
		}
	}
	for e := range v.Elements() {
		if text := checkValue(e, depth+1); text != "" {
			return text
		}
	}
	return ""
}

// metricOps writes each metric to the path that its name is, split at slashes.
func (r *report) metricOps(env *exprEnv, payload shadow.Value) ([]op, *refusal) {
	var base []string
	var f *field
	if len(r.fields) > 0 {
		f = r.fields[0]
		var code Code
		var text string
		if base, code, text = f.target.render(&env.environment); code != "" {
			return nil, &refusal{code, text}
		}
	}
	list := payload.Member("metrics")
	if !list.IsArray() {
		return nil, refuse(CodeType, "the payload has no metrics")
	}
	var out []op
	for m := range list.Elements() {
		name := m.Member("name").Text()
		if skipped(name, r.skip) {
			continue
		}
		path := slices.Clone(base)
		for key := range strings.SplitSeq(name, "/") {
			if text := checkKey(key); text != "" {
				return nil, refuse(CodeKeyName, "metric %.100q: %s", name, text)
			}
			path = append(path, key)
		}
		o, bad := f.metricOp(env, path, m.Member("value"))
		if bad != nil {
			return nil, bad
		}
		if o != nil {
			out = append(out, *o)
		}
	}
	return out, nil
}

// metricOp returns what one metric does, nil for nothing. f is nil when the rule says nothing more.
func (f *field) metricOp(env *exprEnv, path []string, v shadow.Value) (*op, *refusal) {
	o := &op{path: path, value: v}
	if f != nil {
		v, drop, bad := f.convert.apply(v, env)
		if bad != nil || drop {
			return nil, bad
		}
		o.value, o.deadband = v, f.deadband
	}
	if text := checkValue(o.value, len(path)); text != "" {
		return nil, refuse(CodeDocLimit, "%s", text)
	}
	return o, nil
}

// reportOf returns the report of a binding in the step under way, for a message or for none.
func (e *Engine) reportOf(b *binding, p *Prepared) *Report {
	for _, r := range e.out.Reports {
		if r.b == b {
			return r
		}
	}
	r := &Report{ID: b.id, Mapping: b.state.m.name, b: b}
	if l := b.state.m.limits.document; l < defaultDocument {
		r.limit = l
	}
	if p != nil {
		r.Topic, r.Client, r.Principal, r.Will, r.Replayed = p.Topic, p.Client, p.Principal, p.Will, p.Replayed
		r.Known = b.state.m.known && !b.loaded
	}
	e.out.Reports = append(e.out.Reports, r)
	return r
}
