package broker

import "time"

// paceStep is the longest pause of a reader, after which it looks whether its connection has ended.
const paceStep = 100 * time.Millisecond

// pace holds a client back that publishes faster than it may: it is not read
// from until its time has come. The zero value does not. It belongs to the reading
// goroutine.
type pace struct {
	due time.Time // when what was read until now may have come
}

// read counts a PUBLISH of a size, and returns how long to wait before the next
// packet. A second's worth may come at once.
func (p *pace) read(l *Limits, size int, now time.Time) time.Duration {
	var cost time.Duration
	if l.MessageRate > 0 {
		cost = time.Second / time.Duration(l.MessageRate)
	}
	if l.ByteRate > 0 {
		cost = max(cost, time.Duration(float64(size)/float64(l.ByteRate)*float64(time.Second)))
	}
	if burst := now.Add(-time.Second); p.due.Before(burst) {
		p.due = burst
	}
	p.due = p.due.Add(cost)
	return p.due.Sub(now)
}

// slowDown waits until the client may publish again.
func (c *conn) slowDown(size int) {
	l := &c.b.limits
	if l.MessageRate == 0 && l.ByteRate == 0 {
		return
	}
	wait := c.pace.read(l, size, time.Now())
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
