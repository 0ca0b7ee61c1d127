package cases

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/umbra-iot/umbra/broker/mapping"
	"github.com/umbra-iot/umbra/shadow"
)

// server is what a mapping lives in: shadows, clients, subscriptions, virtual time.
type server struct {
	engine   *mapping.Engine
	now      int64
	epoch    uint64
	docs     map[shadow.ID]*shadow.Document
	clients  map[string]*client
	expected map[shadow.ID]uint64 // versions at the last expectations
	commands []mapping.Publish
	failures []mapping.Failure
}

type client struct {
	epoch   uint64
	user    string
	will    *Will
	filters []string
}

// Run runs a sequence and returns what is wrong with the first step that fails, nil when all is as
// expected. Without mappings those of the file are used.
func Run(f *File, s *Sequence, given []*mapping.Mapping) error {
	set, err := f.Set(s, given)
	if err != nil {
		return err
	}
	v := &server{
		now: 1_700_000_000_000, docs: map[shadow.ID]*shadow.Document{}, clients: map[string]*client{}, expected: map[shadow.ID]uint64{},
	}
	v.engine = mapping.New(set, mapping.Options{Subscribed: v.subscribed})
	started := false
	for i := range s.Steps {
		step := &s.Steps[i]
		if step.Do != "retained_at_start" && !started {
			started = true
			v.do(v.engine.Started(v.now))
		}
		if err := v.step(step); err != nil {
			return fmt.Errorf("step %d (%s): %w", i+1, step, err)
		}
	}
	if len(v.commands) > 0 {
		return fmt.Errorf("the end: a command that is not expected: %s", show(&v.commands[0]))
	}
	return nil
}

func (v *server) step(s *Step) error {
	switch s.Do {
	case "":
		return v.expect(s)
	case "connect":
		v.connect(s)
	case "publish":
		return v.publish(s)
	case "subscribe":
		v.client(s.Client).filters = append(v.client(s.Client).filters, s.Filter)
		v.do(v.engine.Subscribed(s.Filter, v.now))
	case "kill":
		return v.kill(s.Client)
	case "disconnect":
		if c := v.clients[s.Client]; c != nil {
			delete(v.clients, s.Client)
			v.do(v.engine.Disconnected(c.session(s.Client), true, v.now))
		}
	case "desired":
		return v.update(shadow.ID{Thing: s.Thing, Name: s.Shadow}, []byte(`{"state":{"desired":`+string(s.State)+`}}`))
	case "retained_at_start":
		topics := make([]string, 0, len(s.Messages))
		for t := range s.Messages {
			topics = append(topics, t)
		}
		slices.Sort(topics)
		for _, t := range topics {
			v.message(mapping.Message{Topic: t, Payload: []byte(s.Messages[t]), Retain: true, Replayed: true})
		}
	case "advance":
		v.advance(int64(s.Seconds * 1000))
	default:
		return fmt.Errorf("unknown step %q", s.Do)
	}
	return nil
}

func (c *client) session(id string) mapping.Session {
	in := mapping.Session{Client: id, User: c.user, Epoch: c.epoch}
	if c.will != nil {
		in.Will = c.will.Topic
	}
	return in
}

// client returns a client, which need not have said that it connects.
func (v *server) client(id string) *client {
	if v.clients[id] == nil {
		v.connect(&Step{Client: id})
	}
	return v.clients[id]
}

func (v *server) connect(s *Step) {
	v.epoch++
	c := &client{epoch: v.epoch, user: s.User, will: s.Will}
	old := v.clients[s.Client]
	v.clients[s.Client] = c
	v.do(v.engine.Connected(c.session(s.Client)))
	if old != nil && old.will != nil { // taken over
		v.sendWill(s.Client, old)
	}
}

func (v *server) kill(id string) error {
	c := v.clients[id]
	if c == nil {
		return errors.New("the client is not connected")
	}
	delete(v.clients, id)
	if c.will == nil {
		v.do(v.engine.Disconnected(c.session(id), false, v.now))
		return nil
	}
	v.engine.Forget(c.session(id))
	v.sendWill(id, c)
	return nil
}

func (v *server) sendWill(id string, c *client) {
	body, err := c.will.Bytes()
	if err != nil {
		return
	}
	v.message(mapping.Message{Topic: c.will.Topic, Payload: body, Retain: c.will.Retain, Will: true, Client: id, User: c.user, Epoch: c.epoch})
}

func (v *server) publish(s *Step) error {
	body, err := s.Bytes()
	if err != nil {
		return err
	}
	m := mapping.Message{Topic: s.Topic, Payload: body, Retain: s.Retain != nil && *s.Retain, Client: s.Client}
	if m.Client == "" && len(v.clients) == 1 { // nobody else can it have been
		for id := range v.clients {
			m.Client = id
		}
	}
	if c := v.clients[m.Client]; c != nil {
		m.User, m.Epoch = c.user, c.epoch
	}
	v.message(m)
	return nil
}

func (v *server) message(m mapping.Message) {
	if p := v.engine.Set().Prepare(m); p != nil {
		v.do(v.engine.Message(p, v.now))
	}
}

func (v *server) advance(ms int64) {
	end := v.now + ms
	for next := v.engine.Next(); next != 0 && next <= end; next = v.engine.Next() {
		v.now = max(v.now, next)
		v.do(v.engine.Tick(v.now))
	}
	v.now = end
}

// do does what the engine asks for.
func (v *server) do(e *mapping.Effects) {
	v.failures = append(v.failures, e.Failures...)
	for i := range e.Publish {
		if !e.Publish[i].Query {
			v.commands = append(v.commands, e.Publish[i])
		}
	}
	for _, r := range e.Reports {
		v.report(r)
	}
	for _, w := range e.Desired {
		if err := v.update(w.ID, w.Payload); err != nil {
			v.failures = append(v.failures, mapping.Failure{Code: mapping.CodeStore, Text: err.Error()})
		}
	}
	for _, d := range e.Deletes {
		id := d.ID
		if c, err := shadow.Delete(id, v.docs[id], "", v.now); err == nil {
			v.docs[id] = c.After
			v.do(v.engine.Update(id, c, v.now))
		}
	}
	for _, id := range e.Loads {
		v.do(v.engine.Document(id, v.docs[id], v.now))
	}
}

func (v *server) report(r *mapping.Report) {
	payload, refusal := r.Build(v.docs[r.ID])
	if refusal != nil {
		code := mapping.CodeDocLimit
		if refusal.Code == 404 {
			code = mapping.CodeUnknownThing
		}
		v.do(v.engine.Refused(r, code, refusal.Message))
		return
	}
	if payload == nil {
		return
	}
	if refused := v.update(r.ID, payload); refused != nil {
		v.do(v.engine.Refused(r, mapping.CodeDocLimit, refused.Error()))
	}
}

func (v *server) update(id shadow.ID, payload []byte) error {
	req, err := shadow.ParseUpdate(payload, shadow.Limits{})
	if err != nil {
		return fmt.Errorf("cases: %w", err)
	}
	c, err := shadow.Apply(v.docs[id], req, v.now, shadow.Limits{})
	if err != nil {
		return fmt.Errorf("cases: %w", err)
	}
	v.docs[id] = c.After
	v.do(v.engine.Update(id, c, v.now))
	return nil
}

// subscribed reports whether a client subscribes to a topic.
func (v *server) subscribed(topic, only string) bool {
	for id, c := range v.clients {
		if only != "" && id != only {
			continue
		}
		if slices.ContainsFunc(c.filters, func(f string) bool { return matches(f, topic) }) {
			return true
		}
	}
	return false
}

func matches(filter, topic string) bool {
	f, t := strings.Split(filter, "/"), strings.Split(topic, "/")
	for i, l := range f {
		switch {
		case l == "#":
			return true
		case i >= len(t) || l != "+" && l != t[i]:
			return false
		}
	}
	return len(f) == len(t)
}
