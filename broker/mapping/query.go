package mapping

import (
	"slices"
	"strings"
)

// ask sends the queries of an occasion: online, first_seen or start.
func (e *Engine) ask(b *binding, occasion string, now int64) {
	for _, q := range b.state.m.queries {
		if q.at[occasion] && !b.asking[q] && !e.asked(b, q) {
			if b.asking == nil {
				b.asking = map[*query]bool{}
			}
			b.asking[q] = true
		}
	}
	e.askAgain(b, now)
}

// asked reports that the step under way has sent a query: a device that comes is seen for the first time, too.
func (e *Engine) asked(b *binding, q *query) bool {
	return slices.ContainsFunc(e.out.Publish, func(p Publish) bool {
		return p.Query && p.Line == q.line && p.Thing == b.id.Thing && p.Mapping == b.state.m.name
	})
}

// askAgain sends the queries that wait, as far as somebody subscribes to their topics.
func (e *Engine) askAgain(b *binding, now int64) {
	if b.state.replaying || b.state.m.link != nil && b.link == linkDown {
		return
	}
	for _, q := range b.state.m.queries {
		if !b.asking[q] {
			continue
		}
		topic, _, ok := q.topic.render(&b.environment(nil).environment)
		if !ok || checkTopic(topic) != nil {
			delete(b.asking, q)
			continue
		}
		if !e.subscribed(topic, b.receiver()) {
			e.waiting.add(topic, b)
			continue
		}
		delete(b.asking, q)
		e.waiting.drop(topic, b)
		e.publish(b, Publish{Topic: topic, Payload: []byte(q.payload), QoS: q.qos, Query: true, Rule: q.key, Line: q.line}, now)
	}
}

// waiters finds the bindings that wait for a subscription to a topic, by the levels of the topic.
type waiters struct {
	here map[*binding]int
	kids map[string]*waiters
}

func (w *waiters) add(topic string, b *binding) {
	for _, l := range appendLevels(nil, topic) {
		k := w.kids[l]
		if k == nil {
			if w.kids == nil {
				w.kids = map[string]*waiters{}
			}
			k = &waiters{}
			w.kids[l] = k
		}
		w = k
	}
	if w.here == nil {
		w.here = map[*binding]int{}
	}
	w.here[b] = 1
}

func (w *waiters) drop(topic string, b *binding) { w.dropLevels(appendLevels(nil, topic), b) }

// dropLevels removes a binding, and the nodes that nothing is left in.
func (w *waiters) dropLevels(levels []string, b *binding) {
	if len(levels) == 0 {
		delete(w.here, b)
		return
	}
	k := w.kids[levels[0]]
	if k == nil {
		return
	}
	k.dropLevels(levels[1:], b)
	if len(k.here) == 0 && len(k.kids) == 0 {
		delete(w.kids, levels[0])
	}
}

// remove removes a binding from all topics that it may wait for.
func (w *waiters) remove(b *binding) {
	for _, c := range b.commands {
		w.drop(c.topic, b)
	}
	for _, q := range b.state.m.queries {
		if topic, _, ok := q.topic.render(&b.environment(nil).environment); ok {
			w.drop(topic, b)
		}
	}
}

// matching returns who waits for a topic that a filter matches.
func (w *waiters) matching(filter string) []*binding {
	if strings.HasPrefix(filter, "$share/") {
		parts := strings.SplitN(filter, "/", 3)
		filter = parts[len(parts)-1]
	}
	found := map[*binding]struct{}{}
	w.find(appendLevels(nil, filter), found)
	out := make([]*binding, 0, len(found))
	for b := range found {
		out = append(out, b)
	}
	return sortBindings(out)
}

func (w *waiters) find(filter []string, found map[*binding]struct{}) {
	switch {
	case len(filter) == 0:
		for b := range w.here {
			found[b] = struct{}{}
		}
	case filter[0] == "#":
		for b := range w.here {
			found[b] = struct{}{}
		}
		for _, k := range w.kids {
			k.find(filter, found)
		}
	case filter[0] == "+":
		for _, k := range w.kids {
			k.find(filter[1:], found)
		}
	default:
		if k := w.kids[filter[0]]; k != nil {
			k.find(filter[1:], found)
		}
	}
}
