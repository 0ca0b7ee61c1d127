package mapping

import "github.com/umbra-iot/umbra/shadow"

// maxRehearsed bounds the documents that a rehearsal keeps. When there are more it begins anew with those of the service.
const maxRehearsed = 10_000

// RehearsalOptions of a Rehearsal.
type RehearsalOptions struct {
	Options

	// Document returns the document of a shadow, nil when there is none. It is asked for when something happens to the
	// shadow. nil: there are no shadows.
	Document func(shadow.ID) *shadow.Document

	Limits shadow.Limits // of the service
}

// Rehearsal tells what a set of mappings would do, and does nothing: it has an engine and documents of its own. First
// comes what is known already ([Rehearsal.Restore], [Rehearsal.Tell], [Rehearsal.Retained]), then [Rehearsal.Begin],
// then what happens. It is not safe for concurrent use. Times are ms since the epoch.
type Rehearsal struct {
	engine *Engine
	load   func(shadow.ID) *shadow.Document
	limits shadow.Limits
	docs   map[shadow.ID]*shadow.Document
	out    *Explanation
}

// NewRehearsal returns a rehearsal of a set.
func NewRehearsal(set *Set, o RehearsalOptions) *Rehearsal {
	r := &Rehearsal{engine: New(set, o.Options), load: o.Document, limits: o.Limits, docs: map[shadow.ID]*shadow.Document{}}
	if r.load == nil {
		r.load = func(shadow.ID) *shadow.Document { return nil }
	}
	return r
}

// Set returns the mappings.
func (r *Rehearsal) Set() *Set { return r.engine.Set() }

// Restore takes a device that is known already, as [Engine.Restore] does.
func (r *Rehearsal) Restore(s *Saved) { r.engine.Restore(s) }

// Retained takes a message that is retained already. What it says is taken for written.
func (r *Rehearsal) Retained(m Message, now int64) {
	if p := r.Set().Prepare(m); p != nil {
		r.engine.Message(p, now)
	}
}

// Begin ends what is known already.
func (r *Rehearsal) Begin(now int64) { r.engine.Started(now) }

// Message takes a message.
func (r *Rehearsal) Message(m Message, now int64) Explanation {
	p := r.Set().Prepare(m)
	if p == nil {
		return Explanation{}
	}
	out := r.explain(r.engine.Message(p, now), now)
	out.Matches = p.matches()
	return out
}

// Tell tells the engine of something else than messages and changes: connections, subscriptions, time.
func (r *Rehearsal) Tell(tell func(e *Engine, now int64) *Effects, now int64) Explanation {
	return r.explain(tell(r.engine, now), now)
}

// Next returns when [Rehearsal.Tell] has to call [Engine.Tick] next, 0 for never.
func (r *Rehearsal) Next() int64 { return r.engine.Next() }

// Changed takes a change of a shadow that the service has committed.
func (r *Rehearsal) Changed(id shadow.ID, c *shadow.Change, now int64) Explanation {
	if len(r.engine.things[id.Thing]) == 0 {
		return Explanation{}
	}
	r.out = &Explanation{}
	r.know(id, func() *shadow.Document { return c.Before }, now)
	if c.After.Deleted() {
		r.docs[id] = c.After
		r.do(r.engine.Update(id, c, now), now)
		return *r.out
	}
	payload := append([]byte(`{"state":`), c.State().Raw()...)
	if bad := r.apply(id, append(payload, '}'), now); bad != nil {
		delete(r.docs, id) // what was rehearsed does not go with what is: begin anew
	}
	return *r.out
}

func (r *Rehearsal) explain(e *Effects, now int64) Explanation {
	r.out = &Explanation{}
	r.do(e, now)
	return *r.out
}

// do does what the engine asks for, as far as it is about documents, and notes it.
func (r *Rehearsal) do(e *Effects, now int64) {
	for _, report := range e.Reports {
		r.report(report, now)
	}
	for _, w := range e.Desired {
		r.out.Reports = append(r.out.Reports, Explained{Mapping: w.Mapping, ID: w.ID, Payload: w.Payload})
		r.refuse(w.ID, w.Mapping, r.apply(w.ID, w.Payload, now))
	}
	for _, d := range e.Deletes {
		id := d.ID
		r.out.Deletes = append(r.out.Deletes, id)
		if c, err := shadow.Delete(id, r.document(id, now), "", now); err == nil {
			r.docs[id] = c.After
			r.do(r.engine.Update(id, c, now), now)
		}
	}
	for _, id := range e.Loads {
		r.document(id, now)
	}
	r.out.Publish = append(r.out.Publish, e.Publish...)
	r.out.Failures = append(r.out.Failures, e.Failures...)
}

// report notes all that a report says, and what of it is new goes into the document.
func (r *Rehearsal) report(report *Report, now int64) {
	doc := r.document(report.ID, now)
	payload, refusal := report.Build(doc)
	if refusal == nil && payload != nil {
		refusal = r.apply(report.ID, payload, now)
	}
	if refusal != nil {
		code := CodeDocLimit
		if refusal.Code == 404 {
			code = CodeUnknownThing
		}
		r.do(r.engine.Refused(report, code, refusal.Message), now)
		return
	}
	if all, says := report.Patch(nil); says {
		payload = all
	}
	if payload != nil {
		r.out.Reports = append(r.out.Reports, Explained{Mapping: report.Mapping, ID: report.ID, Payload: payload})
	}
}

// apply applies an update to the rehearsed document and tells the engine.
func (r *Rehearsal) apply(id shadow.ID, payload []byte, now int64) *shadow.Error {
	doc := r.document(id, now)
	req, err := shadow.ParseUpdate(payload, r.limits)
	if err != nil {
		return &shadow.Error{Code: 400, Message: err.Error()}
	}
	c, err := shadow.Apply(doc, req, now, r.limits)
	if err != nil {
		return &shadow.Error{Code: 413, Message: err.Error()}
	}
	r.docs[id] = c.After
	r.do(r.engine.Update(id, c, now), now)
	return nil
}

func (r *Rehearsal) refuse(id shadow.ID, mapping string, refusal *shadow.Error) {
	if refusal != nil {
		r.out.Failures = append(r.out.Failures, Failure{Code: CodeStore, Mapping: mapping, Thing: id.Thing, Text: refusal.Message})
	}
}

// document returns the rehearsed document, which begins as that of the service.
func (r *Rehearsal) document(id shadow.ID, now int64) *shadow.Document {
	r.know(id, func() *shadow.Document { return r.load(id) }, now)
	return r.docs[id]
}

// know makes sure that a document is there, and that the engine knows it.
func (r *Rehearsal) know(id shadow.ID, load func() *shadow.Document, now int64) {
	if _, known := r.docs[id]; known {
		return
	}
	if len(r.docs) >= maxRehearsed {
		clear(r.docs)
	}
	doc := load()
	r.docs[id] = doc
	r.do(r.engine.Document(id, doc, now), now)
}
