package broker

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/umbra-iot/umbra/broker/mapping"
	"github.com/umbra-iot/umbra/broker/topic"
	"github.com/umbra-iot/umbra/broker/wire"
	"github.com/umbra-iot/umbra/shadow"
	"github.com/umbra-iot/umbra/things"
)

// mapper is the hook of the mappings: it tells their engine what happens, and does what the engine asks for. One
// goroutine does that, in the order in which things happen. A nil mapper does nothing.
type mapper struct {
	b      *Broker
	log    *slog.Logger
	set    atomic.Pointer[mapping.Set]
	used   atomic.Bool     // there are mappings, or have been
	engine *mapping.Engine // of the goroutine

	messages atomic.Int64 // that rules are about
	updates  atomic.Int64 // that reports have made
	sent     atomic.Int64 // commands, repetitions included
	commands atomic.Pointer[mapping.CommandCounts]
	underWay atomic.Int64 // events and requests that are not done

	mu      sync.Mutex // guards what follows
	work    *sync.Cond // something is queued, or closed
	room    *sync.Cond // the queue is short enough for more messages
	queue   []occurrence
	closed  bool
	timer   *time.Timer
	looks   *time.Timer               // nil when nobody else writes to the store
	changed map[string]*mapping.Saved // to be stored, by key; nil for one that is gone
	queued  bool                      // the journal knows
	report  mappingReport

	wg sync.WaitGroup
}

// occurrence is something that the engine is told. What it brings about is part of what wait waits for.
type occurrence struct {
	tell func(e *mapping.Engine, now int64) *mapping.Effects
	wait *waiter
}

// maxMapperQueue bounds the messages that wait for the engine: who publishes more has to wait.
const maxMapperQueue = 4096

func newMapper(b *Broker, set *mapping.Set) *mapper {
	if set == nil {
		return nil
	}
	p := &mapper{b: b, log: b.log, changed: map[string]*mapping.Saved{}}
	p.work, p.room = sync.NewCond(&p.mu), sync.NewCond(&p.mu)
	p.engine = mapping.New(set, mapping.Options{Subscribed: p.subscribed})
	p.commands.Store(&mapping.CommandCounts{})
	p.report.init()
	p.set.Store(set)
	p.used.Store(len(set.Mappings()) > 0)
	return p
}

// idle reports that there is nothing to tell: there never was a mapping.
func (p *mapper) idle() bool { return p == nil || !p.used.Load() }

// unheard reports that neither the mappings nor a rehearsal of others has to be told.
func (p *mapper) unheard() bool { return p.idle() && (p == nil || !p.b.rehearsing()) }

// tell tells the mappings, and those who rehearse others.
func (p *mapper) tell(kind HappeningKind, tell func(*mapping.Engine, int64) *mapping.Effects) {
	p.b.rehearse(Happening{kind: kind, tell: tell})
	if !p.idle() {
		p.post(occurrence{tell: tell})
	}
}

// waiter calls done when everything that one message brings about is done.
type waiter struct {
	left atomic.Int64
	mu   sync.Mutex // guards o
	o    outcome
	done func(outcome)
}

func (w *waiter) add() {
	if w != nil {
		w.left.Add(1)
	}
}

func (w *waiter) end(o outcome) {
	if w == nil {
		return
	}
	w.mu.Lock()
	if o.code >= wire.ReasonFailure && w.o.code < wire.ReasonFailure {
		o.waits = o.waits || w.o.waits
		w.o = o
	}
	w.mu.Unlock()
	if w.left.Add(-1) == 0 {
		w.done(w.o)
	}
}

// post queues an event. It does not wait.
func (p *mapper) post(e occurrence) {
	if p == nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.postLocked(e)
}

func (p *mapper) postLocked(e occurrence) {
	if p.closed {
		e.wait.end(outcome{})
		return
	}
	p.underWay.Add(1)
	p.queue = append(p.queue, e)
	p.work.Signal()
}

// mapped tells the mappings of a message that was routed with the outcome o, and calls done with the outcome of all:
// at once when nothing is to be waited for.
func (b *Broker) mapped(in mapping.Message, o outcome, done func(o outcome, later bool)) {
	if o.code >= wire.ReasonFailure {
		done(o, false)
		return
	}
	if b.rehearsing() && !in.Replayed {
		b.rehearse(Happening{kind: HappeningMessage, message: in})
	}
	if b.native {
		if n, ok, err := mapping.ParseNative(&in); ok {
			b.nativeMessage(n, err, &in, o, done)
			return
		}
	}
	if b.mapper.idle() {
		done(o, false)
		return
	}
	prepared := b.mapper.set.Load().Prepare(in)
	if prepared == nil {
		done(o, false)
		return
	}
	b.mapper.messages.Add(1)
	w := &waiter{o: o, done: func(o outcome) { done(o, true) }}
	w.add()
	b.mapper.message(prepared, w)
}

// message queues a message of a client, waiting while there are too many.
func (p *mapper) message(m *mapping.Prepared, w *waiter) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for len(p.queue) >= maxMapperQueue && !p.closed {
		p.room.Wait()
	}
	p.postLocked(occurrence{wait: w, tell: func(e *mapping.Engine, now int64) *mapping.Effects { return e.Message(m, now) }})
}

// run tells the engine what is queued until the mapper is closed and nothing is left.
func (p *mapper) run() {
	defer p.wg.Done()
	var batch []occurrence
	for {
		p.mu.Lock()
		for len(p.queue) == 0 && !p.closed {
			p.work.Wait()
		}
		clear(batch) // it keeps nothing alive
		batch, p.queue = p.queue, batch[:0]
		p.room.Broadcast()
		over := p.closed && len(batch) == 0
		p.mu.Unlock()
		if over {
			return
		}
		for _, e := range batch {
			p.apply(e.tell(p.engine, p.b.now()), e.wait)
			e.wait.end(outcome{})
			if p.engine.Commands() != *p.commands.Load() {
				n := p.engine.Commands()
				p.commands.Store(&n)
			}
			p.underWay.Add(-1)
		}
		p.arm()
	}
}

// arm sets the timer to when the engine has something to do.
func (p *mapper) arm() {
	next := p.engine.Next()
	if next == 0 {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return
	}
	d := max(time.Duration(next-p.b.now())*time.Millisecond, time.Millisecond)
	if p.timer == nil {
		p.timer = time.AfterFunc(d, p.tick)
		return
	}
	p.timer.Reset(d)
}

func (p *mapper) tick() {
	p.post(occurrence{tell: func(e *mapping.Engine, now int64) *mapping.Effects { return e.Tick(now) }})
}

// close does what is queued and ends.
func (p *mapper) close() {
	if p == nil {
		return
	}
	p.mu.Lock()
	p.closed = true
	for _, t := range []*time.Timer{p.timer, p.looks} {
		if t != nil {
			t.Stop()
		}
	}
	p.work.Broadcast()
	p.room.Broadcast()
	p.mu.Unlock()
	p.wg.Wait()
}

// connected tells of a connection that has a session now. The client's mutex may be held.
func (p *mapper) connected(c *conn) {
	if p.unheard() {
		return
	}
	in := c.mappingSession()
	p.tell(HappeningConnection, func(e *mapping.Engine, _ int64) *mapping.Effects { return e.Connected(in) })
}

// disconnected tells of the end of a connection. will says that the server sends its will, now or later.
func (p *mapper) disconnected(c *conn, will, byClient bool) {
	if p.unheard() {
		return
	}
	in := c.mappingSession()
	p.tell(HappeningConnection, func(e *mapping.Engine, now int64) *mapping.Effects {
		if will {
			e.Forget(in)
			return &mapping.Effects{}
		}
		return e.Disconnected(in, byClient, now)
	})
}

func (c *conn) mappingSession() mapping.Session {
	in := mapping.Session{Client: c.clientID, User: c.username, Epoch: uint64(c.versionNumber)}
	if c.will != nil {
		in.Will = c.will.message.Topic
	}
	return in
}

// source is what mappings know of a message that the connection publishes.
func (c *conn) source(m *wire.Message) mapping.Message {
	return mapping.Message{
		Topic: m.Topic, Payload: m.Payload, Retain: m.Retain, Client: c.clientID, User: c.username, Epoch: uint64(c.versionNumber),
		Principal: known(c.principal),
	}
}

// hasSubscribed tells of new subscriptions.
func (p *mapper) hasSubscribed(filters []string) {
	if p.unheard() {
		return
	}
	for _, f := range filters {
		p.tell(HappeningSubscription, func(e *mapping.Engine, now int64) *mapping.Effects { return e.Subscribed(f, now) })
	}
}

// subscribed is for the engine: whether somebody subscribes to a topic, other than to everything.
func (p *mapper) subscribed(name, only string) bool {
	entries := p.b.match(name, nil)
	defer p.b.unmatch(entries)
	for i := range *entries {
		c := (*entries)[i].Subscriber
		if (only == "" || c.id == only) && c.means(name) {
			return true
		}
	}
	return false
}

// means reports whether one of the client's subscriptions to a topic is more than one to everything.
func (c *client) means(name string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	for s := range c.sess.Subscriptions("") {
		if _, plain, _, err := topic.ParseShare(s.Filter); err == nil && plain != "#" && topic.Match(plain, name) {
			return true
		}
	}
	return false
}

// updated tells of a change that the service has committed.
func (b *Broker) updated(m *things.Message) {
	c := m.Change()
	if c == nil || m.Kind != shadow.KindDocuments && (m.Kind != shadow.KindAccepted || m.Op != shadow.OpDelete) {
		return
	}
	if b.native && m.ID.Name == "" {
		b.mirror(m.ID.Thing, c)
	}
	b.rehearse(Happening{kind: HappeningChange, id: m.ID, change: c})
	if b.mapper.idle() {
		return
	}
	id := m.ID
	b.mapper.post(occurrence{tell: func(e *mapping.Engine, now int64) *mapping.Effects { return e.Update(id, c, now) }})
}

// start begins the work of the mappings: what the last run has retained is told, then the wills that send sends.
func (b *Broker) startMappings(send func()) {
	p := b.mapper
	if p != nil {
		p.wg.Add(1)
		go p.run()
	}
	if !p.idle() || b.native {
		b.replayRetained()
	}
	send()
	p.post(occurrence{tell: func(e *mapping.Engine, now int64) *mapping.Effects { return e.Started(now) }})
	if p != nil && b.things.Shared() {
		p.look()
	}
}

// replayRetained tells of the retained messages, in the order of their topics.
func (b *Broker) replayRetained() {
	for m := range b.retainedMessages {
		b.mapped(m, outcome{}, func(outcome, bool) {})
	}
}

// retainedMessages yields the retained messages as mappings are told of them, in the order of their topics.
func (b *Broker) retainedMessages(yield func(mapping.Message) bool) {
	for after := ""; ; {
		page := b.retained.Match("#", after, scanPage, b.now())
		for _, m := range page.Messages {
			if !yield(mapping.Message{Topic: m.Topic, Payload: m.Payload, Retain: true, Replayed: true, Client: m.Publisher}) {
				return
			}
		}
		if after = page.Next; page.Done {
			return
		}
	}
}

// mappingAuthor is who writes what mappings report: a mapping, for the client whose message has brought it about.
func mappingAuthor(principal, client string) shadow.Author {
	return shadow.Author{Channel: "mapping", Principal: principal, ClientID: client}
}

// awaitMappings waits until the mappings have done everything that has happened until now.
func (b *Broker) awaitMappings(ctx context.Context) error {
	if b.mapper == nil {
		return nil
	}
	for b.mapper.underWay.Load() > 0 {
		select {
		case <-ctx.Done():
			return fmt.Errorf("broker: mappings are at work: %w", context.Cause(ctx))
		case <-time.After(time.Millisecond):
		}
	}
	return nil
}
