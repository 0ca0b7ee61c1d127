package mapping

import (
	"container/heap"
	"errors"
	"strings"

	"github.com/umbra-iot/umbra/shadow"
)

// Options of an Engine.
type Options struct {
	// Subscribed reports whether somebody subscribes to a topic, other than to everything; with a
	// client, whether that one does. It must not call the engine. nil: always.
	Subscribed func(topic, client string) bool
}

// Engine is the state of a set of mappings: which device is which thing, whether it is there, which
// commands it was sent. It is not safe for concurrent use. Times are ms since the epoch.
type Engine struct {
	set        *Set
	subscribed func(topic, client string) bool
	states     []*mappingState
	things     map[string][]*binding // by name
	parents    map[string]map[*binding]struct{}
	sessions   map[string]*session
	waiting    waiters
	timers     timers
	echoes     map[string]echo
	counts     CommandCounts
	out        *Effects // of the step under way
}

// mappingState is the state of one mapping.
type mappingState struct {
	m        *Mapping
	bindings map[string]*binding // by identity
	slots    map[string]*slot
	kinds    []slotKind

	replaying bool // until Started: what retained messages tell is not known yet, and nothing is sent
}

// New returns the engine of a set, before the start: it sends nothing until [Engine.Started].
func New(set *Set, o Options) *Engine {
	e := &Engine{
		subscribed: o.Subscribed, things: map[string][]*binding{}, parents: map[string]map[*binding]struct{}{},
		sessions: map[string]*session{}, echoes: map[string]echo{},
	}
	if e.subscribed == nil {
		e.subscribed = func(string, string) bool { return true }
	}
	e.set = set
	for _, m := range set.mappings {
		e.states = append(e.states, newState(m))
	}
	return e
}

func newState(m *Mapping) *mappingState {
	return &mappingState{m: m, bindings: map[string]*binding{}, slots: map[string]*slot{}, kinds: slotKinds(m), replaying: true}
}

// Commands returns how many commands there are in each state.
func (e *Engine) Commands() CommandCounts { return e.counts }

// Set returns the mappings.
func (e *Engine) Set() *Set { return e.set }

// Effects are what the caller of the engine has to do, in this order, before the engine's next step.
type Effects struct {
	Reports  []*Report   // updates of reported
	Desired  []Write     // updates of desired
	Deletes  []Delete    // shadows to be deleted
	Loads    []shadow.ID // shadows whose document is to be given to [Engine.Document]
	Publish  []Publish   // commands and queries
	Failures []Failure
	Clear    []Clear  // retained messages to be cleared
	Changed  []*Saved // bindings to be stored
	Gone     []*Saved // bindings to be removed from the store
}

// Delete is the end of a shadow that a message brings about.
type Delete struct {
	ID                shadow.ID
	Client, Principal string // as in Message
}

// Report is an update of reported that a message makes.
type Report struct {
	ID        shadow.ID
	Mapping   string
	Topic     string // of the message, "" when there was none
	Client    string // who published it
	Will      bool
	Principal string // as in Message
	Known     bool   // only for things that exist
	Replayed  bool   // a deleted shadow stays deleted

	ops   []op
	b     *binding
	limit int  // bytes of the document, 0 for that of the service
	made  bool // the last Build has made an update
	late  bool // the last Build was given a shadow that is deleted, and the message is older
}

// Build returns the payload of the update that makes a document, nil for a shadow that there is not,
// what the report says; nil for nothing to do.
func (r *Report) Build(doc *shadow.Document) ([]byte, *shadow.Error) {
	payload, refusal := r.build(doc)
	r.made = payload != nil
	r.late = r.Replayed && doc.Deleted()
	return payload, refusal
}

// Made reports whether the last [Report.Build] has made an update.
func (r *Report) Made() bool { return r.made }

// Late reports whether the last [Report.Build] was too late: the shadow was deleted after the message. [Engine.Late]
// wants to know.
func (r *Report) Late() bool { return r.late }

func (r *Report) build(doc *shadow.Document) ([]byte, *shadow.Error) {
	gone := doc == nil || doc.Deleted()
	switch {
	case r.Known && gone:
		return nil, &shadow.Error{Code: 404, Message: "There is no such thing, and the mapping makes none"}
	case r.Replayed && doc.Deleted():
		return nil, nil
	}
	payload, changed := r.Patch(doc)
	if !changed || r.limit == 0 {
		return payload, nil
	}
	lim := shadow.Limits{DocumentBytes: r.limit}
	req, err := shadow.ParseUpdate(payload, lim)
	if err == nil {
		_, err = shadow.Apply(doc, req, 0, lim)
	}
	if refusal, ok := errors.AsType[*shadow.Error](err); ok {
		return nil, refusal
	}
	return payload, nil
}

// Patch returns the payload of the update that makes a document what the report says; changed is
// false when it says nothing new.
func (r *Report) Patch(doc *shadow.Document) (payload []byte, changed bool) {
	return updateOf("reported", r.ops, doc.Reported())
}

// Clear asks for the retained messages that feed a shadow which was deleted to be cleared: of those
// that match the filters, the ones for which [Engine.Owners] names the shadow.
type Clear struct {
	ID      shadow.ID
	Filters []string
}

// Write is an update of another section.
type Write struct {
	ID      shadow.ID
	Mapping string
	Payload []byte // of the update
}

// Publish is a message that a mapping sends.
type Publish struct {
	Topic   string
	Payload []byte
	QoS     byte
	Retain  bool
	Client  string // only to this client, if it subscribes; "": to all
	Thing   string
	Mapping string
	Query   bool   // not a command
	Rule    string // where it is in the file: commands[2], query[0]
	Line    int
}

// none reports that there is nothing to do.
func (e *Effects) none() bool {
	return len(e.Reports)+len(e.Desired)+len(e.Deletes)+len(e.Loads)+len(e.Publish)+len(e.Failures)+len(e.Clear)+
		len(e.Changed)+len(e.Gone) == 0
}

// step begins a step and returns its end. Most changes of documents have no effects, so that those are used again.
func (e *Engine) step() *Effects {
	if e.out == nil || !e.out.none() {
		e.out = &Effects{}
	}
	return e.out
}

// Message takes a message that [Set.Prepare] has prepared.
func (e *Engine) Message(p *Prepared, now int64) *Effects {
	out := e.step()
	if p = e.current(p); p != nil && !e.isEcho(p, now) {
		e.message(p, now, false)
	}
	return out
}

// Document takes the document of a shadow that was asked for; nil when there is none.
func (e *Engine) Document(id shadow.ID, doc *shadow.Document, now int64) *Effects {
	out := e.step()
	for _, b := range e.things[id.Thing] {
		if b.id == id && !b.loaded {
			b.loaded = true
			e.document(b, doc, change{loaded: true, resumed: b.saved != nil}, now)
			b.saved = nil
		}
	}
	return out
}

// Late takes note that a shadow was deleted after the message of a report, so that the device is not known by it.
func (e *Engine) Late(r *Report) *Effects {
	out := e.step()
	if b := r.b; b != nil && !b.gone && !b.heard {
		e.unbind(b)
	}
	return out
}

// Look returns up to n shadows of devices that commands can be sent to, others each time, for who shares the store with
// other nodes to look what these have made of them: [Engine.Refresh].
func (e *Engine) Look(n int) []shadow.ID {
	var out []shadow.ID
	for _, list := range e.things { // begins anywhere
		for _, b := range list {
			if len(out) == n {
				return out
			}
			if b.loaded && len(b.state.m.commands) > 0 && b.up() {
				out = append(out, b.id)
			}
		}
	}
	return out
}

// Refresh takes the document of a shadow that another node may have changed.
func (e *Engine) Refresh(id shadow.ID, doc *shadow.Document, now int64) *Effects {
	out := e.step()
	for _, b := range e.things[id.Thing] {
		if b.id == id && b.loaded && b.version != doc.Version() {
			e.document(b, doc, change{before: doc}, now)
		}
	}
	return out
}

// Update takes a change of a shadow that was committed. Changes of one shadow come in their order.
func (e *Engine) Update(id shadow.ID, c *shadow.Change, now int64) *Effects {
	out := e.step()
	for _, b := range append([]*binding(nil), e.things[id.Thing]...) {
		if b.id != id {
			continue
		}
		if c.After.Deleted() {
			out.Clear = append(out.Clear, Clear{ID: b.id, Filters: b.feeds()})
			e.unbind(b)
			continue
		}
		if !b.loaded { // the document that was asked for is about to come, or was this change
			b.loaded = true
			e.document(b, c.After, change{loaded: true, resumed: b.saved != nil, patch: c.State()}, now)
			b.saved = nil
			continue
		}
		e.document(b, c.After, change{patch: c.State(), before: c.Before}, now)
	}
	return out
}

// Tick does what is due. [Engine.Next] tells when it is to be called.
func (e *Engine) Tick(now int64) *Effects {
	out := e.step()
	for e.timers.Len() > 0 && e.timers.list[0].at <= now {
		t := heap.Pop(&e.timers).(timer) //nolint:forcetypeassert // nothing else is in the heap
		if t.b.due != t.at {
			continue // moved since
		}
		t.b.due = 0
		if !t.b.gone {
			e.tick(t.b, now)
		}
	}
	return out
}

// Next returns when Tick has to be called next, 0 for never.
func (e *Engine) Next() int64 {
	for e.timers.Len() > 0 && e.timers.list[0].b.due != e.timers.list[0].at {
		heap.Pop(&e.timers)
	}
	if e.timers.Len() == 0 {
		return 0
	}
	return e.timers.list[0].at
}

// Started ends the replay of retained messages to mappings that are new: links that were true in the last run and that nothing
// has told of are false now, and from now on commands are sent.
func (e *Engine) Started(now int64) *Effects {
	out := e.step()
	for _, s := range e.states {
		if !s.replaying {
			continue
		}
		s.replaying = false
		for _, b := range s.bindings {
			if s.m.link != nil && b.link == linkUnknown && b.saved != nil {
				e.setLink(b, linkDown, now)
				r := e.reportOf(b, nil)
				r.ops = append(r.ops, op{path: s.m.link.path, value: literal([]byte("false")), existing: true})
			}
			if !b.loaded {
				out.Loads = append(out.Loads, b.id)
			} else if b.up() {
				e.sendHeld(b, now)
			}
			e.ask(b, "start", now)
		}
	}
	return out
}

// Refused takes note that a report was not written.
func (e *Engine) Refused(r *Report, code Code, text string) *Effects {
	out := e.step()
	e.fail(Failure{Code: code, Mapping: r.Mapping, Thing: r.ID.Thing, Topic: r.Topic, Text: text})
	if b := r.b; code == CodeUnknownThing && b != nil && !b.gone && !b.loaded {
		e.unbind(b)
	}
	return out
}

func (e *Engine) fail(f Failure) {
	if len(f.Payload) > maxKeptPayload {
		f.Payload = f.Payload[:maxKeptPayload]
	}
	e.out.Failures = append(e.out.Failures, f)
}

// failMessage counts a failure of a message.
func (e *Engine) failMessage(m *Mapping, p *Prepared, thing string, bad *refusal) {
	e.fail(Failure{Code: bad.code, Mapping: m.name, Thing: thing, Topic: p.Topic, Text: bad.text, Payload: p.Payload})
}

// echo is a command of ours that may come back over a bridge.
type echo struct {
	payload string
	until   int64
}

const echoWindow = 2000 // ms

// isEcho reports that a message is a command that we have just sent: bridges bring it back.
func (e *Engine) isEcho(p *Prepared, now int64) bool {
	if len(e.echoes) == 0 {
		return false
	}
	sent, ok := e.echoes[p.Topic]
	if !ok {
		return false
	}
	if sent.until < now {
		delete(e.echoes, p.Topic)
		return false
	}
	if p.Will || p.Replayed || sent.payload != string(p.Payload) {
		return false
	}
	e.fail(Failure{Code: CodeEcho, Mapping: e.states[p.hits[0].mapping].m.name, Topic: p.Topic, Text: "a command came back"})
	return true
}

// remember notes a command that report rules are about, as allow_overlap makes possible.
func (e *Engine) remember(topic string, payload []byte, now int64) {
	for t, sent := range e.echoes {
		if sent.until < now {
			delete(e.echoes, t)
		}
	}
	if e.set.Prepare(Message{Topic: topic}) != nil {
		e.echoes[topic] = echo{payload: string(payload), until: now + echoWindow}
	}
}

// timers is a heap of when bindings have something to do; entries that a binding has moved away from
// are left in it until they come up.
type timers struct{ list []timer }

type timer struct {
	at int64
	b  *binding
}

// Len is of heap.Interface.
func (t *timers) Len() int { return len(t.list) }

// Less is of heap.Interface.
func (t *timers) Less(i, j int) bool { return t.list[i].at < t.list[j].at }

// Swap is of heap.Interface.
func (t *timers) Swap(i, j int) { t.list[i], t.list[j] = t.list[j], t.list[i] }

// Push is of heap.Interface.
func (t *timers) Push(x any) { t.list = append(t.list, x.(timer)) } //nolint:forcetypeassert // ours

// Pop is of heap.Interface.
func (t *timers) Pop() any {
	last := t.list[len(t.list)-1]
	t.list = t.list[:len(t.list)-1]
	return last
}

// wake makes sure that a binding is ticked at a time.
func (e *Engine) wake(b *binding, at int64) {
	if at != 0 && (b.due == 0 || at < b.due) {
		b.due = at
		heap.Push(&e.timers, timer{at, b})
	}
}

// tick does what is due of a binding, and sets its next timer.
func (e *Engine) tick(b *binding, now int64) {
	e.tickReports(b, now)
	for _, c := range b.ordered() {
		if c.due != 0 && c.due <= now {
			e.tickCommand(b, c, now)
		}
	}
	for _, c := range b.commands {
		e.wake(b, c.due)
	}
}

// key joins parts of an identity. No part of a topic has a zero byte.
func key(parts ...string) string { return strings.Join(parts, "\x00") }
