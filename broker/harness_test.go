package broker_test

import (
	"context"
	"encoding/json"
	"errors"
	"net"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"

	"github.com/umbra-iot/umbra/broker"
	"github.com/umbra-iot/umbra/shadow"
	"github.com/umbra-iot/umbra/statestore"
	"github.com/umbra-iot/umbra/statestore/memstore"
	"github.com/umbra-iot/umbra/statestore/storetest"
	"github.com/umbra-iot/umbra/test/packetio"
	"github.com/umbra-iot/umbra/things"
)

// patience bounds every wait of these tests.
const patience = 10 * time.Second

// quiet is how long nothing may come where nothing has to.
const quiet = 100 * time.Millisecond

const (
	lamp     = "$aws/things/lamp/shadow/"
	update   = lamp + "update"
	accepted = update + "/accepted"
	rejected = update + "/rejected"
	delta    = update + "/delta"
)

// server is a broker with a shadow service on a store.
type server struct {
	*broker.Broker
	things *things.Service
	store  *storetest.Faulty
	addr   string
	served chan error
	stop   func() // once
}

// start runs a broker on a new memory store, which keeps everything that there is to keep.
func start(t *testing.T, o broker.Options) *server {
	t.Helper()
	return startOn(t, o, memstore.New(statestore.Options{}), true)
}

// startVolatile runs a broker whose sessions end with it.
func startVolatile(t *testing.T, o broker.Options) *server {
	t.Helper()
	return startOn(t, o, memstore.New(statestore.Options{}), false)
}

func startOn(t *testing.T, o broker.Options, base statestore.Store, durable bool) *server {
	t.Helper()
	store := storetest.NewFaulty(base)
	if durable {
		o.Store = store
	}
	b, err := broker.New(o)
	if err != nil {
		t.Fatal(err)
	}
	svc := things.New(things.Options{Store: store, Publisher: b})
	b.SetService(svc)
	if err := errors.Join(b.Restore(t.Context()), svc.Start(t.Context())); err != nil {
		t.Fatal(err)
	}
	b.Start()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &server{Broker: b, things: svc, store: store, addr: l.Addr().String(), served: make(chan error, 1)}
	go func() { s.served <- b.ServeTCP(l) }()
	s.stop = sync.OnceFunc(func() { s.end(t, true) })
	t.Cleanup(func() { s.stop() })
	return s
}

// end ends the server as a signal does.
func (s *server) end(t *testing.T, orderly bool) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), patience)
	defer cancel()
	err := errors.Join(s.Shutdown(ctx), <-s.served, s.things.Close(ctx))
	if !orderly {
		cancel()
	}
	if err := errors.Join(err, s.Close(ctx)); err != nil && orderly {
		t.Errorf("end of the server: %v", err)
	}
}

// kill ends the server so that nothing more gets into its store, and returns another one on the same store.
func (s *server) kill(t *testing.T, o broker.Options) *server {
	t.Helper()
	s.store.SetDown(errKilled)
	s.stop = func() {}
	s.end(t, false)
	return startOn(t, o, s.store.Store, true)
}

var errKilled = errors.New("the server was killed")

// raw is a client that does nothing by itself.
type raw struct {
	t    *testing.T
	conn *packetio.Conn
}

// connectOptions of raw.
type connectOptions struct {
	id      string
	version byte // default 5
	keep    bool // not a clean start
	expiry  uint32
	edit    func(*packets.Packet)
}

func (s *server) dial(t *testing.T, version byte) *raw {
	t.Helper()
	conn, err := net.Dial("tcp", s.addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return &raw{t, packetio.New(conn, version)}
}

// connect returns a client and its CONNACK.
func (s *server) tryConnect(t *testing.T, o connectOptions) (*raw, packets.Packet) {
	t.Helper()
	if o.version == 0 {
		o.version = 5
	}
	c := s.dial(t, o.version)
	pk := packets.Packet{
		FixedHeader: packets.FixedHeader{Type: packets.Connect}, ProtocolVersion: o.version,
		Connect: packets.ConnectParams{ProtocolName: []byte("MQTT"), ClientIdentifier: o.id, Clean: !o.keep},
	}
	if o.expiry > 0 {
		pk.Properties.SessionExpiryInterval, pk.Properties.SessionExpiryIntervalFlag = o.expiry, true
	}
	if o.edit != nil {
		o.edit(&pk)
	}
	c.send(pk)
	return c, c.want(packets.Connack)
}

func (s *server) connect(t *testing.T, o connectOptions) *raw {
	t.Helper()
	c, ack := s.tryConnect(t, o)
	if ack.ReasonCode != 0 {
		t.Fatalf("CONNACK = %#x, want 0", ack.ReasonCode)
	}
	return c
}

func (c *raw) encode(pk packets.Packet) []byte {
	c.t.Helper()
	b, err := c.conn.Encode(pk)
	if err != nil {
		c.t.Fatal(err)
	}
	return b
}

func (c *raw) send(pks ...packets.Packet) {
	c.t.Helper()
	if err := c.conn.Send(pks...); err != nil {
		c.t.Fatal(err)
	}
}

func (c *raw) write(b []byte) {
	c.t.Helper()
	if _, err := c.conn.Write(b); err != nil {
		c.t.Fatal(err)
	}
}

// next reads a packet.
func (c *raw) next(within time.Duration) (packets.Packet, error) { return c.conn.Receive(within) }

// want reads a packet, which has to be of a type.
func (c *raw) want(typ byte) packets.Packet {
	c.t.Helper()
	pk, err := c.next(patience)
	for err == nil && pk.FixedHeader.Type == packets.Pubrel && typ != packets.Pubrel {
		c.send(ackOf(packets.Pubcomp, pk.PacketID))
		pk, err = c.next(patience)
	}
	if err != nil {
		c.t.Fatalf("waiting for packet type %d: %v", typ, err)
	}
	if pk.FixedHeader.Type != typ {
		c.t.Fatalf("packet type %d (topic %q, payload %.200q, reason %#x), want type %d", pk.FixedHeader.Type, pk.TopicName, pk.Payload, pk.ReasonCode, typ)
	}
	return pk
}

// wantMessage reads a PUBLISH on a topic and acknowledges it.
func (c *raw) wantMessage(topic string) packets.Packet {
	c.t.Helper()
	pk := c.want(packets.Publish)
	if pk.TopicName != topic {
		c.t.Fatalf("message on %q (%s), want %q", pk.TopicName, pk.Payload, topic)
	}
	c.acknowledge(pk)
	return pk
}

func (c *raw) acknowledge(pk packets.Packet) {
	c.t.Helper()
	switch pk.FixedHeader.Qos {
	case 1:
		c.send(ackOf(packets.Puback, pk.PacketID))
	case 2:
		c.send(ackOf(packets.Pubrec, pk.PacketID)) // want ends the exchange
	}
}

// wantQuiet checks that nothing comes.
func (c *raw) wantQuiet() {
	c.t.Helper()
	pk, err := c.next(quiet)
	for err == nil && pk.FixedHeader.Type == packets.Pubrel {
		c.send(ackOf(packets.Pubcomp, pk.PacketID))
		pk, err = c.next(quiet)
	}
	if err == nil {
		c.t.Fatalf("packet type %d (topic %q, payload %.200q), want silence", pk.FixedHeader.Type, pk.TopicName, pk.Payload)
	}
	if ne := net.Error(nil); !errors.As(err, &ne) || !ne.Timeout() {
		c.t.Fatalf("connection ended (%v), want silence", err)
	}
}

// wantEnd checks that the connection ends, in MQTT 5 with a DISCONNECT of that code (0: without).
func (c *raw) wantEnd(code byte) {
	c.t.Helper()
	if c.conn.Version() == 5 && code != 0 {
		if pk := c.want(packets.Disconnect); pk.ReasonCode != code {
			c.t.Fatalf("DISCONNECT = %#x, want %#x", pk.ReasonCode, code)
		}
	}
	if pk, err := c.next(patience); err == nil {
		c.t.Fatalf("packet type %d (topic %q), want the end of the connection", pk.FixedHeader.Type, pk.TopicName)
	} else if ne := net.Error(nil); errors.As(err, &ne) && ne.Timeout() {
		c.t.Fatal("connection stands, want its end")
	}
}

func (c *raw) subscribe(qos byte, filters ...string) {
	c.t.Helper()
	pk := packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Subscribe}, PacketID: 65000}
	for _, f := range filters {
		pk.Filters = append(pk.Filters, packets.Subscription{Filter: f, Qos: qos})
	}
	c.send(pk)
	ack := c.want(packets.Suback)
	for i, code := range ack.ReasonCodes {
		if code != qos {
			c.t.Fatalf("SUBACK for %q = %#x, want %d", filters[i], code, qos)
		}
	}
}

// ping waits until the server has handled everything sent before.
func (c *raw) ping() {
	c.t.Helper()
	c.send(packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Pingreq}})
	c.want(packets.Pingresp)
}

// leave disconnects and waits until the server has noticed.
func (c *raw) leave() {
	c.t.Helper()
	c.send(packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Disconnect}})
	c.conn.AwaitEnd()
}

func message(topic, payload string, qos byte, id uint16) packets.Packet {
	return packets.Packet{
		FixedHeader: packets.FixedHeader{Type: packets.Publish, Qos: qos}, TopicName: topic, Payload: []byte(payload), PacketID: id,
	}
}

func ackOf(typ byte, id uint16) packets.Packet {
	return packets.Packet{FixedHeader: packets.FixedHeader{Type: typ}, PacketID: id}
}

// do changes the shadow behind the broker's back.
func (s *server) do(t *testing.T, body string) *things.Result {
	t.Helper()
	r := s.things.Do(t.Context(), things.Request{ID: shadow.ID{Thing: "lamp"}, Op: shadow.OpUpdate, Payload: []byte(body)})
	if r.Err != nil {
		t.Fatalf("update %s: %v", body, r.Err)
	}
	return r
}

// field returns a member of a JSON object.
func field[T any](t *testing.T, body []byte, name string) T {
	t.Helper()
	var m map[string]json.RawMessage
	if err := json.Unmarshal(body, &m); err != nil {
		t.Fatalf("%v in %s", err, body)
	}
	var v T
	if err := json.Unmarshal(m[name], &v); err != nil {
		t.Fatalf("%s: %v in %s", name, err, body)
	}
	return v
}

// eventually waits for a condition.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !ok(); {
		if time.Now().After(end) {
			t.Fatalf("%s: not within %v", what, patience)
		}
		runtime.Gosched()
		<-time.After(time.Millisecond)
	}
}

// goroutinesOf counts goroutines that run code of the broker.
func goroutinesOf(pkg string) int {
	buf := make([]byte, 1<<20)
	n := 0
	for g := range strings.SplitSeq(string(buf[:runtime.Stack(buf, true)]), "\n\n") {
		if strings.Contains(g, pkg) {
			n++
		}
	}
	return n
}
