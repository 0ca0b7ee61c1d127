package broker

import (
	"runtime"
	"slices"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"

	"github.com/umbra-iot/umbra/broker/topic"
	"github.com/umbra-iot/umbra/broker/wire"
	"github.com/umbra-iot/umbra/things"
)

// Publish hands a message of the shadow service to its subscribers. It
// implements [things.Publisher]: it waits for no client, and asks for the
// payload only if somebody gets it.
func (b *Broker) Publish(m *things.Message) {
	if !b.mapper.idle() || b.native {
		defer b.updated(m)
	}
	entries := b.match(m.Topic, nil)
	if len(*entries) > 0 {
		b.fanOut(wire.NewMessage(wire.Message{Topic: m.Topic, Payload: m.Payload(), QoS: 1}), *entries, m)
	}
	b.unmatch(entries)
}

// route keeps m if it is retained and hands it to all who subscribe. It is the
// one way of a message that is not the service's, whoever sends it. from is the
// publishing client, for NoLocal, nil when it is none.
func (b *Broker) route(m *wire.Message, from *client) outcome {
	if !m.Retain {
		return b.deliverTo(m, b.matchPatiently(m.Topic, from))
	}
	entries := b.match(m.Topic, from)
	o := b.admit(m, *entries)
	b.unmatch(entries)
	if o.code >= wire.ReasonFailure {
		return o
	}
	if err := b.retain(m); err != nil {
		return outcome{code: packets.ErrQuotaExceeded.Code, text: err.Error()}
	}
	o = b.deliver(m, from)
	o.waits = b.journal != nil
	return o
}

// deliver is route without retaining.
func (b *Broker) deliver(m *wire.Message, from *client) outcome {
	return b.deliverTo(m, b.match(m.Topic, from))
}

// deliverTo is deliver to what match has returned, which it gives back.
func (b *Broker) deliverTo(m *wire.Message, entries *[]topic.Entry[*client]) outcome {
	defer b.unmatch(entries)
	if len(*entries) == 0 {
		return outcome{}
	}
	o := b.admit(m, *entries)
	if o.code < wire.ReasonFailure && b.fanOut(m, *entries, nil) && b.limits.QueueRefuses {
		return queueFull
	}
	return o
}

// queueFull is the outcome of a publish that a subscriber's session has no room for.
var queueFull = outcome{code: packets.ErrQuotaExceeded.Code, text: "the queue of a subscriber is full", lost: true}

// admit says whether m can be taken, and whether it has to be stored: for a
// session that outlives its connection, or as retained message.
func (b *Broker) admit(m *wire.Message, entries []topic.Entry[*client]) (o outcome) {
	o.waits = m.Retain
	for i := range entries {
		e := &entries[i]
		if min(m.QoS, e.QoS) == 0 || !e.Subscriber.persistent.Load() {
			continue
		}
		o.waits = true
		if b.limits.QueueRefuses && !e.Subscriber.roomFor(m, b.now()) {
			return queueFull
		}
	}
	o.waits = o.waits && b.journal != nil
	if o.waits && b.journal.Err() != nil {
		return unstored
	}
	return o
}

// match returns who gets a message on a topic. Give the slice back with unmatch.
func (b *Broker) match(name string, from *client) *[]topic.Entry[*client] {
	entries := b.routes.Get().(*[]topic.Entry[*client]) //nolint:forcetypeassert // nothing else is in the pool
	if b.guard == nil {
		*entries = b.index.Append((*entries)[:0], name, b.isLive)
	} else {
		allowed := func(c *client) bool { return c.mayReceive(name) }
		*entries = b.index.Append((*entries)[:0], name, func(c *client) bool { return b.isLive(c) && allowed(c) }, allowed)
		*entries = slices.DeleteFunc(*entries, func(e topic.Entry[*client]) bool { return !allowed(e.Subscriber) })
	}
	if len(*entries) > 1 || from != nil {
		*entries = topic.Merge(*entries, from)
	}
	return entries
}

// matchPatiently is match for the message of a client. Where nobody would get it, it looks again after the readers that
// are ready have had their turn: of connections that have become readable together Go's runtime wakes the last one first,
// and a SUBSCRIBE that was sent before the message is to count, although its sender did not wait for the SUBACK.
func (b *Broker) matchPatiently(name string, from *client) *[]topic.Entry[*client] {
	entries := b.match(name, from)
	if len(*entries) > 0 || from == nil {
		return entries
	}
	b.unmatch(entries)
	runtime.Gosched()
	return b.match(name, from)
}

func (b *Broker) unmatch(entries *[]topic.Entry[*client]) {
	clear(*entries)
	b.routes.Put(entries)
}

// fanOut hands m to the sessions and connections of its subscribers. source is
// the message of the shadow service that m carries, nil for others. It reports
// whether it was dropped for want of room in a session.
func (b *Broker) fanOut(m *wire.Message, entries []topic.Entry[*client], source *things.Message) (full bool) {
	now := b.now()
	for i := range entries {
		if entries[i].Subscriber.deliver(m, &entries[i], source, now) {
			full = true
		}
	}
	return full
}

// retain keeps m as the retained message of its topic, until it expires.
func (b *Broker) retain(m *wire.Message) error {
	now := b.now()
	if m.Fleeting {
		now = m.Expires // nobody can ask for it in time
	}
	if err := b.retained.Set(m, now); err != nil {
		return err //nolint:wrapcheck // the text is the reason string
	}
	b.kept.changed()
	if m.Expires != 0 {
		b.awaitExpiry()
	}
	return nil
}

// expiryStep bounds how many retained messages are removed at a time.
const expiryStep = 256

// expireRetained removes the retained messages that have expired.
func (b *Broker) expireRetained() {
	if !b.begin() {
		return
	}
	defer b.tasks.Done()
	for more := true; more; {
		more = b.retained.Expire(b.now(), expiryStep) == expiryStep
	}
	b.kept.changed()
	b.awaitExpiry()
}

// awaitExpiry sets the timer for the next retained message that expires.
func (b *Broker) awaitExpiry() {
	at, ok := b.retained.NextExpiry()
	if !ok {
		return
	}
	wait := time.Duration(at-b.now()) * time.Millisecond
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closing {
		return
	}
	if b.expiry != nil {
		b.expiry.Stop()
	}
	b.expiry = time.AfterFunc(wait, b.expireRetained)
}
