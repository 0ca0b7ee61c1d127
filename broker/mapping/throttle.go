package mapping

// tooFast holds a message of a device back that sends more than it may: the newest of each topic is
// taken later.
func (e *Engine) tooFast(s *mappingState, h *hit, p *Prepared, now int64, late bool) bool {
	if late || p.Replayed || p.Will || !h.source.full {
		return false
	}
	identity, ok := s.m.partial(h.source, p.environment(h.caps, h.source.as))
	b := s.find(identity)
	return ok && b != nil && e.throttle(b, p, 0, now)
}

// throttle reports that a message has to wait.
func (e *Engine) throttle(b *binding, p *Prepared, interval, now int64) bool {
	for i, d := range b.delayed {
		if d.Topic == p.Topic {
			b.delayed[i] = p
			if interval > 0 {
				return true
			}
			e.fail(Failure{Code: CodeCoalesced, Mapping: b.state.m.name, Thing: b.id.Thing, Topic: p.Topic, Text: "messages come too fast; the newest is kept"})
			return true
		}
	}
	if interval > 0 {
		if last, ok := b.throttled[p.Topic]; ok && now < last+interval {
			b.delayed = append(b.delayed, p)
			e.wake(b, last+interval)
			return true
		}
		if b.throttled == nil {
			b.throttled = map[string]int64{}
		}
		b.throttled[p.Topic] = now
	}
	rate := b.state.m.limits.updates
	if ok, next := b.updates.take(rate, rate*updatesBurst, now); !ok {
		b.delayed = append(b.delayed, p)
		e.wake(b, next)
		return true
	}
	return false
}

// tickReports takes the messages that had to wait, as far as they may be taken now.
func (e *Engine) tickReports(b *binding, now int64) {
	waiting := b.delayed
	b.delayed = nil
	for _, p := range waiting {
		if at := e.readyAt(b, p); at > now {
			b.delayed = append(b.delayed, p)
			e.wake(b, at)
			continue
		}
		rate := b.state.m.limits.updates
		if ok, next := b.updates.take(rate, rate*updatesBurst, now); !ok {
			b.delayed = append(b.delayed, p)
			e.wake(b, next)
			continue
		}
		if _, ok := b.throttled[p.Topic]; ok {
			b.throttled[p.Topic] = now
		}
		e.message(p, now, true)
	}
}

// readyAt is when min_interval lets a message through.
func (e *Engine) readyAt(b *binding, p *Prepared) int64 {
	for i := range p.hits {
		h := &p.hits[i]
		if h.report == nil || e.states[h.mapping] != b.state || h.report.interval == 0 {
			continue
		}
		if last, ok := b.throttled[p.Topic]; ok {
			return last + h.report.interval
		}
	}
	return 0
}
