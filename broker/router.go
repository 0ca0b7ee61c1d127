package broker

import (
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
	if m.Retain {
		if err := b.retain(m); err != nil {
			return outcome{code: packets.ErrQuotaExceeded.Code, text: err.Error()}
		}
	}
	b.deliver(m, from)
	return outcome{}
}

// deliver is route without retaining.
func (b *Broker) deliver(m *wire.Message, from *client) {
	entries := b.match(m.Topic, from)
	if len(*entries) > 0 {
		b.fanOut(m, *entries, nil)
	}
	b.unmatch(entries)
}

// match returns who gets a message on a topic. Give the slice back with unmatch.
func (b *Broker) match(name string, from *client) *[]topic.Entry[*client] {
	entries := b.routes.Get().(*[]topic.Entry[*client]) //nolint:forcetypeassert // nothing else is in the pool
	*entries = b.index.Append((*entries)[:0], name, b.isLive)
	if len(*entries) > 1 || from != nil {
		*entries = topic.Merge(*entries, from)
	}
	return entries
}

func (b *Broker) unmatch(entries *[]topic.Entry[*client]) {
	clear(*entries)
	b.routes.Put(entries)
}

// fanOut hands m to the sessions and connections of its subscribers. source is
// the message of the shadow service that m carries, nil for others.
func (b *Broker) fanOut(m *wire.Message, entries []topic.Entry[*client], source *things.Message) {
	now := b.now()
	for i := range entries {
		entries[i].Subscriber.deliver(m, &entries[i], source, now)
	}
}

// retain keeps m as the retained message of its topic, until it expires.
func (b *Broker) retain(m *wire.Message) error {
	if err := b.retained.Set(m, b.now()); err != nil {
		return err //nolint:wrapcheck // the text is the reason string
	}
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
