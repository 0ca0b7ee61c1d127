package broker

import (
	"context"
	"math/rand/v2"
	"time"

	"github.com/umbra-iot/umbra/broker/session"
	"github.com/umbra-iot/umbra/broker/wire"
	"github.com/umbra-iot/umbra/shadow"
	"github.com/umbra-iot/umbra/things"
)

// once is a QoS 2 PUBLISH on its way to its PUBREC.
//
// The identifier and what an ordinary message brings about are stored together. A request changes a shadow, which is
// stored elsewhere: it gets a number, which is stored first with the identifier and then with the change. When nobody
// knows whether the change was made, after a crash or because the store did not answer, the history of the shadow tells.
type once struct {
	c         *conn
	id        uint16
	place     uint64
	sessionID string
	state     int
	asked     session.Request // zero where it does no harm to do it twice
}

// What a QoS 2 PUBLISH is.
const (
	stateGone     = iota // the session has another connection
	stateFirst           // new: to be processed
	stateWaiting         // a repetition of one that is under way
	stateDoubtful        // a repetition of a request whose outcome nobody knows
	stateRepeated        // a repetition of one that is done
)

// publishOnce takes a QoS 2 message. A repetition is acknowledged when its
// original is [MQTT-4.3.3-10].
func (c *conn) publishOnce(m *wire.Message, id uint16, t shadow.Topic, isRequest bool) bool {
	place, ok := c.acks.take(ackPubrec, id)
	if !ok {
		return false
	}
	p := &once{c: c, id: id, place: place}
	if isRequest && t.Op != shadow.OpGet && c.b.journal != nil && c.client.persistent.Load() {
		p.asked = session.Request{Number: newNumber(), Topic: m.Topic}
	}
	var o outcome
	c.b.journal.Group(func() {
		if p.take(); p.state == stateFirst && !isRequest {
			o = c.b.take(c.publisher(), m)
		}
	})
	switch {
	case p.state == stateGone:
		return false
	case p.state == stateFirst && isRequest:
		p.request(m, t)
	case p.state == stateFirst:
		c.b.mapped(c.source(m), o, func(o outcome, _ bool) { p.conclude(o) })
	case p.state == stateDoubtful:
		p.resolve(m, t)
	case p.state == stateRepeated:
		p.confirm(outcome{waits: true}, func() []ackPlace { return []ackPlace{{c, place}} })
	}
	return true
}

// take takes the packet identifier.
func (p *once) take() {
	p.c.client.withSession(p.c, func() {
		cl := p.c.client
		p.sessionID = cl.sessionID
		if !cl.sess.InboundRequest(p.id, p.asked) {
			p.state = stateFirst
			cl.waiting = put(cl.waiting, p.id, nil)
			return
		}
		p.c.acks.repeated(p.place)
		p.state = stateRepeated
		asked, doubtful := cl.sess.Requested(p.id)
		switch places, underWay := cl.waiting[p.id]; {
		case underWay:
			p.state = stateWaiting
			cl.waiting[p.id] = append(places, ackPlace{p.c, p.place})
		case doubtful:
			p.state, p.asked = stateDoubtful, asked
			cl.waiting = put(cl.waiting, p.id, nil)
		}
	})
}

// request makes the request that the message is, after its number is durable.
func (p *once) request(m *wire.Message, t shadow.Topic) {
	by := p.c.author()
	by.Request = p.asked.Number
	ask := func() {
		p.c.b.request(p.c.client, t, m, by, p.c.rights, func(_ *things.Result, o outcome) { p.conclude(o) })
	}
	if p.asked.Number == 0 {
		ask()
		return
	}
	p.c.b.journal.After(func(err error) {
		if err != nil {
			p.fail(m)
			return
		}
		ask()
	})
}

// doubtTimeout bounds the search for a request in the history of a shadow.
const doubtTimeout = 5 * time.Second

// resolve finds out whether the request was done, and makes it if not.
func (p *once) resolve(m *wire.Message, t shadow.Topic) {
	ctx, cancel := context.WithTimeout(context.Background(), doubtTimeout)
	defer cancel()
	switch done, err := p.c.b.done(ctx, p.asked); {
	case err != nil:
		p.fail(m)
	case done:
		p.conclude(outcome{})
	case !mayPublish(p.c.rights, m):
		p.conclude(denied())
	default:
		p.request(m, t)
	}
}

// fail ends the processing of a request that the store is not ready for.
func (p *once) fail(m *wire.Message) {
	p.c.b.reject(m, shadow.Error{Code: 500, Message: "Internal service failure"})
	p.conclude(unstored)
}

// conclude ends the processing. What failed may be sent again as a new message; what may or may not be done, by a
// client that cannot be told so, is repeated.
func (p *once) conclude(o outcome) {
	cl := p.c.client
	doubtful := o.lost && p.asked.Number != 0 && p.c.version < wire.V5
	switch {
	case doubtful:
	case o.code >= wire.ReasonFailure:
		cl.inSession(p.sessionID, func() { cl.sess.Release(p.id) })
	case p.asked.Number != 0:
		cl.inSession(p.sessionID, func() { cl.sess.Settle(p.id) })
	}
	o.waits = o.waits || cl.persistent.Load()
	p.confirm(o, func() []ackPlace {
		var places []ackPlace
		cl.inSession(p.sessionID, func() {
			places = cl.waiting[p.id]
			delete(cl.waiting, p.id)
		})
		return append(places, ackPlace{p.c, p.place})
	})
}

// confirm acknowledges with the outcome at all places where that waits, when it is durable. Where
// nobody knows whether it is, the connection ends, and the client repeats the PUBLISH.
func (p *once) confirm(o outcome, places func() []ackPlace) {
	if !o.waits {
		for _, at := range places() {
			at.c.answer(at.place, ackPubrec, o, false)
		}
		return
	}
	p.c.b.journal.After(func(err error) {
		for _, at := range places() {
			if err != nil {
				at.c.hangUp(storeFails())
				continue
			}
			at.c.answer(at.place, ackPubrec, o, false)
		}
	})
}

// inSession calls do with mu held if the client still has the session, where identifiers mean the same.
func (c *client) inSession(sessionID string, do func()) {
	c.mu.Lock()
	defer c.unlock()
	if c.sessionID == sessionID {
		do()
	}
}

// newNumber returns a number for a request.
func newNumber() uint64 { return rand.Uint64() | 1 }

// done reports whether a request was done.
func (b *Broker) done(ctx context.Context, asked session.Request) (bool, error) {
	t, ok := requestTopic(asked.Topic)
	if !ok {
		return false, nil
	}
	return b.things.Done(ctx, t.ID, asked.Number) //nolint:wrapcheck // it says what failed
}

// resolveAll finds out which of the requests that the last run had taken it has done, so that what comes again is not
// done again. It comes before the first connection.
func (b *Broker) resolveAll(ctx context.Context) error {
	for _, c := range b.clients.all() {
		if err := c.resolve(ctx); err != nil {
			return err
		}
	}
	return nil
}

func (c *client) resolve(ctx context.Context) error {
	c.mu.Lock()
	defer c.unlock()
	for id, asked := range c.sess.Requests() {
		done, err := c.b.done(ctx, asked)
		if err != nil {
			return err
		}
		if done {
			c.sess.Settle(id)
		} else {
			c.sess.Release(id)
		}
	}
	if c.will == nil || c.will.number == 0 || c.willAt == 0 {
		return nil
	}
	done, err := c.b.done(ctx, session.Request{Number: c.will.number, Topic: c.will.message.Topic})
	if err == nil && done {
		c.setWill(nil)
	}
	return err
}
