package mqtt_test

import (
	"context"
	"errors"
	"net"
	"slices"
	"testing"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"

	"github.com/umbra-iot/umbra/broker"
	"github.com/umbra-iot/umbra/internal/auth"
	"github.com/umbra-iot/umbra/statestore"
	"github.com/umbra-iot/umbra/statestore/memstore"
	"github.com/umbra-iot/umbra/test/packetio"
	"github.com/umbra-iot/umbra/things"
)

// patience bounds every wait of these tests.
const patience = 20 * time.Second

// The versions of MQTT.
const (
	v311 = 4
	v5   = 5
)

// inBoth runs a test in both versions.
func inBoth(t *testing.T, test func(t *testing.T, version byte)) {
	t.Helper()
	for name, version := range map[string]byte{"3.1.1": v311, "5": v5} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, version)
		})
	}
}

// server is a broker on a memory store, with a shadow service.
type server struct {
	*broker.Broker
	addr string
}

func start(t *testing.T, o broker.Options) *server {
	t.Helper()
	store := memstore.New(statestore.Options{})
	o.Store = store
	b, err := broker.New(o)
	if err != nil {
		t.Fatal(err)
	}
	service := things.New(things.Options{Store: store, Publisher: b})
	b.SetService(service)
	if err := errors.Join(b.Restore(t.Context()), service.Start(t.Context())); err != nil {
		t.Fatal(err)
	}
	b.Start()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- b.ServeTCP(l) }()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), patience)
		defer cancel()
		if err := errors.Join(b.Shutdown(ctx), <-served, service.Close(ctx), b.Close(ctx)); err != nil {
			t.Errorf("shutdown: %v", err)
		}
	})
	return &server{b, l.Addr().String()}
}

// client speaks MQTT and acknowledges what it gets, unless hold is set.
type client struct {
	t       *testing.T
	conn    *packetio.Conn
	connack packets.Packet
	hold    bool             // PUBLISH packets are not acknowledged
	inbox   []packets.Packet // PUBLISH packets that came while the client waited for something else
	nextID  uint16
}

// connect connects with a clean session, unless the options say otherwise.
func (s *server) connect(t *testing.T, version byte, id string, options ...func(*packets.Packet)) *client {
	t.Helper()
	c := s.tryConnect(t, version, id, options...)
	if c.connack.ReasonCode != 0 {
		t.Fatalf("CONNACK to %q = %#x, want 0", id, c.connack.ReasonCode)
	}
	return c
}

// tryConnect is connect without a look at the reason code.
func (s *server) tryConnect(t *testing.T, version byte, id string, options ...func(*packets.Packet)) *client {
	t.Helper()
	c := s.dial(t, version)
	pk := packets.Packet{
		FixedHeader: packets.FixedHeader{Type: packets.Connect},
		Connect:     packets.ConnectParams{ProtocolName: []byte("MQTT"), ClientIdentifier: id, Clean: true},
	}
	for _, o := range options {
		o(&pk)
	}
	c.send(pk)
	c.connack = c.await(packets.Connack)
	return c
}

// dial opens a connection without a CONNECT packet.
func (s *server) dial(t *testing.T, version byte) *client {
	t.Helper()
	conn, err := new(net.Dialer).DialContext(t.Context(), "tcp", s.addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return &client{t: t, conn: packetio.New(conn, version)}
}

// persistent asks for a session that stays, and for the one that there is.
func persistent(pk *packets.Packet) {
	pk.Connect.Clean = false
	pk.Properties.SessionExpiryInterval, pk.Properties.SessionExpiryIntervalFlag = 3600, true
}

// expiring asks for a session that outlives its connection for so many seconds.
func expiring(seconds uint32) func(*packets.Packet) {
	return func(pk *packets.Packet) {
		pk.Connect.Clean = false
		pk.Properties.SessionExpiryInterval, pk.Properties.SessionExpiryIntervalFlag = seconds, true
	}
}

// receiveMaximum is how many messages the client takes at a time.
func receiveMaximum(n uint16) func(*packets.Packet) {
	return func(pk *packets.Packet) { pk.Properties.ReceiveMaximum = n }
}

// maximumPacketSize is the largest packet that the client takes.
func maximumPacketSize(n uint32) func(*packets.Packet) {
	return func(pk *packets.Packet) { pk.Properties.MaximumPacketSize = n }
}

// willOn leaves a will of QoS 1.
func willOn(topic, payload string) func(*packets.Packet) {
	return func(pk *packets.Packet) {
		c := &pk.Connect
		c.WillFlag, c.WillTopic, c.WillPayload, c.WillQos = true, topic, []byte(payload), 1
	}
}

// willDelayed leaves a will with a delay in seconds.
func willDelayed(topic, payload string, delay uint32) func(*packets.Packet) {
	return func(pk *packets.Packet) {
		willOn(topic, payload)(pk)
		pk.Connect.WillProperties.WillDelayInterval = delay
	}
}

func (c *client) encode(pk packets.Packet) []byte {
	c.t.Helper()
	b, err := c.conn.Encode(pk)
	if err != nil {
		c.t.Fatal(err)
	}
	return b
}

func (c *client) send(pks ...packets.Packet) {
	c.t.Helper()
	if err := c.conn.Send(pks...); err != nil {
		c.t.Fatal(err)
	}
}

func (c *client) write(b []byte) {
	c.t.Helper()
	if _, err := c.conn.Write(b); err != nil {
		c.t.Fatal(err)
	}
}

// read reads a packet.
func (c *client) read(within time.Duration) (packets.Packet, error) { return c.conn.Receive(within) }

// next reads a packet, and does what a client does with a PUBLISH or PUBREL that comes before.
func (c *client) next(within time.Duration) (packets.Packet, error) {
	c.t.Helper()
	for {
		pk, err := c.read(within)
		switch {
		case err != nil:
			return pk, err
		case pk.FixedHeader.Type == packets.Publish:
			c.inbox = append(c.inbox, pk)
			if !c.hold {
				c.acknowledge(pk)
			}
		case pk.FixedHeader.Type == packets.Pubrel && !c.hold:
			c.send(ack(packets.Pubcomp, pk.PacketID))
		default:
			return pk, nil
		}
	}
}

func (c *client) acknowledge(pk packets.Packet) {
	c.t.Helper()
	switch pk.FixedHeader.Qos {
	case 1:
		c.send(ack(packets.Puback, pk.PacketID))
	case 2:
		c.send(ack(packets.Pubrec, pk.PacketID))
	}
}

// await waits for a packet of a type; PUBLISH packets on the way go to the inbox.
func (c *client) await(typ byte) packets.Packet {
	c.t.Helper()
	pk, err := c.next(patience)
	if err != nil {
		c.t.Fatalf("waiting for packet type %d: %v", typ, err)
	}
	if pk.FixedHeader.Type != typ {
		c.t.Fatalf("packet type %d with reason %#x, want type %d", pk.FixedHeader.Type, pk.ReasonCode, typ)
	}
	return pk
}

// receive returns the next message.
func (c *client) receive() packets.Packet {
	c.t.Helper()
	for len(c.inbox) == 0 {
		pk, err := c.read(patience)
		switch {
		case err != nil:
			c.t.Fatalf("waiting for a message: %v", err)
		case pk.FixedHeader.Type == packets.Publish:
			c.inbox = append(c.inbox, pk)
			if !c.hold {
				c.acknowledge(pk)
			}
		case pk.FixedHeader.Type == packets.Pubrel && !c.hold:
			c.send(ack(packets.Pubcomp, pk.PacketID))
		default:
			c.t.Fatalf("packet type %d with reason %#x, want a message", pk.FixedHeader.Type, pk.ReasonCode)
		}
	}
	pk := c.inbox[0]
	c.inbox = c.inbox[1:]
	return pk
}

// wantMessages checks that messages with these payloads come, in this order, and no others.
func (c *client) wantMessages(payloads ...string) []packets.Packet {
	c.t.Helper()
	got := make([]packets.Packet, len(payloads))
	for i, want := range payloads {
		got[i] = c.receive()
		if string(got[i].Payload) != want {
			c.t.Fatalf("message %d is %q on %q, want %q", i, got[i].Payload, got[i].TopicName, want)
		}
	}
	c.wantNone()
	return got
}

// wantMessage is wantMessages for one message.
func (c *client) wantMessage(payload string) packets.Packet {
	c.t.Helper()
	return c.wantMessages(payload)[0]
}

// wantNone checks that no message is on its way: what was published before the
// PINGREQ would come before the PINGRESP.
func (c *client) wantNone() {
	c.t.Helper()
	c.ping()
	if len(c.inbox) > 0 {
		c.t.Fatalf("message %q on %q, want none", c.inbox[0].Payload, c.inbox[0].TopicName)
	}
}

func (c *client) ping() {
	c.t.Helper()
	c.send(packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Pingreq}})
	c.await(packets.Pingresp)
}

// wantEnd checks that the server ends the connection, and tells a client of MQTT 5 this code (0: nothing).
func (c *client) wantEnd(code byte) {
	c.t.Helper()
	if c.conn.Version() == v5 && code != 0 {
		if pk := c.await(packets.Disconnect); pk.ReasonCode != code {
			c.t.Fatalf("DISCONNECT = %#x, want %#x", pk.ReasonCode, code)
		}
	}
	pk, err := c.next(patience)
	if err == nil {
		c.t.Fatalf("packet type %d with reason %#x, want the end of the connection", pk.FixedHeader.Type, pk.ReasonCode)
	}
	if timeout := net.Error(nil); errors.As(err, &timeout) && timeout.Timeout() {
		c.t.Fatal("the connection stands, want its end")
	}
}

// subscribe subscribes to filters, which have to be granted.
func (c *client) subscribe(qos byte, filters ...string) {
	c.t.Helper()
	subscriptions := make([]packets.Subscription, len(filters))
	for i, f := range filters {
		subscriptions[i] = packets.Subscription{Filter: f, Qos: qos}
	}
	for i, code := range c.subscribeWith(packets.Properties{}, subscriptions...) {
		if code != qos {
			c.t.Fatalf("SUBACK for %q = %#x, want %d", filters[i], code, qos)
		}
	}
}

// subscribeWith returns the codes of the SUBACK.
func (c *client) subscribeWith(p packets.Properties, subscriptions ...packets.Subscription) []byte {
	c.t.Helper()
	id := c.id()
	c.send(packets.Packet{
		FixedHeader: packets.FixedHeader{Type: packets.Subscribe}, PacketID: id, Properties: p, Filters: subscriptions,
	})
	pk := c.await(packets.Suback)
	if pk.PacketID != id || len(pk.ReasonCodes) != len(subscriptions) {
		c.t.Fatalf("SUBACK of packet %d with %d codes, want packet %d with %d", pk.PacketID, len(pk.ReasonCodes), id, len(subscriptions))
	}
	return pk.ReasonCodes
}

// unsubscribe returns the codes of the UNSUBACK, of which there are none in MQTT 3.1.1.
func (c *client) unsubscribe(filters ...string) []byte {
	c.t.Helper()
	pk := packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Unsubscribe}, PacketID: c.id()}
	for _, f := range filters {
		pk.Filters = append(pk.Filters, packets.Subscription{Filter: f})
	}
	c.send(pk)
	back := c.await(packets.Unsuback)
	if back.PacketID != pk.PacketID {
		c.t.Fatalf("UNSUBACK of packet %d, want %d", back.PacketID, pk.PacketID)
	}
	return back.ReasonCodes
}

func (c *client) id() uint16 {
	c.nextID++
	return c.nextID
}

// publish publishes and waits for the end of the exchange, with success.
func (c *client) publish(topic, payload string, qos byte, options ...func(*packets.Packet)) {
	c.t.Helper()
	if code := c.publishWith(topic, payload, qos, options...); code >= 0x80 {
		c.t.Fatalf("publish on %q: %#x, want success", topic, code)
	}
}

// publishWith returns the reason code of the exchange.
func (c *client) publishWith(topic, payload string, qos byte, options ...func(*packets.Packet)) byte {
	c.t.Helper()
	pk := message(topic, payload, qos, 0)
	if qos > 0 {
		pk.PacketID = c.id()
	}
	for _, o := range options {
		o(&pk)
	}
	c.send(pk)
	switch qos {
	case 0:
		c.ping()
		return 0
	case 1:
		return c.await(packets.Puback).ReasonCode
	}
	if rec := c.await(packets.Pubrec); rec.ReasonCode >= 0x80 {
		return rec.ReasonCode
	}
	c.send(ack(packets.Pubrel, pk.PacketID))
	return c.await(packets.Pubcomp).ReasonCode
}

func retained(pk *packets.Packet) { pk.FixedHeader.Retain = true }

// expiringIn sets the message expiry in seconds.
func expiringIn(seconds uint32) func(*packets.Packet) {
	return func(pk *packets.Packet) { pk.Properties.MessageExpiryInterval = seconds }
}

// leave sends DISCONNECT and waits for the end.
func (c *client) leave() {
	c.t.Helper()
	c.send(packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Disconnect}})
	c.wantEnd(0)
}

// vanish cuts the connection.
func (c *client) vanish() { _ = c.conn.Close() }

func message(topic, payload string, qos byte, id uint16) packets.Packet {
	return packets.Packet{
		FixedHeader: packets.FixedHeader{Type: packets.Publish, Qos: qos}, TopicName: topic, Payload: []byte(payload), PacketID: id,
	}
}

func ack(typ byte, id uint16) packets.Packet {
	return packets.Packet{FixedHeader: packets.FixedHeader{Type: typ}, PacketID: id}
}

func payloads(pks []packets.Packet) []string {
	out := make([]string, len(pks))
	for i, pk := range pks {
		out[i] = string(pk.Payload)
	}
	return out
}

// sorted returns the payloads of n messages, sorted.
func (c *client) sorted(n int) []string {
	c.t.Helper()
	got := make([]packets.Packet, n)
	for i := range got {
		got[i] = c.receive()
	}
	out := payloads(got)
	slices.Sort(out)
	return out
}

// eventually waits for a condition.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(patience); !ok(); <-tick.C {
		if time.Now().After(end) {
			t.Fatalf("%s: not within %v", what, patience)
		}
	}
}

// allow makes a function, of action and name, a guard.
type allow func(a auth.Action, name string) bool

func (f allow) Rights(*auth.Principal, auth.Link) auth.Rights { return f }
func (allow) Timed(auth.Action) bool                          { return false }
func (f allow) Allows(a auth.Action, name string) bool        { return f(a, name) }
func (f allow) Shows(a auth.Action, name string) bool         { return f(a, name) }
