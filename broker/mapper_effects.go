package broker

import (
	"sync"
	"time"

	"github.com/umbra-iot/umbra/broker/mapping"
	"github.com/umbra-iot/umbra/broker/wire"
	"github.com/umbra-iot/umbra/shadow"
	"github.com/umbra-iot/umbra/things"
)

// apply does what the engine asks for. w is that of the message that has caused it, nil for none.
func (p *mapper) apply(e *mapping.Effects, w *waiter) {
	for _, r := range e.Reports {
		p.update(r, w)
	}
	for i := range e.Desired {
		p.submit(things.Request{
			ID: e.Desired[i].ID, Op: shadow.OpUpdate, Payload: e.Desired[i].Payload, Author: mappingAuthor("", ""), Quiet: true,
		}, w, func(*things.Result) {})
	}
	for _, d := range e.Deletes {
		p.submit(things.Request{ID: d.ID, Op: shadow.OpDelete, Author: mappingAuthor(d.Principal, d.Client), Quiet: true}, w, func(*things.Result) {})
	}
	for _, id := range e.Loads {
		p.load(id)
	}
	for i := range e.Publish {
		p.send(&e.Publish[i])
	}
	for i := range e.Clear {
		p.b.clearRetained(e.Clear[i].Filters, func(m *wire.Message) bool { return p.feeds(m, e.Clear[i].ID) })
	}
	for i := range e.Failures {
		p.failed(&e.Failures[i])
	}
	p.keep(e.Changed, e.Gone)
}

// update makes the update of a report, one for each message and shadow.
func (p *mapper) update(r *mapping.Report, w *waiter) {
	req := things.Request{ID: r.ID, Op: shadow.OpUpdate, Author: mappingAuthor(r.Principal, r.Client), Quiet: true, Build: r.Build}
	p.submit(req, w, func(res *things.Result) {
		if res.Err == nil {
			if r.Made() {
				p.updates.Add(1)
			}
			if r.Late() {
				p.post(occurrence{tell: func(e *mapping.Engine, _ int64) *mapping.Effects { return e.Late(r) }})
			}
			return
		}
		code := codeOf(res.Err)
		p.post(occurrence{tell: func(e *mapping.Engine, _ int64) *mapping.Effects { return e.Refused(r, code, res.Err.Message) }})
	})
}

// codeOf is the kind of failure that a refusal of the service is.
func codeOf(refusal *shadow.Error) mapping.Code {
	switch refusal.Code {
	case 404:
		return mapping.CodeUnknownThing
	case 400, 413:
		return mapping.CodeDocLimit
	}
	return mapping.CodeStore
}

// submit makes a request. What becomes of it is part of what w waits for: a failing store refuses the message.
func (p *mapper) submit(req things.Request, w *waiter, done func(*things.Result)) {
	w.add()
	p.underWay.Add(1)
	p.b.things.Submit(req, func(r *things.Result) {
		done(r)
		o := outcome{}
		if r.Err != nil && r.Err.Code >= 500 {
			o = outcomeOf(r)
		}
		w.end(o)
		p.underWay.Add(-1)
	})
}

// load gives the engine the document of a shadow.
func (p *mapper) load(id shadow.ID) {
	p.peek(id, (*mapping.Engine).Document)
}

// peek gives the engine the document of a shadow in one of its ways.
func (p *mapper) peek(id shadow.ID, give func(*mapping.Engine, shadow.ID, *shadow.Document, int64) *mapping.Effects) {
	p.underWay.Add(1)
	p.b.things.Peek(id, func(doc *shadow.Document, refusal *shadow.Error) {
		defer p.underWay.Add(-1)
		if refusal == nil {
			p.post(occurrence{tell: func(e *mapping.Engine, now int64) *mapping.Effects { return give(e, id, doc, now) }})
		}
	})
}

// How often a node looks what others have made of the shadows of its devices, as it is told of its own changes alone.
const (
	lookInterval = time.Second
	lookThings   = 1000 // at a time
)

// look looks at devices whose shadows other nodes may have changed, and goes on doing so.
func (p *mapper) look() {
	p.post(occurrence{tell: func(e *mapping.Engine, _ int64) *mapping.Effects {
		for _, id := range e.Look(lookThings) {
			p.peek(id, (*mapping.Engine).Refresh)
		}
		return &mapping.Effects{}
	}})
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.closed {
		p.looks = time.AfterFunc(lookInterval, p.look)
	}
}

// send publishes a command or a query. It does not come back to the mappings.
func (p *mapper) send(out *mapping.Publish) {
	if !out.Query {
		p.sent.Add(1)
	}
	m := wire.NewMessage(wire.Message{Topic: out.Topic, Payload: out.Payload, QoS: out.QoS, Retain: out.Retain})
	if out.Client == "" {
		p.b.route(m, publisher{})
		return
	}
	entries := p.b.match(out.Topic, nil)
	defer p.b.unmatch(entries)
	for i := range *entries {
		if e := &(*entries)[i]; e.Subscriber.id == out.Client {
			e.Subscriber.deliver(m, e, occasion{}, p.b.now())
		}
	}
}

// feeds reports whether a retained message tells of a shadow.
func (p *mapper) feeds(m *wire.Message, id shadow.ID) bool {
	prepared := p.set.Load().Prepare(mapping.Message{Topic: m.Topic, Payload: m.Payload, Retain: true, Replayed: true})
	if prepared == nil {
		return false
	}
	for _, o := range p.engine.Owners(prepared) {
		if o.ID == id {
			return true
		}
	}
	return false
}

// clearRetained removes retained messages, and tells their subscribers.
func (b *Broker) clearRetained(filters []string, which func(*wire.Message) bool) {
	if b.keepGhosts {
		return
	}
	for _, f := range filters {
		for after := ""; ; {
			page := b.retained.Match(f, after, scanPage, b.now())
			for _, m := range page.Messages {
				if which(m.Message) {
					b.route(wire.NewMessage(wire.Message{Topic: m.Topic, QoS: 1, Retain: true}), publisher{})
				}
			}
			if after = page.Next; page.Done {
				break
			}
		}
	}
}

// mappingReport counts failures and keeps the last ones.
type mappingReport struct {
	mu     sync.Mutex // guards what follows
	counts map[string]map[mapping.Code]int64
	last   []MappingFailure
}

// keptFailures is how many of the last failures are kept.
const keptFailures = 100

// MappingFailure is one failure of a mapping.
type MappingFailure struct {
	Time int64 `json:"timestamp"` // ms since the epoch
	mapping.Failure
}

func (r *mappingReport) init() { r.counts = map[string]map[mapping.Code]int64{} }

func (p *mapper) failed(f *mapping.Failure) {
	r := &p.report
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.counts[f.Mapping] == nil {
		r.counts[f.Mapping] = map[mapping.Code]int64{}
	}
	r.counts[f.Mapping][f.Code]++
	if n := len(r.last); n > 0 && r.last[n-1].Code == f.Code && r.last[n-1].Topic == f.Topic && r.last[n-1].Thing == f.Thing {
		r.last[n-1] = MappingFailure{Time: p.b.now(), Failure: *f} // a device that repeats itself does not hide the others
		return
	}
	if len(r.last) == keptFailures {
		r.last = append(r.last[:0], r.last[1:]...)
	}
	r.last = append(r.last, MappingFailure{Time: p.b.now(), Failure: *f})
}
