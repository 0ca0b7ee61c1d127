package broker

import (
	"github.com/umbra-iot/umbra/broker/session"
	"github.com/umbra-iot/umbra/broker/topic"
)

// What a session that ends has got by a shared subscription goes to another member (MQTT 5, 4.8.2). The one stops
// holding a message in the same commit in which the other begins to.

// bequeath ends the subscriptions of a session that ends, and puts what other members get into the aftermath. It
// reports whether more of that has to be read from the store first, after which settle comes again. mu is held.
func (c *client) bequeath(a *aftermath) (more bool) {
	c.dropSubscriptions()
	a.heirs = append(a.heirs, c.sess.Bequeath()...)
	keys := c.sess.SpilledShared(fetchMessages, fetchBytes)
	c.fetch(keys)
	return len(keys) > 0
}

// passOn hands a message to a member of the shared subscription that it came by: one that is connected, or else one
// whose session stays. At the end of the server only the latter have use for it. No client mutex is held.
func (b *Broker) passOn(d session.Delivery) {
	may := func(wish topic.Wish[*client]) topic.Wish[*client] {
		return func(e *topic.Entry[*client]) bool { return wish(e) && e.Subscriber.mayReceive(d.Message.Topic) }
	}
	wishes := []topic.Wish[*client]{may(isThere), may(keeps)}
	if b.isClosing() {
		wishes = wishes[1:]
	}
	if e, ok := b.index.Member(d.Share, wishes...); ok {
		e.Subscriber.deliver(d.Message, &e, occasion{}, b.now())
	}
}
