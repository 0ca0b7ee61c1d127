package broker

import (
	"context"
	"log/slog"
	"runtime"
	"slices"
	"strings"
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
		b.fanOut(wire.NewMessage(wire.Message{Topic: m.Topic, Payload: m.Payload(), QoS: 1}), *entries, occasion{source: m})
	}
	b.unmatch(entries)
}

// publisher is whose a message is that is not the service's. The zero value is the broker itself.
type publisher struct {
	client *client // for NoLocal; nil when it is none
	owner  string  // of the principal whose message it is when it is retained; "" for nobody in particular
}

// route keeps m if it is retained and hands it to all who subscribe. It is the
// one way of a message that is not the service's, whoever sends it.
func (b *Broker) route(m *wire.Message, from publisher) outcome {
	if !m.Retain {
		return b.deliverTo(m, b.matchPatiently(m.Topic, from.client))
	}
	entries := b.match(m.Topic, from.client)
	o := b.admit(m, *entries)
	b.unmatch(entries)
	if o.code >= wire.ReasonFailure {
		return o
	}
	if err := b.retain(m, from.owner); err != nil {
		b.notRetained(m, err)
		o.code, o.text = packets.ErrQuotaExceeded.Code, "delivered, but not retained: "+strings.TrimPrefix(err.Error(), "retained: ")
	}
	entries = b.match(m.Topic, from.client) // again: who has subscribed meanwhile may not have found it among the retained ones
	b.fanOut(m, *entries, admitted)
	b.unmatch(entries)
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
	if o.code < wire.ReasonFailure {
		b.fanOut(m, *entries, admitted)
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
		*entries = b.index.Append((*entries)[:0], name, isThere, keeps)
	} else {
		allowed := func(e *topic.Entry[*client]) bool { return e.Subscriber.mayReceive(name) }
		both := func(wish topic.Wish[*client]) topic.Wish[*client] {
			return func(e *topic.Entry[*client]) bool { return wish(e) && allowed(e) }
		}
		*entries = b.index.Append((*entries)[:0], name, both(isThere), both(keeps), allowed)
		*entries = slices.DeleteFunc(*entries, func(e topic.Entry[*client]) bool { return !allowed(&e) })
	}
	if len(*entries) > 1 || from != nil {
		*entries = topic.Merge(*entries, from)
	}
	return entries
}

// isThere and keeps are who is to have the messages of a shared subscription: a member that is connected, or else one
// for which they are kept.
func isThere(e *topic.Entry[*client]) bool { return e.Subscriber.online.Load() }

func keeps(e *topic.Entry[*client]) bool { return e.QoS > 0 && e.Subscriber.persistent.Load() }

// matchPatiently is match for the message of a client. Where nobody would get the first one that was read together, it
// looks again after the readers that are ready have had their turn: of connections that have become readable together Go's
// runtime wakes the last one first, and a SUBSCRIBE that was sent before the message is to count, although its sender did
// not wait for the SUBACK.
func (b *Broker) matchPatiently(name string, from *client) *[]topic.Entry[*client] {
	entries := b.match(name, from)
	if len(*entries) > 0 || from == nil || !from.woken.Swap(false) {
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

// occasion is why a message is handed to its subscribers.
type occasion struct {
	source   *things.Message // of the shadow service that the message carries, nil for others
	admitted bool            // its publisher is told that it was taken: admit has found room in the sessions that are stored
}

// admitted is the occasion of a message that admit has let in.
var admitted = occasion{admitted: true}

// fanOut hands m to the sessions and connections of its subscribers.
func (b *Broker) fanOut(m *wire.Message, entries []topic.Entry[*client], why occasion) {
	now := b.now()
	for i := range entries {
		entries[i].Subscriber.deliver(m, &entries[i], why, now)
	}
}

// notRetained tells the operator of a message that is not kept.
func (b *Broker) notRetained(m *wire.Message, err error) {
	b.count.notRetained.Add(1)
	b.quiet.Log(context.Background(), slog.LevelWarn, "retained", "message is not retained", "topic", m.Topic, "client_id", m.Publisher, "reason", err)
}

// retain keeps m as the retained message of its topic, until it expires.
func (b *Broker) retain(m *wire.Message, owner string) error {
	now := b.now()
	if m.Fleeting {
		now = m.Expires // nobody can ask for it in time
	}
	if err := b.retained.Set(m, owner, now); err != nil {
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
