package broker

import (
	"log/slog"
	"sync/atomic"

	"github.com/umbra-iot/umbra/internal/quota"
)

// charged is what the account of a principal has of a client.
type charged struct {
	owner         string // "" for nobody in particular
	subscriptions int
	bytes         *atomic.Int64 // of all sessions of the owner; those of this one in it are client.held. Nil without an owner
}

// mayHave takes a connection and the session of cl for the principal, unless he has as many as he may. The mutex of cl is
// held.
func (c *conn) mayHave(cl *client) bool {
	most := &c.limits.Principal
	if !c.b.quotas.Take(c.owner, quota.Connections, 1, most.Connections) {
		c.tell(slog.LevelWarn, "connection refused: the principal has too many", "principal", c.principal.String())
		return false
	}
	if !cl.charge(c.owner, most.Sessions) {
		c.b.quotas.Give(c.owner, quota.Connections, 1)
		c.tell(slog.LevelWarn, "connection refused: the principal has too many sessions", "principal", c.principal.String())
		return false
	}
	return true
}

// charge makes the session one of an owner, who may have most of them; 0 is no bound. False means that he has: nothing
// has changed then. mu is held.
func (c *client) charge(owner string, most int) bool {
	if owner == c.charged.owner {
		return true
	}
	if !c.b.quotas.Take(owner, quota.Sessions, 1, most) {
		return false
	}
	c.b.quotas.Take(owner, quota.Subscriptions, c.charged.subscriptions, 0)
	before := c.charged.owner
	c.chargeBytes(-c.held)
	c.charged.owner, c.charged.bytes = owner, c.b.quotas.Bytes(owner)
	c.chargeBytes(c.held)
	c.b.quotas.Give(before, quota.Subscriptions, c.charged.subscriptions)
	c.b.quotas.Give(before, quota.Sessions, 1)
	return true
}

// chargeBytes adds to the bytes of messages that wait. mu is held.
func (c *client) chargeBytes(n int64) {
	if c.charged.bytes != nil {
		c.charged.bytes.Add(n)
	}
}

// chargeSubscriptions takes over how many subscriptions the session has. mu is held.
func (c *client) chargeSubscriptions(n int) {
	if more := n - c.charged.subscriptions; more > 0 {
		c.b.quotas.Take(c.charged.owner, quota.Subscriptions, more, 0)
	} else if more < 0 {
		c.b.quotas.Give(c.charged.owner, quota.Subscriptions, -more)
	}
	c.charged.subscriptions = n
}

// chargeSubscription takes one more, unless the owner has most already; 0 is no bound. mu is held.
func (c *client) chargeSubscription(most int) bool {
	if !c.b.quotas.Take(c.charged.owner, quota.Subscriptions, 1, most) {
		return false
	}
	c.charged.subscriptions++
	return true
}
