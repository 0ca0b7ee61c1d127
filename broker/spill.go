package broker

import (
	"context"
	"slices"
	"time"

	"github.com/umbra-iot/umbra/broker/session"
	"github.com/umbra-iot/umbra/broker/wire"
)

// Messages that wait for a client that is away or slow are in the store and, as far as Limits.QueueMemory allows, in
// memory too. The rest comes back from the store piece by piece when the client can take it.
const (
	spillKeep     = 64      // messages of a connected client that stay in memory
	fetchMessages = 64      // that come back at a time
	fetchBytes    = 1 << 20 // about so many
	fetchTimeout  = 5 * time.Second
	fetchPause    = time.Second // after a failure
)

// account keeps the sums of what all sessions, and those of a principal, hold. mu is held.
func (c *client) account() {
	held := c.sess.Bytes()
	spilled := held - c.sess.Resident()
	if c.gone {
		held, spilled = 0, 0
	}
	if held != c.held {
		c.b.held.Add(held - c.held)
		c.chargeBytes(held - c.held)
		c.held = held
	}
	if spilled != c.spilled {
		c.b.spilled.Add(spilled - c.spilled)
		c.spilled = spilled
	}
	if n := c.sess.SubscriptionCount(); n != c.charged.subscriptions {
		c.chargeSubscriptions(n)
	}
}

// liveShare is what the session of a client that is connected may hold, however much others hold: those who are away
// must not keep messages from those who are there.
const liveShare = 64 << 10

// spare returns how many more bytes the session may hold because of what all have, and its principal. mu is held.
func (c *client) spare() int64 {
	own := c.sess.Bytes()
	unaccounted := own - c.held
	left := c.b.limits.QueueTotal - c.b.held.Load() - unaccounted
	if bytes := c.charged.bytes; bytes != nil {
		left = min(left, c.b.limits.PrincipalQueueBytes-bytes.Load()-unaccounted)
	}
	if c.live {
		left = max(left, liveShare-own)
	}
	return left
}

// spill leaves messages to the store if there are too many in memory. mu is held.
func (c *client) spill() {
	c.account()
	if c.b.held.Load()-c.b.spilled.Load() <= c.b.limits.QueueMemory {
		return
	}
	keep := 0
	if c.live {
		keep = spillKeep
	}
	c.sess.Spill(keep)
}

// fetching is messages on their way from the store.
type fetching struct {
	done   chan struct{} // closed at the end
	failed bool          // it will be tried again after a pause; guarded by client.mu
}

// fetch has messages of the session brought back by the keys of their items, unless some are on their way. mu is held.
func (c *client) fetch(keys [][]byte) {
	if c.fetching != nil || len(keys) == 0 || !c.b.begin() {
		return
	}
	f := &fetching{done: make(chan struct{})}
	c.fetching = f
	sessionID := c.sessionID
	go func() {
		defer c.b.tasks.Done()
		defer close(f.done)
		values, err := c.b.stored(c.id, keys)
		c.goOn(func() {
			if c.sessionID != sessionID {
				c.fetching = nil // the keys mean something else by now
				return
			}
			if err == nil {
				err = c.sess.Supply(keys, values)
			}
			if err == nil {
				c.fetching = nil
				return
			}
			c.b.log.Error("cannot read messages that wait for a client", "err", err, "client_id", c.id)
			f.failed = true
			time.AfterFunc(fetchPause, c.fetchAgain)
		})
	}()
}

// fetchAgain ends the pause after a failed fetch.
func (c *client) fetchAgain() {
	if c.b.begin() {
		defer c.b.tasks.Done()
		c.goOn(func() { c.fetching = nil })
	}
}

// goOn does what brings messages back, and then what they were needed for: they are delivered, or, when the session
// is over, left to others. Where nothing was left to deliver, a scan goes on that no acknowledgement will take up.
func (c *client) goOn(do func()) {
	var k *conn
	c.b.together(func(a *aftermath) {
		c.mu.Lock()
		defer c.unlock()
		do()
		now := c.b.now()
		c.pump(now, false)
		c.settle(now, a)
		k = c.conn
	})
	if k != nil {
		c.scanOn(k, false)
	}
}

// stored returns the values of items of a session.
func (b *Broker) stored(clientID string, keys [][]byte) ([][]byte, error) {
	ctx, cancel := context.WithTimeout(context.Background(), fetchTimeout)
	defer cancel()
	return b.store.Get(ctx, spaceSessions, clientID, keys) //nolint:wrapcheck // it says what failed
}

// spilledOn calls fn with the messages on a topic that are only in the store, from the last one back, until it returns
// false. Where the store does not answer there are none. mu is held.
func (c *client) spilledOn(topic string, fn func(*wire.Message) bool) {
	keys := c.sess.SpilledOn(topic)
	slices.Reverse(keys)
	for page := range slices.Chunk(keys, fetchMessages) {
		values, err := c.b.stored(c.id, page)
		if err != nil {
			c.b.log.Warn("cannot read messages that wait for a client", "err", err, "client_id", c.id)
			return
		}
		for _, value := range values {
			d, err := session.ParseDelivery(value)
			if err == nil && d.Message.Topic == topic && !fn(d.Message) {
				return
			}
		}
	}
}
