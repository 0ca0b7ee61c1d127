package gate

import (
	"bytes"
	"context"
	"errors"
	"net"
	"net/http"
)

// What clients send becomes memory before anybody knows who they are: each byte twice, where it is read into and in what is
// made of it, and each line of the headers of a request a string, a slice and an entry of a map.
const (
	byteCosts = 2
	lineCosts = 128
)

// freeReading is memory for what was read that is part of what every connection costs.
const freeReading = 16 << 10

// Need returns how large a [Budget] has to be for a client that sends so many bytes, of a header of HTTP in few lines or of a
// TLS handshake.
func Need(bytes int) int { return strangerBytes + max(0, byteCosts*bytes-freeReading) }

// readAhead is how much net/http gets at once for its buffer, which has httpBuffer bytes. So of what a client sends before it
// has the answer to its last request, and which counts nowhere, there is no more.
const (
	httpBuffer = 4 << 10
	readAhead  = 1 << 10
)

// reading is what was read of a client that has to prove who it is.
type reading struct {
	headers bool // of a request of HTTP are read now
	size    int  // the memory that becomes of them
	tls     int  // bytes that TLS has taken since it gave some out
}

// Read implements [net.Conn]. What it reads of a client that has to prove who it is counts in the budget: of HTTP the
// headers of each request, see [Follow].
func (c *Conn) Read(b []byte) (int, error) {
	if c.forHTTP && len(b) <= httpBuffer {
		b = b[:min(len(b), readAhead)]
	}
	n, err := c.Conn.Read(b)
	if n == 0 {
		return n, err
	}
	c.reading.tls = 0
	if c.reading.headers {
		c.reading.size += byteCosts*n + lineCosts*bytes.Count(b[:n], []byte("\n"))
		if err := c.pay(); err != nil {
			return 0, err
		}
	}
	return n, err
}

// Follow takes note of what an [http.Server] does with a connection of [Gate.HTTP]: it is the server's ConnState. While the
// headers of a request are read its client has to prove who it is, again if it has done so before.
func Follow(conn net.Conn, s http.ConnState) {
	c, ok := conn.(*Conn)
	if !ok {
		return
	}
	switch s {
	case http.StateActive: // the headers are read
		c.wake()
	case http.StateIdle:
		c.rest()
	case http.StateHijacked:
		c.forHTTP, c.reading.headers = false, false
	case http.StateNew, http.StateClosed:
	}
}

// rest is for a connection whose request has been answered: what the request has cost is free again.
func (c *Conn) rest() {
	c.reading.headers, c.reading.size = true, 0
	c.gate.mu.Lock()
	defer c.gate.mu.Unlock()
	c.counts.Store(true)
	c.gate.Budget.Give(c.paid)
	c.paid = 0
	if c.standing == known {
		c.become(idle)
	}
}

// wake ends what rest began.
func (c *Conn) wake() {
	c.reading.headers = false
	c.gate.mu.Lock()
	defer c.gate.mu.Unlock()
	if c.standing == idle {
		c.become(known)
	}
}

// beneath is what TLS reads from.
type beneath struct {
	net.Conn
	of *Conn
}

// Read implements [net.Conn]. A handshake gets no more than is left of its bound; what TLS takes after it is bounded by the
// size of a record.
func (b *beneath) Read(p []byte) (int, error) {
	r := &b.of.reading
	if b.of.tls == nil {
		left := b.of.gate.HandshakeBytes - r.tls
		if left <= 0 {
			return 0, errHandshake
		}
		p = p[:min(len(p), left)]
	}
	n, err := b.Conn.Read(p)
	r.tls += n
	if perr := b.of.pay(); perr != nil {
		return 0, perr
	}
	return n, err
}

// pay takes of the budget what has been read meanwhile, if that is more than is free. A client that was known is a stranger
// then, until it proves itself again.
func (c *Conn) pay() error {
	size := c.reading.size + byteCosts*c.reading.tls
	if size <= freeReading || !c.counts.Load() {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), c.gate.Handshake)
	defer cancel()
	if !c.owe(ctx, &c.paid, size-freeReading) {
		return errNoRoom
	}
	return nil
}

// owe takes of the budget what *kept is less than n, and makes c a stranger that has just come if it is none. False means that c is closed, that
// there never is so much, or that ctx has ended before there was room. *kept is guarded by Gate.mu.
func (c *Conn) owe(ctx context.Context, kept *int, n int) bool {
	g := c.gate
	g.mu.Lock()
	need, dues := max(0, n-*kept), strangerBytes
	all := c.reserved + c.paid + need + strangerBytes
	if c.standing == stranger {
		dues = 0
	}
	g.mu.Unlock()
	if !g.Budget.fits(all) || !g.makeRoom(need+dues, c, ctx.Done()) {
		return false
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	switch _, open := g.open[c]; {
	case !open:
		g.Budget.Give(need + dues)
		return false
	case c.standing == stranger:
		g.Budget.Give(dues)
	case dues == 0: // it has proved itself meanwhile
		g.Budget.Give(need)
		return true
	default:
		c.become(stranger)
		c.counts.Store(true)
	}
	*kept += need
	return true
}

var (
	errHandshake = errors.New("gate: TLS handshake of too many bytes")
	errNoRoom    = errors.New("gate: no memory is left for what the client sends")
)
