package broker

import (
	"log/slog"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"

	"github.com/umbra-iot/umbra/internal/quota"
)

// paceStep is the longest pause of a reader, after which it looks whether its connection has ended.
const paceStep = 100 * time.Millisecond

// slowDown waits until the client may publish again, by what it has published itself, and by what its principal has. A
// second's worth may come at once.
func (c *conn) slowDown(size int) {
	own := max(quota.Cost(1, c.limits.MessageRate), quota.Cost(size, c.limits.ByteRate))
	all := max(quota.Cost(1, c.limits.Principal.Messages), quota.Cost(size, c.limits.Principal.Bytes))
	if own == 0 && all == 0 {
		return
	}
	now := time.Now()
	wait, _ := c.pace.Spend(own, quota.Forever, now)
	together, _ := c.b.quotas.Spend(c.owner, quota.Messages, all, quota.Forever, now)
	c.pause(max(wait, together))
}

// pause has the reader wait, unless the connection ends.
func (c *conn) pause(wait time.Duration) {
	if wait <= 0 {
		return
	}
	c.out.flush() // what was acknowledged is not held back
	for wait > 0 && c.cause.Load() == nil {
		step := min(wait, paceStep)
		<-time.After(step)
		wait -= step
	}
}

// awaitTurn waits until the principal, and whoever has the client id, may connect again. That takes no longer than a
// CONNECT may: else it is refused.
func (c *conn) awaitTurn() packets.Code {
	l, now := c.limits, time.Now()
	wait, ok := c.b.quotas.Spend(c.owner, quota.Connects, quota.Cost(1, l.Principal.Connects), l.ConnectTimeout, now)
	if cl := c.b.clients.get(c.clientID); ok && cl != nil {
		var again time.Duration
		again, ok = cl.awaitTurn(c.owner, quota.Cost(1, l.ClientConnects), l.ConnectTimeout, now)
		wait = max(wait, again)
	}
	if !ok {
		c.tell(slog.LevelWarn, "connection refused: connects too often", "principal", c.principal.String())
		return packets.ErrConnectionRateExceeded
	}
	c.pause(wait)
	return packets.CodeSuccess
}

// awaitTurn counts a CONNECT with the client's id. Those of somebody else hold nobody up.
func (c *client) awaitTurn(owner string, cost, patience time.Duration, now time.Time) (wait time.Duration, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.principal.Owner() != owner {
		return 0, true
	}
	return c.connects.Spend(cost, patience, now)
}

// Reserve is a budget of memory for clients that are not known yet.
type Reserve interface {
	Take(n int) bool
	Give(n int)
}

// freeConnect is the size of a CONNECT packet that is part of what each stranger may cost.
const freeConnect = 4 << 10

// reserve takes memory for the body of a packet of a stranger, and returns how to give it back. It returns
// nil when there is none left.
func (c *conn) reserve(n int) (release func()) {
	r := c.b.strangers
	if c.connected || r == nil || n <= freeConnect {
		return func() {}
	}
	if !r.Take(n) {
		return nil
	}
	return func() { r.Give(n) }
}
