package broker

import (
	"errors"
	"io"
	"log/slog"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"

	"github.com/umbra-iot/umbra/broker/presence"
	"github.com/umbra-iot/umbra/broker/wire"
	"github.com/umbra-iot/umbra/internal/auth"
	"github.com/umbra-iot/umbra/internal/quota"
)

// conn is one network connection.
//
// The fields of the CONNECT packet are written by the reading goroutine before
// other goroutines know of the connection.
type conn struct {
	net.Conn
	b      *Broker
	out    outbox
	limits *Limits // of its listener

	// From the CONNECT packet.
	connected     bool // a CONNECT packet came
	clientID      string
	username      string          // as shown, for mappings
	principal     *auth.Principal // nil for nobody in particular
	owner         string          // of the principal, "" for nobody in particular
	link          *auth.Link      // for the rights; nil where nobody is asked who he is
	rights        auth.Rights     // nil: everything is allowed
	assignedID    bool
	version       wire.Version
	cleanStart    bool
	expiry        uint32        // seconds that the session gets
	askedExpiry   uint32        // seconds that the client asked for
	keepAlive     time.Duration // in force, 0 for none
	askedAlive    time.Duration
	receiveMax    uint16
	packetMax     uint32  // 0 for no limit
	noProblem     bool    // the client wants no reason strings
	toClient      aliases // guarded by client.mu
	will          *will
	client        *client           // nil until the CONNECT is accepted
	present       bool              // the session was there before
	stored        bool              // what the CONNECT has changed has to be stored
	versionNumber int64             // of events
	presence      *presence.Session // nil when no presence is kept
	expiring      *time.Timer       // of the credential, nil when it does not expire; guarded by client.mu
	acknowledged  bool              // a CONNACK of success was written; guarded by client.mu

	acks    ackQueue
	aliases map[uint16]string // topic aliases of the client; of the reading goroutine
	shown   shown             // properties of the packet in hand; of the reading goroutine

	pace      quota.Meter
	armed     time.Time // read deadline that is set, after the CONNECT packet
	unlimited bool      // there is none

	stopping sync.WaitGroup
	cause    atomic.Pointer[cause]
}

// cause is why a connection ends.
type cause struct {
	code     byte   // reason code for DISCONNECT, 0 for none to be sent
	text     string // reason string
	reason   string // disconnectReason of the event
	noWill   bool   // the will is not sent
	byClient bool
}

// The disconnectReason of an event, as AWS names them.
const (
	reasonClient    = "CLIENT_INITIATED_DISCONNECT"
	reasonError     = "CLIENT_ERROR"
	reasonLost      = "CONNECTION_LOST"
	reasonDuplicate = "DUPLICATE_CLIENTID"
	reasonKeepAlive = "MQTT_KEEP_ALIVE_TIMEOUT"
	reasonServer    = "SERVER_ERROR"
	reasonShutdown  = "SERVER_INITIATED_DISCONNECT"
	reasonAPI       = "API_INITIATED_DISCONNECT"
	reasonForbidden = "FORBIDDEN_ACCESS"
)

// storeFails is why a connection ends of which something cannot be stored. A DISCONNECT has no code of its own for that
// [MQTT-3.14.2-1].
func storeFails() cause {
	return cause{code: packets.ErrUnspecifiedError.Code, text: "the store fails", reason: reasonServer}
}

// handle runs a connection to its end.
func (b *Broker) handle(raw net.Conn) {
	c := b.newConn(raw)
	b.greet(c)
	defer c.finish() // also when a panic is on its way to the listener
	c.fail(causeOf(c.serve()))
}

// newConn has what handle is not to have on the stack, see conn.serve.
func (b *Broker) newConn(raw net.Conn) *conn {
	c := &conn{Conn: raw, b: b, limits: b.limitsOf(raw)}
	if c.limits != &b.limits {
		_ = raw.SetReadDeadline(time.Now().Add(c.limits.ConnectTimeout)) // in place of the listener's
	}
	c.out = outbox{
		raw: raw, pool: &b.buffers, timeout: c.limits.WriteTimeout, limit: c.limits.OutgoingBytes,
		drained: c.drained, written: func(n int) { b.count.bytesOut.Add(int64(n)) },
	}
	c.out.init()
	c.acks.init(c, int(c.limits.ReceiveMaximum))
	return c
}

// finish ends what the connection was part of, after its reader has ended.
func (c *conn) finish() {
	end := c.fail(cause{code: packets.ErrUnspecifiedError.Code, text: "internal error", reason: reasonServer}) // a panic
	if c.out.cutOff() {
		c.tell(slog.LevelInfo, "connection ended because the client reads nothing", "timeout", c.limits.WriteTimeout)
	}
	c.acks.stop()
	c.b.greeted(c)
	switch end.reason {
	case reasonError:
		c.tell(slog.LevelInfo, "connection ended for what the client sent", "reason", end.text)
	case reasonServer:
		c.tell(slog.LevelWarn, "connection ended because of the server", "reason", end.text)
	}
	if c.client != nil {
		c.client.detach(c, end)
	}
	if last := c.farewell(end); c.connected && end.code >= wire.ReasonFailure { // nobody else knows the connection now
		c.out.linger(last)
	} else {
		c.out.close(last)
	}
	c.stopping.Wait()
}

// farewell is the DISCONNECT packet for a cause, if one has to be sent.
func (c *conn) farewell(end *cause) []byte {
	if c.version < wire.V5 || !c.acknowledged || end.code < wire.ReasonFailure { // [MQTT-3.14.0-1]
		return nil
	}
	return wire.AppendDisconnect(nil, end.code, c.reasonString(end.text))
}

// fail notes why the connection ends, unless that is known already, and returns
// the cause that counts.
func (c *conn) fail(why cause) *cause {
	c.cause.CompareAndSwap(nil, &why)
	return c.cause.Load()
}

// stop ends the connection from outside. It does not wait: the reader wakes up
// when the last bytes are written. The caller holds the mutex of the client that
// the connection belongs to.
func (c *conn) stop(why cause) {
	last := c.farewell(c.fail(why))
	c.acks.stop()
	c.stopping.Go(func() { c.out.close(last) })
}

// cut is stop for a connection that belongs to no client yet; Broker.mu is held.
func (c *conn) cut(why cause) {
	c.fail(why)
	c.stopping.Go(func() { c.out.close(nil) })
}

// causeOf tells why reading from a connection has ended.
func causeOf(err error) cause {
	if err == nil {
		return cause{reason: reasonLost}
	}
	if code, ok := errors.AsType[packets.Code](err); ok {
		why := cause{code: code.Code, text: code.Reason, reason: reasonError}
		switch code {
		case packets.ErrServerUnavailable, packets.ErrServerBusy:
			why.reason = reasonServer
		case packets.ErrServerShuttingDown:
			why.reason = reasonShutdown
		}
		return why
	}
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded):
		return cause{code: packets.ErrKeepAliveTimeout.Code, text: packets.ErrKeepAliveTimeout.Reason, reason: reasonKeepAlive}
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, net.ErrClosed):
		return cause{reason: reasonLost}
	}
	if _, ok := errors.AsType[net.Error](err); ok {
		return cause{reason: reasonLost}
	}
	return cause{code: packets.ErrMalformedPacket.Code, text: packets.ErrMalformedPacket.Reason, reason: reasonError}
}

// reasonString returns text if the client takes reason strings [MQTT-3.1.2-29].
func (c *conn) reasonString(text string) string {
	const packet = 16 // what a packet with a reason string has besides
	if c.noProblem || c.packetMax != 0 && uint32(len(text)+packet) > c.packetMax {
		return ""
	}
	return text
}

// drained goes on delivering after the client was slow.
func (c *conn) drained() {
	if c.client != nil {
		c.client.resume(c)
	}
}
