package mqtttest

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"
)

// writeTimeout bounds a write to a server that does not read.
const writeTimeout = 30 * time.Second

// closeWait bounds how long Close waits for the server's end of a connection.
const closeWait = 5 * time.Second

// Options of a connection.
type Options struct {
	Version   byte          // V311 (default) or V5
	ClientID  string        // "" lets the server choose
	Keep      bool          // a persistent session: clean start off, expiry one hour
	KeepAlive time.Duration // 0 is none; the client sends no pings
	Will      *Message
	WillDelay time.Duration                               // in seconds; MQTT 5 only
	Username  string                                      // "" for none
	Password  string                                      // "" for none; needs a Username
	HoldAcks  bool                                        // leave QoS 1 and 2 messages unacknowledged
	Dial      func(ctx context.Context) (net.Conn, error) // default: TCP to the address of Dial
}

func (o Options) version() byte {
	if o.Version == 0 {
		return V311
	}
	return o.Version
}

// Refused is the error of a CONNACK with an error code.
type Refused struct{ Ack }

func (e *Refused) Error() string {
	return fmt.Sprintf("mqtttest: connection refused with code %#x %s", e.Code, e.Reason)
}

// Disconnected is the error of a connection that the server ended with an
// MQTT 5 DISCONNECT.
type Disconnected struct{ Ack }

func (e *Disconnected) Error() string {
	return fmt.Sprintf("mqtttest: disconnected with code %#x %s", e.Code, e.Reason)
}

// Client is a connection. Its methods may be called at the same time.
type Client struct {
	SessionPresent bool // the server kept a session of this client

	o       Options
	conn    net.Conn
	done    chan struct{}
	arrived chan struct{} // has an element when inbox changed

	mu      sync.Mutex // guards what follows and writes
	err     error
	nextID  uint16
	waiting map[uint16]chan Ack
	inbox   []Message
}

// Dial connects and waits for the CONNACK.
func Dial(ctx context.Context, addr string, o Options) (*Client, error) {
	dial := o.Dial
	if dial == nil {
		dial = func(ctx context.Context) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "tcp", addr)
		}
	}
	conn, err := dial(ctx)
	if err != nil {
		return nil, err
	}
	c := &Client{
		o: o, conn: conn, done: make(chan struct{}), arrived: make(chan struct{}, 1),
		waiting: make(map[uint16]chan Ack),
	}
	r := bufio.NewReader(conn)
	if err := c.handshake(ctx, r); err != nil {
		_ = conn.Close()
		return nil, err
	}
	go c.read(r)
	return c, nil
}

func (c *Client) handshake(ctx context.Context, r *bufio.Reader) error {
	deadline, ok := ctx.Deadline()
	if !ok {
		deadline = time.Now().Add(30 * time.Second)
	}
	if err := c.conn.SetReadDeadline(deadline); err != nil {
		return err
	}
	if _, err := c.conn.Write(AppendConnect(nil, c.o)); err != nil {
		return err
	}
	p, err := ReadPacket(r, nil)
	if err != nil {
		return fmt.Errorf("mqtttest: waiting for CONNACK: %w", err)
	}
	if p.Type() != TypeConnack {
		return fmt.Errorf("%w: packet type %d instead of CONNACK", errMalformed, p.Type())
	}
	present, ack, err := parseConnack(c.o.version(), p)
	if err != nil {
		return err
	}
	if ack.Code != 0 {
		return &Refused{ack}
	}
	c.SessionPresent = present
	return c.conn.SetReadDeadline(time.Time{})
}

// read handles what the server sends until the connection ends.
func (c *Client) read(r *bufio.Reader) {
	var err error
	for err == nil {
		var p Packet
		if p, err = ReadPacket(r, nil); err == nil {
			err = c.handle(p)
		}
	}
	_ = c.conn.Close()
	c.mu.Lock()
	c.err = err
	c.mu.Unlock()
	close(c.done)
}

func (c *Client) handle(p Packet) error {
	switch p.Type() {
	case TypePublish:
		return c.deliver(p)
	case TypePuback, TypePubcomp:
		ack, id, err := parseAck(c.o.version(), p)
		c.acknowledge(id, ack)
		return err
	case TypePubrec:
		ack, id, err := parseAck(c.o.version(), p)
		if ack.Code >= 0x80 {
			c.acknowledge(id, ack)
			return err
		}
		return errors.Join(err, c.Write(AppendAck(nil, TypePubrel, id)))
	case TypePubrel:
		_, id, err := parseAck(c.o.version(), p)
		return errors.Join(err, c.Write(AppendAck(nil, TypePubcomp, id)))
	case TypeSuback:
		ack, id, err := parseSuback(c.o.version(), p)
		c.acknowledge(id, ack)
		return err
	case TypePingresp:
		return nil
	case TypeDisconnect:
		return &Disconnected{parseDisconnect(p)}
	default:
		return fmt.Errorf("%w: packet type %d", errMalformed, p.Type())
	}
}

// deliver acknowledges a message before anybody sees it, so that what a test
// has received is not sent again after it closed the connection.
func (c *Client) deliver(p Packet) error {
	m, id, err := ParsePublish(c.o.version(), p)
	if err != nil {
		return err
	}
	if m.QoS > 0 && !c.o.HoldAcks {
		typ := TypePuback
		if m.QoS == 2 {
			typ = TypePubrec
		}
		err = c.Write(AppendAck(nil, typ, id))
	}
	c.mu.Lock()
	c.inbox = append(c.inbox, m)
	c.mu.Unlock()
	select {
	case c.arrived <- struct{}{}:
	default:
	}
	return err
}

func (c *Client) acknowledge(id uint16, ack Ack) {
	c.mu.Lock()
	ch := c.waiting[id]
	delete(c.waiting, id)
	c.mu.Unlock()
	if ch != nil {
		ch <- ack
	}
}

// Write sends raw bytes.
func (c *Client) Write(b []byte) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.write(b)
}

// write sends b with mu held. A write that fails ends the connection.
func (c *Client) write(b []byte) error {
	_ = c.conn.SetWriteDeadline(time.Now().Add(writeTimeout))
	_, err := c.conn.Write(b)
	if err != nil {
		_ = c.conn.Close()
	}
	return err
}

// Publish sends m and, unless its QoS is 0, waits for the end of the exchange:
// PUBACK, PUBCOMP or a PUBREC with an error code.
func (c *Client) Publish(ctx context.Context, m Message) (Ack, error) {
	if m.QoS == 0 {
		return Ack{}, c.Write(AppendPublish(nil, c.o.version(), 0, m))
	}
	return c.exchange(ctx, func(id uint16) []byte { return AppendPublish(nil, c.o.version(), id, m) })
}

// Subscribe asks for QoS 1 and waits for the SUBACK. A refused filter is an
// error code in the Ack.
func (c *Client) Subscribe(ctx context.Context, filters ...string) (Ack, error) {
	return c.exchange(ctx, func(id uint16) []byte { return AppendSubscribe(nil, c.o.version(), id, filters...) })
}

// exchange sends a packet with a fresh identifier and waits for its answer.
func (c *Client) exchange(ctx context.Context, packet func(id uint16) []byte) (Ack, error) {
	ch := make(chan Ack, 1)
	c.mu.Lock()
	for {
		c.nextID++
		if _, taken := c.waiting[c.nextID]; c.nextID != 0 && !taken {
			break
		}
	}
	id := c.nextID
	c.waiting[id] = ch
	err := c.write(packet(id))
	c.mu.Unlock()
	if err != nil {
		<-c.done
		return Ack{}, c.Err()
	}
	select {
	case ack := <-ch:
		return ack, nil
	case <-ctx.Done():
		return Ack{}, fmt.Errorf("mqtttest: waiting for an acknowledgement: %w", ctx.Err())
	case <-c.done:
		select {
		case ack := <-ch:
			return ack, nil
		default:
			return Ack{}, c.Err()
		}
	}
}

// Receive returns the next message. Messages that arrived before the
// connection ended are returned before its error.
func (c *Client) Receive(ctx context.Context) (Message, error) {
	for {
		ended := false
		select {
		case <-c.done:
			ended = true
		default:
		}
		if m, ok := c.pop(); ok {
			return m, nil
		}
		if ended {
			return Message{}, c.Err()
		}
		select {
		case <-c.arrived:
		case <-c.done:
		case <-ctx.Done():
			return Message{}, fmt.Errorf("mqtttest: waiting for a message: %w", ctx.Err())
		}
	}
}

func (c *Client) pop() (Message, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.inbox) == 0 {
		return Message{}, false
	}
	m := c.inbox[0]
	c.inbox = c.inbox[1:]
	return m, true
}

// Done is closed when the connection has ended.
func (c *Client) Done() <-chan struct{} { return c.done }

// Err returns why the connection ended, nil while it stands.
func (c *Client) Err() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.err
}

// Close sends DISCONNECT and waits a moment until the server ends the
// connection, so that it has read all that was sent before.
func (c *Client) Close() {
	_ = c.Write([]byte{TypeDisconnect << 4, 0}) // the connection may have ended
	select {
	case <-c.done:
	case <-time.After(closeWait):
	}
	c.Abort()
}

// Abort ends the connection without DISCONNECT and waits for the reader.
func (c *Client) Abort() {
	_ = c.conn.Close()
	<-c.done
}
